// SIGHUP of a real daemon: what its policy says from then on, also to those who are connected already, and what it does not take.
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { actAs } from "./as-user.ts";
import { goesOn, launch, noticed, writeTarget } from "./driven.ts";
import {
  alice,
  bob,
  rule,
  uids,
  forAlice,
  createPolicy,
  startWith,
  reload,
  health,
  isWell,
  createNames,
} from "./governed.ts";
import { eventually } from "./http-client.ts";

describe("on SIGHUP", () => {
  it("a new policy holds for connections that are open; a stream that it forbids ends, and others go on", async () => {
    const reading = (...allow: readonly string[]): string =>
      rule("of GPU 0", uids(alice), allow, "gpus = [0]") + rule("of GPU 1", uids(bob), ["gpu-read"], "gpus = [1]");
    const { daemon, policy, address } = await startWith(reading("gpu-read"), [], { NVML_STUB_POWER: "changing" });
    const [a, b] = [await actAs(alice), await actAs(bob)];
    const lost = await a.stream(address, { target: "/gpu/stream_power?gpu_ids=0" });
    const kept = await b.stream(address, { target: "/gpu/stream_power?gpu_ids=1" });
    expect([lost.status, kept.status]).toEqual([200, 200]);
    await Promise.all([lost.received(1), kept.received(1)]);
    const read = { target: "/gpu/get_power?gpu_ids=0" };
    const set = { method: "POST", target: writeTarget() };
    expect(await a.ask(address, read)).toMatchObject({ status: 200 });
    expect(await a.ask(address, set)).toMatchObject({ status: 403, reused: true });
    expect(await b.ask(address, { target: "/gpu/get_power?gpu_ids=1" })).toMatchObject({ status: 200 });

    writeFileSync(policy, reading("set_power_limit"));
    await reload(daemon);
    expect(await a.ask(address, read)).toMatchObject({ status: 403, reused: true });
    expect(await a.ask(address, set)).toMatchObject({ status: 200, reused: true });
    expect(await b.ask(address, { target: "/gpu/get_power?gpu_ids=1" })).toMatchObject({ status: 200, reused: true });
    expect(await lost.end).toBe("complete");
    await goesOn(kept, 1);

    writeFileSync(policy, rule("of nobody", "uids = [34009]", ["gpu-read"]));
    await reload(daemon);
    expect(await kept.end).toBe("complete");
    expect(await health(daemon)).toEqual(isWell);
  });

  const good = 'name = "a secret name"\nuids = [1]\nallow = ["gpu-read"]\n';
  /** What is wrong with a file, and where the log says that it is. */
  const mistakes: readonly (readonly [what: string, text: string, where: RegExp])[] = [
    ["a misspelt right", `[[rule]]\n${good.replace("read", "raed")}`, /line 4, rule\.allow: there is no "gpu-raed"/],
    ["a misspelt key", `[[rule]]\n${good}alow = []\n`, /line 5, rule\.alow: it is not known here/],
    ["no TOML", `[[rule]]\n${good}x = [\n`, /line [56]: /],
    ["an unknown user", `[[rule]]\n${good}users = ["mallory"]\n`, /line 5, rule\.users: there is no user "mallory"/],
    ["an unknown group", `[[rule]]\n${good}groups = ["m"]\n`, /line 5, rule\.groups: there is no group "m"/],
    ["two rules of one name", `[[rule]]\n${good}[[rule]]\n${good}`, /line 6, rule\.name: the rule at line 1/],
    ["no rule", "# none\n", /line 1, rule: there is no \[\[rule\]\]/],
    ["bounds of nothing", `[[rule]]\n${good}[[rule.bounds]]\nmodels = ["*"]\n`, /line 5, rule\.bounds: /],
    [
      "a range that is none",
      `[[rule]]\n${good}bounds = [{ power_limit_mw = { min = 2, max = 1 } }]\n`,
      /line 5, rule\.bounds\.power_limit_mw\.max: /,
    ],
    ["two mistakes", `[[rule]]\n${good.replace("1", '"1"')}allo = 1\n`, /line 3, rule\.uids: .*line 5, rule\.allo: /],
  ];

  it("a file with mistakes is not taken: the log says the line and the key, /healthz that it is so, and the old policy holds", async () => {
    const { daemon, policy, address } = await startWith(forAlice, [], createNames().settings);
    const a = await actAs(alice);
    for (const [what, text, where] of mistakes) {
      writeFileSync(policy, text);
      await reload(daemon);
      const said = daemon.stderr().trimEnd().split("\n").at(-1);
      expect([what, said]).toEqual([
        what,
        expect.stringMatching(new RegExp(` ERROR Keeping the policy that was in force, .*${where.source}`)),
      ]);
      expect(await a.ask(address, { target: "/gpu/get_power" })).toMatchObject({ status: 200 });
      // Anyone may ask for it: it names no path, no rule and nobody.
      expect(await health(daemon)).toEqual({
        status: "degraded",
        problems: { policy: "The policy file could not be read again; what it said before is in force." },
      });
    }
    writeFileSync(policy, rule("of nobody", "uids = [34009]", ["gpu-read"]));
    await reload(daemon);
    expect(await health(daemon)).toEqual(isWell);
    expect(await a.ask(address, { target: "/gpu/get_power" })).toMatchObject({ status: 403 });
  });

  it("a file that is gone, that everyone can write to, that is a folder or no text is not taken either", async () => {
    const { daemon, policy, address } = await startWith(forAlice);
    const a = await actAs(alice);
    const expectKept = async (reason: string): Promise<void> => {
      await reload(daemon);
      expect(daemon.stderr().trimEnd().split("\n").at(-1)).toContain(reason);
      expect(await a.ask(address, { target: "/gpu/get_power" })).toMatchObject({ status: 200 });
      expect(await health(daemon)).toMatchObject({ status: "degraded" });
    };
    rmSync(policy);
    await expectKept("No such file or directory (os error 2)");
    mkdirSync(policy);
    await expectKept("it is no regular file");
    rmSync(policy, { recursive: true });
    writeFileSync(policy, Buffer.from([0x23, 0xff, 0x0a]));
    await expectKept("it is no UTF-8 text");
    writeFileSync(policy, rule("of nobody", "uids = [34009]", ["gpu-read"]));
    chmodSync(policy, 0o666);
    await expectKept("everyone can write to it");
    chmodSync(policy, 0o664);
    await reload(daemon);
    expect(await a.ask(address, { target: "/gpu/get_power" })).toMatchObject({ status: 403 });
    expect(await health(daemon)).toEqual(isWell);
  });

  it("names are looked up, once and not for requests; while the name service hangs the daemon answers, and the old policy holds", async () => {
    const names = createNames();
    const byName = rule("by name", 'users = ["alice"]\ngroups = ["team"]', ["gpu-read"]);
    const { daemon, policy, address } = await startWith(byName, [], names.settings);
    const a = await actAs(alice);
    const read = { target: "/gpu/get_power" };
    expect(await a.ask(address, read)).toMatchObject({ status: 200 });

    names.hang();
    writeFileSync(policy, rule("by name", 'users = ["slow"]', ["set_power_limit"]));
    const over = reload(daemon);
    await names.asked();
    expect(await a.ask(address, read)).toMatchObject({ status: 200, reused: true });
    expect(await a.ask(address, { method: "POST", target: writeTarget() })).toMatchObject({ status: 403 });
    expect(await health(daemon)).toEqual(isWell);
    await over;
    expect(daemon.stderr()).toMatch(/ERROR Keeping the policy .*line 3, rule\.users: .* had no answer within 5000 ms/);
    expect(await health(daemon)).toMatchObject({ status: "degraded" });
    expect(JSON.stringify(await health(daemon))).not.toMatch(/slow|alice|by name|toml/);
    expect(await a.ask(address, read)).toMatchObject({ status: 200 });

    names.answer();
    await reload(daemon);
    expect(await a.ask(address, read)).toMatchObject({ status: 403 });
    expect(await health(daemon)).toEqual(isWell);
  });

  it("that comes while it starts, it goes on: at the names of its policy", async () => {
    const names = createNames();
    names.hang();
    const policy = createPolicy(rule("by name", 'users = ["slow"]', ["gpu-read"]));
    const { daemon, path } = launch({ args: ["--policy", policy], settings: names.settings });
    await names.asked();
    for (let count = 0; count < 3; count += 1) daemon.signal("SIGHUP");
    names.answer();
    expect(await daemon.listening()).toBe(path);
    await daemon.logged("it is in force");
    expect(await (await actAs(alice)).ask(path, { target: "/gpu/get_power" })).toMatchObject({ status: 200 });
  });

  it("that comes while it starts, it goes on: at a driver that hangs", async () => {
    const { daemon, driver, path } = launch({
      args: ["--policy", createPolicy(forAlice)],
      rules: ["nvmlInit_v2=hang"],
    });
    await driver.called("nvmlInit_v2 - hangs");
    daemon.signal("SIGHUP");
    await daemon.logged("SIGHUP");
    driver.fail();
    expect(await daemon.listening()).toBe(path);
    await daemon.logged("it is in force");
    expect(await health(daemon)).toEqual(isWell);
  });

  it("that comes again and again, it goes on, and what the file says last holds", async () => {
    const { daemon, policy, address } = await startWith(forAlice);
    const a = await actAs(alice);
    for (let count = 0; count < 50; count += 1) {
      writeFileSync(policy, count % 2 === 0 ? rule("of nobody", "uids = [34009]", ["gpu-read"]) : "nonsense");
      daemon.signal("SIGHUP");
      await noticed(daemon);
    }
    writeFileSync(policy, rule("last", uids(alice), ["gpu/get_power_limit"]));
    await reload(daemon);
    await eventually(async () => (await a.ask(address, { target: "/gpu/get_power_limit" })).status === 200);
    expect(await a.ask(address, { target: "/gpu/get_power" })).toMatchObject({ status: 403 });
    await eventually(async () => ((await health(daemon)) as typeof isWell).status === "ok");
  });
});
