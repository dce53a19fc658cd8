// The command line: zeusd policy check and explain.
import { describe, expect, it } from "vitest";
import { alice, rule, uids, createFile, createPolicy, startWith, createNames } from "./governed.ts";
import { isRoot } from "./ordinary-user.ts";
import { startZeusd, type StartOptions } from "./zeusd.ts";

describe("zeusd policy", () => {
  async function run(args: readonly string[], options: StartOptions = {}) {
    const child = startZeusd(["policy", ...args], options);
    const { code } = await child.exit;
    return { code, stdout: child.stdout(), stderr: child.stderr() };
  }
  const bounded = rule(
    "bounded",
    'users = ["alice"]',
    ["gpu-control"],
    "[[rule.bounds]]\npower_limit_mw = { max = 250000 }",
  );

  it("check prints the rules of a good file with their names resolved, and ends with 0", async () => {
    const path = createPolicy(`${bounded}${rule("tokens", 'tokens = ["svc-*"]', ["gpu-read"])}`);
    const { code, stdout, stderr } = await run(["check", path], { env: createNames().settings });
    expect([code, stderr]).toEqual([0, ""]);
    const [head, ...lines] = stdout.trimEnd().split("\n");
    expect(head).toContain(`${path} can be used`);
    expect(lines.map((line) => [line.split(":", 1)[0], JSON.parse(line.replace(/^.*?: /, ""))])).toEqual([
      [
        "line 1",
        {
          rule: "bounded",
          allow: ["gpu-control"],
          gpus: "all",
          bounds: [{ power_limit_mw: { max: 250_000 } }],
          who: { uids: [alice.uid] },
        },
      ],
      ["line 7", { rule: "tokens", allow: ["gpu-read"], gpus: "all", who: { tokens: ["svc-*"] } }],
    ]);
  });

  it("check names everything that is wrong with a file, and ends with 1", async () => {
    const path = createPolicy('[[rule]]\nname = "a"\nusers = ["mallory"]\nallow = ["all"]\nrate = { burst = 0 }\n');
    const { code, stdout, stderr } = await run(["check", path], { env: createNames().settings });
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr.trimEnd().split("\n")).toEqual([
      `Error: Cannot use the policy file '${path}':`,
      expect.stringMatching(/^ {2}line 3, rule\.users: there is no user "mallory"/),
      expect.stringMatching(/^ {2}line 4, rule\.allow: there is no "all"/),
      expect.stringMatching(/^ {2}line 5, rule\.rate\.(burst|writes_per_second): /),
      expect.stringMatching(/^ {2}line 5, rule\.rate\.(burst|writes_per_second): /),
    ]);
    expect(await run(["check", "/nowhere"])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^Error: .*os error 2/),
    });
    expect(await run(["check", createFile("policy", bounded, 0o666)])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("everyone can write to it"),
    });
  });

  it.each([
    [["check"]],
    [["check", "a", "b"]],
    [["check", "--quickly", "a"]],
    [["explain"]],
    [["explain", "--operation", "set_power_limit", "--uid", "-1"]],
    [["explain", "--operation", "set_power_limit", "--uid", "1", "--user", "a"]],
    [["explain", "--operation", "set_power_limit", "--power-limit-mw", "much"]],
    [["forbid"]],
  ])("%j is a usage error, and ends with 2", async (args) => {
    const { code, stdout, stderr } = await run(args);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(/^error: /);
  });

  it("explain says of a file which rule decides and why: 0 for yes, 3 for no, 1 for what cannot be answered", async () => {
    const path = createPolicy(bounded + rule("late", 'users = ["alice"]', ["gpu-read"]));
    const env = createNames().settings;
    const ask = (...more: readonly string[]) =>
      run(["explain", "--policy", path, "--operation", "set_power_limit", ...more], { env });
    const yes = await ask("--user", "alice", "--power-limit-mw", "250000");
    expect(yes).toMatchObject({ code: 0, stderr: "" });
    expect(yes.stdout).toBe(
      `set_power_limit on GPU 0 for uid ${alice.uid}: allowed by rule "bounded"\n` +
        '  line 1, rule "bounded": it decides\n  line 7, rule "late": not looked at any more\n',
    );
    const tooMuch = await ask("--uid", String(alice.uid), "--power-limit-mw", "250001");
    expect(tooMuch).toMatchObject({ code: 3, stderr: "" });
    expect(tooMuch.stdout).toMatch(/^set_power_limit on GPU 0 for uid \d+: refused: .*250001 is above 250000/);
    const nobody = await ask("--uid", "34009", "--power-limit-mw", "250000");
    expect(nobody).toMatchObject({
      code: 3,
      stdout: expect.stringContaining("no rule of the policy is for uid 34009"),
    });
    expect(await ask("--token", "svc-1", "--power-limit-mw", "1")).toMatchObject({ code: 3 });

    for (const [more, text] of [
      [["--user", "mallory", "--power-limit-mw", "1"], "There is no user 'mallory'"],
      [["--uid", "1"], "set_power_limit needs --power-limit-mw"],
      [["--gid", "1", "--power-limit-mw", "1"], "--gid says nothing without --uid"],
    ] as const) {
      expect(await ask(...more)).toMatchObject({
        code: 1,
        stdout: "",
        stderr: expect.stringMatching(`^Error: .*${text}`),
      });
    }
    const unknown = ["explain", "--policy", path, "--operation", "set_everything", "--uid", "1"];
    expect(await run(unknown)).toMatchObject({ code: 1, stderr: expect.stringContaining("set_everything") });
  });

  it("explain asks the daemon that runs what its policy says (as root; else it is told that it may not)", async () => {
    const bounds = "[[rule.bounds]]\npower_limit_mw = { max = 250000 }";
    const { address } = await startWith(rule("bounded", uids(alice), ["gpu-control"], bounds));
    const ask = (mw: number) => {
      const who = ["--uid", String(alice.uid), "--power-limit-mw", String(mw)];
      return run(["explain", "--socket-path", address, "--operation", "set_power_limit", ...who]);
    };
    const [yes, no] = [await ask(250_000), await ask(250_001)];
    if (isRoot) {
      expect(yes).toMatchObject({ code: 0, stderr: "" });
      expect(yes.stdout.match(/^set_power_limit on GPU [01] for uid \d+: allowed by rule "bounded"$/gm)).toHaveLength(
        2,
      );
      expect(no).toMatchObject({ code: 3, stdout: expect.stringContaining("250001 is above 250000") });
    } else {
      for (const { code, stderr } of [yes, no])
        expect([code, stderr]).toEqual([1, expect.stringContaining("Only root")]);
    }
    const nobody = ["explain", "--socket-path", "/nowhere/socket", "--operation", "set_power_limit", "--uid", "1"];
    expect(await run([...nobody, "--power-limit-mw", "1"])).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/^Error: Cannot ask the daemon at '\/nowhere\/socket'/),
    });
  });
});
