// `zeusd policy`: whether a file can be used, and which rule decides a question, asked of a file or of a running daemon.
import { chmodSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { checkPolicy, explainPolicy, type PolicyCommandParts } from "../../src/cli/policy.ts";
import type { ExplainFlags } from "../../src/cli/policy-options.ts";
import { allOperations } from "../../src/contract/operations.ts";
import { createFolder } from "../folder.ts";
import { createFakeMachine } from "../http/fake-machine.ts";
import { startOnSocket } from "../http/socket-daemon.ts";
import { parametersFor } from "../parameters.ts";
import { run, usageError, type Outcome } from "./subject.ts";

const text = `# Who may do what.
[[rule]]
name = "trainers"
users = ["anna"]
groups = ["trainers"]
allow = ["set_power_limit", "gpu-read"]
gpus = [0, "GPU-00000000-0000-0000-0000-000000000001"]
bounds = [{ models = ["NVIDIA H100*"], power_limit_mw = { min = 100000, max = 300000 } }]
rate = { writes_per_second = 5 }

[[rule]]
name = "robots"
tokens = ["ci-*"]
allow = ["gpu/get_power", "set_persistence_mode"]

[[rule]]
name = "root"
uids = [0]
allow = ["gpu-control", "gpu-read", "cpu-read"]
`;

/** Anna is in two groups, one of them by her account. */
const people: PolicyCommandParts["people"] = {
  user: async (name) => ({ anna: { uid: 1000, gid: 100 }, berta: { uid: 1001, gid: 101 } })[name],
  group: async (name) => ({ trainers: 500, users: 100 })[name],
  groupsOf: async (name) => (name === "anna" ? [100, 500] : []),
};

let folder: string;

beforeEach(() => {
  folder = createFolder();
});

function createPolicy(content = text): string {
  const path = join(folder, "policy.toml");
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

/** Runs a command line as main.ts does, but with these people. */
function zeusd(argv: readonly string[], over: Partial<PolicyCommandParts> = {}): Promise<Outcome> {
  return run(["policy", ...argv], {
    programs: (stdout) => {
      const parts = { people, euid: process.geteuid?.() ?? 0, stdout, ...over };
      return {
        checkPolicy: (path) => checkPolicy(path, parts),
        explainPolicy: (flags) => explainPolicy(flags, parts),
      };
    },
  });
}

const failed = (stderr: unknown): Outcome => ({ code: 1, stdout: "", stderr: stderr as string });

describe("zeusd policy check", () => {
  it("prints the rules with their lines and with names resolved, and ends with 0", async () => {
    const path = createPolicy();
    const { code, stdout, stderr } = await zeusd(["check", path]);
    expect([code, stderr]).toEqual([0, ""]);
    const [title, ...lines] = stdout.split("\n");
    expect(title).toBe(`${path} can be used; its rules, in the order in which they are looked at:`);
    const rules = lines.slice(0, -1).map((line) => /^line (\d+): (.*)$/.exec(line)?.slice(1) ?? []);
    expect(rules.map(([line]) => line)).toEqual(["2", "11", "16"]);
    expect(rules.map(([, rule]) => JSON.parse(String(rule)) as unknown)).toEqual([
      {
        rule: "trainers",
        who: { uids: [1000], gids: [500] },
        allow: ["set_power_limit", "gpu-read"],
        gpus: [0, "GPU-00000000-0000-0000-0000-000000000001"],
        bounds: [{ models: ["NVIDIA H100*"], power_limit_mw: { min: 100_000, max: 300_000 } }],
        rate: { writes_per_second: 5, burst: 5 },
      },
      { rule: "robots", who: { tokens: ["ci-*"] }, allow: ["gpu/get_power", "set_persistence_mode"], gpus: "all" },
      { rule: "root", who: { uids: [0] }, allow: ["gpu-control", "gpu-read", "cpu-read"], gpus: "all" },
    ]);
  });

  it("says of a rule for everyone that it is for anyone", async () => {
    const path = createPolicy('[[rule]]\nname = "all"\nanyone = true\nallow = ["gpu-read"]\n');
    expect((await zeusd(["check", path])).stdout).toContain('"who":{"anyone":true}');
  });

  it("says all that is wrong with a file, a line for each, in their order, and ends with 1", async () => {
    const path = createPolicy(`[[rule]]
name = "a"
users = ["nobody here"]
allow = ["set_power"]
rate = { writes_per_second = 0 }

[[rule]]
name = "a"
uids = [0]
allow = ["gpu-read"]
gpu = [0]
`);
    const { code, stdout, stderr } = await zeusd(["check", path]);
    expect([code, stdout]).toEqual([1, ""]);
    const [title, ...problems] = stderr.split("\n").slice(0, -1);
    expect(title).toBe(`Error: Cannot use the policy file '${path}':`);
    expect(problems).toEqual([
      '  line 3, rule.users: there is no user "nobody here"; correct or remove it',
      expect.stringMatching(/^ {2}line 4, rule\.allow: there is no "set_power"; give API groups/),
      "  line 5, rule.rate.writes_per_second: it must be a number from 0.001 to 1000000",
      "  line 8, rule.name: the rule at line 1 has it as well",
      expect.stringMatching(/^ {2}line 11, rule\.gpu: it is not known here; there are /),
    ]);
  });

  it("says where a file is no TOML", async () => {
    const path = createPolicy('[[rule]]\nname = "a\n');
    expect(await zeusd(["check", path])).toEqual(
      failed(expect.stringMatching(new RegExp(`^Error: Cannot use the policy file '${path}':\n  line 2: [^\n]+\n$`))),
    );
  });

  it("says what is wrong where a file is missing, empty, no file, or anybody's to change", async () => {
    const missing = join(folder, "missing");
    expect(await zeusd(["check", missing])).toEqual(
      failed(`Error: Cannot use the policy file '${missing}': No such file or directory (os error 2)\n`),
    );
    expect(await zeusd(["check", folder])).toEqual(
      failed(`Error: Cannot use the policy file '${folder}': it is no regular file\n`),
    );
    const path = createPolicy();
    chmodSync(path, 0o602);
    expect(await zeusd(["check", path])).toEqual(
      failed(`Error: Cannot use the policy file '${path}': everyone can write to it; chmod o-w it\n`),
    );
    expect((await zeusd(["check", createPolicy("")])).stderr).toContain("everyone can write to it");
    chmodSync(path, 0o600);
    expect(await zeusd(["check", createPolicy("")])).toEqual(failed(expect.stringContaining("there is no [[rule]]")));
  });

  it("says of whom a name could not be looked up, and why", async () => {
    const slow = { ...people, group: () => Promise.reject(new Error("the name service did not answer within 5 s")) };
    const path = createPolicy();
    expect(await zeusd(["check", path], { people: slow })).toEqual(
      failed(
        `Error: Cannot use the policy file '${path}':\n  line 5, rule.groups: the name service did not answer within 5 s\n`,
      ),
    );
  });

  it.each([[[]], [["a", "b"]], [["a", "--policy", "b"]], [["--socket-path", "s"]]])(
    "%j is a usage error, and ends with 2",
    async (argv) => {
      expect(await zeusd(["check", ...argv])).toEqual(usageError());
    },
  );
});

describe("zeusd policy explain --policy", () => {
  const limit = ["--operation", "set_power_limit", "--power-limit-mw"];
  const h100 = ["--gpu-model", "NVIDIA H100 80GB HBM3"];
  const explain = (...argv: readonly string[]): Promise<Outcome> =>
    zeusd(["explain", "--policy", createPolicy(), ...argv]);

  it("says which rule allows it, what became of each rule, and ends with 0", async () => {
    expect(await explain(...limit, "200000", "--user", "anna", ...h100)).toEqual({
      code: 0,
      stdout: `set_power_limit on GPU 0 for uid 1000: allowed by rule "trainers"
  line 2, rule "trainers": it decides
  line 11, rule "robots": not looked at any more
  line 16, rule "root": not looked at any more
`,
      stderr: "",
    });
  });

  it("says which rule says no and why, and ends with 3", async () => {
    expect(await explain(...limit, "300001", "--user", "anna", ...h100)).toEqual({
      code: 3,
      stdout: expect.stringContaining(
        'set_power_limit on GPU 0 for uid 1000: refused: power_limit_mw 300001 is above 300000, the most that rule "trainers" allows on GPU 0\n' +
          '  line 2, rule "trainers": it decides\n',
      ),
      stderr: "",
    });
  });

  it("says that no rule is for somebody, and ends with 3", async () => {
    expect(await explain(...limit, "200000", "--uid", "7")).toEqual({
      code: 3,
      stdout: `set_power_limit on GPU 0 for uid 7: refused: no rule of the policy is for uid 7
  line 2, rule "trainers": it is for others
  line 11, rule "robots": it is for others
  line 16, rule "root": it is for others
`,
      stderr: "",
    });
  });

  /** Who asks, and the rule that decides, or none. */
  it.each([
    [["--user", "anna"], "trainers"],
    [["--user", "berta"], undefined],
    [["--uid", "1000"], "trainers"],
    [["--uid", "7", "--gid", "500"], "trainers"],
    [["--uid", "7", "--gid", "1", "--gid", "500"], "trainers"],
    [["--uid", "7", "--gid", "1,500"], "trainers"],
    [["--uid=7", "--gid=501"], undefined],
    // A uid is no gid.
    [["--uid", "500"], undefined],
    [["--uid", "0"], "root"],
    [["--uid", "7", "--token", "ci-1"], undefined],
    [[], undefined],
  ])("%j asks as that person", async (who, rule) => {
    const { code, stdout } = await explain(...limit, "200000", ...h100, ...who);
    expect(code).toBe(rule === undefined ? 3 : 0);
    if (rule !== undefined) expect(stdout).toContain(`allowed by rule "${rule}"`);
  });

  it("asks as the bearer of a token, alone or beside a person", async () => {
    const mode = ["--operation", "set_persistence_mode", "--enabled", "true"];
    expect((await explain(...mode, "--token", "ci-1")).stdout).toContain(
      "set_persistence_mode on GPU 0 for token subject 'ci-1': allowed by rule \"robots\"",
    );
    expect((await explain(...mode, "--token", "ci-1", "--uid", "7")).stdout).toContain(
      "for uid 7 with token subject 'ci-1': allowed by rule \"robots\"",
    );
    expect((await explain(...mode, "--token", "xci-1")).code).toBe(3);
  });

  it("knows a GPU by its id, its UUID and its PCI address, and bounds by its model", async () => {
    const anna = [...limit, "200000", "--user", "anna"];
    expect((await explain(...anna, "--gpu", "1", ...h100)).code).toBe(3);
    const uuid = ["--gpu-uuid", "GPU-00000000-0000-0000-0000-000000000001"];
    expect((await explain(...anna, "--gpu", "1", ...uuid, ...h100)).stdout).toContain("on GPU 1 for uid 1000: allowed");
    expect((await explain(...anna, "--gpu-model", "NVIDIA A100")).stdout).toContain(
      'refused: rule "trainers" has bounds for power_limit_mw, but none for NVIDIA A100, which GPU 0 is',
    );
    const path = createPolicy('[[rule]]\nname = "pci"\nuids = [1]\nallow = ["gpu-read"]\ngpus = ["0000:41:00.0"]\n');
    const pci = ["explain", "--policy", path, "--operation", "get_power_limit", "--uid", "1", "--gpu-pci-address"];
    expect((await zeusd([...pci, "00000000:41:00.0"])).code).toBe(0);
    expect((await zeusd([...pci, "0000:42:00.0"])).code).toBe(3);
  });

  it("answers for every operation, each with its own parameters", async () => {
    for (const row of allOperations) {
      const { device, name } = row;
      const values = Object.entries(parametersFor(row)).map(([key, value]) => `--${key.replaceAll("_", "-")}=${value}`);
      const { code, stdout } = await explain("--operation", `${device}/${name}`, "--uid", "0", ...values);
      expect([code, stdout.split("\n")[0]]).toEqual([
        0,
        `${name} on ${device.toUpperCase()} 0 for uid 0: allowed by rule "root"`,
      ]);
      if (values.length === 0) continue;
      expect(await explain("--operation", `${device}/${name}`, "--uid", "0", ...values.slice(1))).toEqual(
        failed(expect.stringMatching(new RegExp(`^Error: ${name} needs --[a-z-]+\n$`))),
      );
    }
  });

  it("takes true and false for a parameter that is one of both", async () => {
    for (const enabled of ["true", "false"]) {
      const { code } = await explain("--operation", "set_persistence_mode", "--enabled", enabled, "--uid", "0");
      expect(code).toBe(0);
    }
  });

  it.each([
    [
      ["--operation", "get_power"],
      /^Error: "get_power" does not name one operation; give e\.g\. set_power_limit, or gpu\/get_power/,
    ],
    [["--operation", "gpu-read"], /^Error: "gpu-read" does not name one operation/],
    [["--operation", "nothing"], /^Error: "nothing" does not name one operation/],
    [["--operation", ""], /^Error: "" does not name one operation/],
    [["--operation", "get_power_limit", "--user", "carla"], /^Error: There is no user 'carla'; give --uid and --gid/],
    [["--operation", "get_power_limit", "--gid", "1"], /^Error: --gid says nothing without --uid\n$/],
    [["--operation", "get_power_limit", "--gpu", "x"], /^Error: --gpu must be an id where a file is asked, not 'x'/],
    [["--operation", "get_power_limit", "--gpu", "0,1"], /^Error: --gpu must be an id where a file is asked/],
    [["--operation", "get_power_limit", "--gpu", ""], /^Error: --gpu must be an id where a file is asked/],
  ])("%j cannot be answered: one line on stderr, and 1", async (argv, stderr) => {
    const outcome = await explain(...argv);
    expect(outcome).toEqual(failed(expect.stringMatching(stderr)));
    expect(outcome.stderr).toMatch(/^Error: [^\n]*\n$/);
  });

  it("says what is wrong with a file as check does, and ends with 1, not with 3", async () => {
    const path = createPolicy("[[rule]]\n");
    const asked = await zeusd(["explain", "--policy", path, "--operation", "get_power_limit"]);
    expect(asked).toEqual(await zeusd(["check", path]));
    expect(asked.code).toBe(1);
  });
});

describe("the options of zeusd policy explain", () => {
  /** What would be asked. */
  async function flagsOf(argv: readonly string[]): Promise<ExplainFlags> {
    const seen: ExplainFlags[] = [];
    const outcome = await run(["policy", "explain", ...argv], {
      programs: () => ({ explainPolicy: async (flags) => seen.push(flags) > 0 }),
    });
    const [flags] = seen;
    if (!flags) throw new Error(`not asked: ${outcome.stderr}`);
    return flags;
  }

  it("are the operation and the daemon's own socket at the least", async () => {
    expect(await flagsOf(["--operation", "get_power_limit"])).toMatchObject({
      operation: "get_power_limit",
      socketPath: "/run/zeusd/zeusd.sock",
      gid: [],
      parameters: {},
    });
  });

  it("are all there, parameters under their wire names", async () => {
    const flags = await flagsOf([
      ...["--operation", "set_power_limit", "--uid", "1000", "--gid", "1", "--gid", "2,3", "--token", "ci-1"],
      ...[
        "--gpu",
        "0",
        "--power-limit-mw",
        "200000",
        "--enabled",
        "false",
        "--min-clock-mhz",
        "1",
        "--max-clock-mhz",
        "2",
      ],
      ...["--cpu", "true", "--dram", "false", "--policy", "p", "--gpu-model", "m", "--gpu-uuid", "u"],
      ...["--gpu-pci-address", "a", "--socket-path", "s"],
    ]);
    expect(flags).toMatchObject({
      operation: "set_power_limit",
      uid: 1000,
      gid: [1, 2, 3],
      token: "ci-1",
      gpu: "0",
      policy: "p",
      gpuModel: "m",
      gpuUuid: "u",
      gpuPciAddress: "a",
      socketPath: "s",
      parameters: {
        power_limit_mw: "200000",
        enabled: "false",
        min_clock_mhz: "1",
        max_clock_mhz: "2",
        cpu: "true",
        dram: "false",
      },
    });
    expect((await flagsOf(["--operation", "x", "--user", "anna"])).user).toBe("anna");
  });

  it("have one for every parameter of every operation", async () => {
    const { stdout } = await run(["policy", "explain", "--help"]);
    for (const { parameters } of allOperations)
      for (const name of Object.keys(parameters)) expect(stdout).toContain(`--${name.replaceAll("_", "-")} <`);
  });

  it.each([
    [[], /--operation/],
    [["--operation"], /./],
    [["--operation", "a", "--operation", "b"], /cannot be used twice/],
    [["--operation", "a", "--user", "anna", "--uid", "1"], /cannot be used with/],
    [["--operation", "a", "--uid", "x"], /whole number from 0 to 4294967295/],
    [["--operation", "a", "--uid=-1"], /whole number/],
    [["--operation", "a", "--uid", "1", "--gid", "1,x"], /whole number/],
    [["--operation", "a", "--power-limit-mw", "1.5"], /whole number/],
    [["--operation", "a", "--power-limit-mw", "4294967296"], /whole number/],
    [["--operation", "a", "--enabled", "1"], /true, false/],
    [["--operation", "a", "--nothing"], /unknown option/],
    [["--operation", "a", "b"], /./],
    [["--operation", "-a"], /begins with a dash/],
  ])("%j are no proper ones: 2, and nothing is asked", async (argv, stderr) => {
    expect(await run(["policy", "explain", ...argv])).toEqual(usageError(stderr));
  });

  it("that are of serve mean nothing before the subcommand", async () => {
    expect(await run(["--sim", "8xh100", "policy", "check", "file"])).toEqual(usageError(/unexpected option/));
  });
});

describe("the exit code of zeusd policy explain", () => {
  it.each([
    [true, 0],
    [false, 3],
  ])("for an answer that is %s is %i", async (allowed, code) => {
    const programs = () => ({ explainPolicy: async () => allowed });
    expect((await run(["policy", "explain", "--operation", "x"], { programs })).code).toBe(code);
  });

  it("for what cannot be answered is 1", async () => {
    const programs = () => ({ explainPolicy: () => Promise.reject(new Error("no luck")) });
    expect(await run(["policy", "explain", "--operation", "x"], { programs })).toEqual(failed("Error: no luck\n"));
  });
});

describe("zeusd policy explain of a running daemon", () => {
  const query = (target: string): Readonly<Record<string, string>> =>
    Object.fromEntries(new URL(target, "http://localhost").searchParams);

  /** A daemon that answers what it is told to, and keeps what it was asked. */
  async function fakeDaemon(
    status: number,
    body: string,
  ): Promise<{ readonly path: string; readonly asked: string[] }> {
    const path = join(folder, "zeusd.sock");
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      response.writeHead(status).end(body);
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    onTestFinished(() => void server.close());
    return { path, asked };
  }

  const answer = (...allowed: readonly boolean[]): string =>
    JSON.stringify({
      operation: "set_power_limit",
      gpus: Object.fromEntries(
        allowed.map((one, id) => [
          id,
          one
            ? { allowed: true, rule: "a", rules: [{ rule: "a", line: 3, because: "it decides" }] }
            : { allowed: false, refusal: "no rule is for you", rules: [] },
        ]),
      ),
    });

  it("passes on who asks what, and on which GPUs", async () => {
    const { path, asked } = await fakeDaemon(200, answer(true));
    const explain = (...argv: readonly string[]): Promise<Outcome> =>
      zeusd(["explain", "--socket-path", path, "--operation", "set_power_limit", "--power-limit-mw", "1", ...argv]);
    await explain("--uid", "7", "--gid", "1,2", "--token", "a b&c", "--gpu", "0,GPU-1");
    await explain("--user", "anna");
    await explain("--token", "ci-1");
    await explain();
    expect(asked.map((line) => query(line.replace("GET ", "")))).toEqual([
      {
        operation: "gpu/set_power_limit",
        uid: "7",
        gids: "1,2",
        sub: "a b&c",
        gpu_ids: "0,GPU-1",
        power_limit_mw: "1",
      },
      { operation: "gpu/set_power_limit", uid: "1000", gids: "100,500", power_limit_mw: "1" },
      { operation: "gpu/set_power_limit", sub: "ci-1", power_limit_mw: "1" },
      { operation: "gpu/set_power_limit", power_limit_mw: "1" },
    ]);
    for (const line of asked) expect(line).toMatch(/^GET \/policy\/explain\?/);
  });

  it("prints the answer for each GPU, and ends with 0 if all are allowed, with 3 if one is not", async () => {
    const { path } = await fakeDaemon(200, answer(true, false));
    const argv = [
      "explain",
      "--socket-path",
      path,
      "--operation",
      "set_power_limit",
      "--power-limit-mw",
      "1",
      "--uid",
      "7",
    ];
    expect(await zeusd(argv)).toEqual({
      code: 3,
      stdout:
        'set_power_limit on GPU 0 for uid 7: allowed by rule "a"\n  line 3, rule "a": it decides\n' +
        "set_power_limit on GPU 1 for uid 7: refused: no rule is for you\n",
      stderr: "",
    });
  });

  it("says what the daemon refuses with, in one line, and ends with 1", async () => {
    const { path } = await fakeDaemon(
      403,
      '{"error":"Only root may ask this, over the Unix socket.","code":"forbidden"}',
    );
    expect(await zeusd(["explain", "--socket-path", path, "--operation", "get_power_limit"])).toEqual(
      failed(
        expect.stringMatching(/^Error: The daemon at '[^']*' refuses to say: [^\n]*Only root may ask this[^\n]*\n$/),
      ),
    );
  });

  it("says that nobody answers and what to do, and ends with 1", async () => {
    const path = join(folder, "nowhere.sock");
    const outcome = await zeusd(["explain", "--socket-path", path, "--operation", "get_power_limit"]);
    expect(outcome).toEqual(
      failed(expect.stringMatching(/^Error: Cannot ask the daemon at '[^']*nowhere\.sock': [^\n]*\n$/)),
    );
    expect(outcome.stderr).toMatch(/give --socket-path, or --policy to ask a file/);
  });

  it("says that a daemon without GPUs has none to ask about, which is no yes", async () => {
    const { path } = await fakeDaemon(200, '{"operation":"get_power_limit","gpus":{}}');
    const argv = ["explain", "--socket-path", path, "--operation", "get_power_limit", "--uid", "7"];
    const { code, stdout, stderr } = await zeusd(argv);
    expect(code).not.toBe(0);
    expect(stdout + stderr).toMatch(/GPU/);
  });

  describe("that is ours (as root all that is said here; else that only root may ask)", () => {
    const isRoot = process.geteuid?.() === 0;
    const expectRefused = ({ code, stderr }: Outcome): void =>
      expect([code, stderr]).toEqual([1, expect.stringContaining("Only root may ask this")]);

    const policy =
      '[[rule]]\nname = "low"\nuids = [7]\nallow = ["gpu-control"]\nbounds = [{ power_limit_mw = { max = 5 } }]\n';
    const argv = (path: string, ...more: readonly string[]): readonly string[] => [
      ...["explain", "--socket-path", path, "--operation", "set_power_limit", "--uid", "7", ...more],
    ];

    it("says the same as its file does", async () => {
      const policyPath = createPolicy(policy);
      const { path } = await startOnSocket(createFakeMachine(), { policyPath });
      for (const mw of ["5", "6"]) {
        const more = ["--gpu", "0", "--power-limit-mw", mw];
        const ofDaemon = await zeusd(argv(path, ...more));
        if (!isRoot) return expectRefused(ofDaemon);
        expect(ofDaemon.code).toBe(mw === "5" ? 0 : 3);
        expect(ofDaemon).toEqual(await zeusd([...argv(path, ...more), "--policy", policyPath]));
      }
      return undefined;
    });

    it("is asked about all of its GPUs where none is named, as the help says", async () => {
      const { path } = await startOnSocket(createFakeMachine(), { policyPath: createPolicy(policy) });
      const outcome = await zeusd(argv(path, "--power-limit-mw", "5"));
      if (!isRoot) return expectRefused(outcome);
      const { code, stdout, stderr } = outcome;
      expect([code, stderr]).toEqual([0, ""]);
      return expect(stdout.match(/^set_power_limit on GPU \d/gm)).toEqual([
        "set_power_limit on GPU 0",
        "set_power_limit on GPU 1",
      ]);
    });

    it("has no such GPU, or lacks a parameter: its refusal is passed on, with 1", async () => {
      const { path } = await startOnSocket(createFakeMachine(), { policyPath: createPolicy(policy) });
      expect((await zeusd(argv(path, "--gpu", "7", "--power-limit-mw", "5"))).stderr).toMatch(
        isRoot ? /^Error: [^\n]*7[^\n]*\n$/ : /Only root/,
      );
      expect((await zeusd(argv(path, "--gpu", "0"))).stderr).toMatch(
        isRoot ? /^Error: [^\n]*power_limit_mw[^\n]*\n$/ : /Only root/,
      );
    });

    it("has no policy: says so, with 1", async () => {
      const { path } = await startOnSocket(createFakeMachine());
      expect(await zeusd(argv(path, "--gpu", "0", "--power-limit-mw", "5"))).toEqual(
        failed(expect.stringContaining(isRoot ? "There is no policy; start the daemon with --policy." : "Only root")),
      );
    });
  });
});

it.each([[["policy"]], [["policy", "bogus"]], [["policy", "check", "--bogus"]]])("%j is no command", async (argv) => {
  expect(await run(argv)).toEqual(usageError());
});

it.each([
  [
    ["policy", "--help"],
    ["check", "explain"],
  ],
  [["policy", "check", "--help"], ["<file>"]],
  [
    ["policy", "explain", "-h"],
    ["--operation", "--user", "--uid", "--gid", "--token", "--gpu", "--policy", "3"],
  ],
  [
    ["help", "policy"],
    ["check", "explain"],
  ],
])("%j has help on stdout, and ends with 0", async (argv, words) => {
  const { code, stdout, stderr } = await run(argv);
  expect([code, stderr]).toEqual([0, ""]);
  for (const word of words) expect(stdout).toContain(word);
});
