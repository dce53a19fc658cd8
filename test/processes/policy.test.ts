// The policy, the revoked tokens and the audit of a real daemon: read at the start and again on SIGHUP, and what then happens
// to those who are connected already.
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { issueToken, type Claims } from "../../src/access/token.ts";
import { allOperations } from "../../src/contract/operations.ts";
import { actAs, self, type Identity, type UserAnswer } from "./as-user.ts";
import { goesOn, launch, noticed, setter, start, write, writeTarget, written, type Driven } from "./driven.ts";
import { createDriver, type Driver } from "./driver.ts";
import { createFolder } from "./folder.ts";
import { eventually } from "./http-client.ts";
import { isRoot } from "./ordinary-user.ts";
import { refusal, startZeusd, type StartOptions, type Zeusd } from "./zeusd.ts";

// Only root can be two users; of anybody else both are the same, and the rules of both are theirs.
const alice: Identity = isRoot ? { uid: 34_001, gid: 34_001, groups: [] } : self;
const bob: Identity = isRoot ? { uid: 34_002, gid: 34_002, groups: [] } : self;

function rule(name: string, who: string, allow: readonly string[], more = ""): string {
  return `[[rule]]\nname = "${name}"\n${who}\nallow = ${JSON.stringify(allow)}\n${more}\n`;
}
const uids = (...all: readonly Identity[]): string => `uids = [${all.map(({ uid }) => uid).join(", ")}]`;
const everything = ["gpu-control", "gpu-read", "cpu-read"];
const forAlice = rule("for alice", uids(alice), everything);

function createFile(name: string, text: string, mode = 0o600): string {
  const path = join(createFolder(), name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}
const createPolicy = (text: string): string => createFile("policy.toml", text);

interface Governed extends Driven {
  readonly policy: string;
  readonly address: string;
}

async function startWith(text: string, args: readonly string[] = [], settings: Driver["env"] = {}): Promise<Governed> {
  const policy = createPolicy(text);
  const driven = await start({ args: ["--policy", policy, ...args], settings });
  return { ...driven, policy, address: driven.path };
}

const countOf = (daemon: Zeusd, text: RegExp): number => daemon.stderr().match(new RegExp(text, "g"))?.length ?? 0;

/** Sends SIGHUP, and settles when the log tells what became of the file. */
async function reload(daemon: Zeusd, what = "policy"): Promise<void> {
  const verdict = new RegExp(`Read the ${what} file .* it is in force|Keeping the ${what} that was in force`);
  const before = countOf(daemon, verdict);
  daemon.signal("SIGHUP");
  await eventually(() => countOf(daemon, verdict) > before);
}

async function health(daemon: Zeusd): Promise<unknown> {
  const { status, body } = await daemon.request("/healthz");
  expect(status).toBe(200);
  return JSON.parse(body);
}

const isWell = { status: "ok", problems: {} };

function codeOf({ body }: { readonly body: string }): unknown {
  return (JSON.parse(body) as { readonly code?: unknown }).code;
}

/** What the driver was asked to change. */
const changes = (driver: Driver): readonly string[] =>
  driver.calls().filter((call) => /^nvmlDevice(Set|Reset)/.test(call));

// NAMES -------------------------------------------------------------------------------------------------------------------

interface Names {
  /** What the daemon's environment must hold to ask them. */
  readonly settings: { readonly PATH: string };
  /** Makes whoever asks wait from now on, for ever or until `answer`. */
  hang(): void;
  answer(): void;
  /** Settles when somebody waits. */
  asked(): Promise<void>;
}

/** A name service of our own, in which alice is a user, and the team a group. */
function createNames(): Names {
  const folder = createFolder();
  const script = `#!/bin/sh
case $1-$3 in passwd-slow) touch ${folder}/asked; while [ -e ${folder}/hang ]; do sleep 0.02; done;; esac
case $1-$3 in
  passwd-alice|passwd-slow) echo "$3:x:${alice.uid}:${alice.gid}::/:/bin/sh";;
  group-team) echo "team:x:${alice.gid}:";;
  *) exit 2;;
esac
`;
  writeFileSync(join(folder, "getent"), script);
  chmodSync(join(folder, "getent"), 0o755);
  return {
    settings: { PATH: `${folder}:${process.env["PATH"]}` },
    hang: () => writeFileSync(join(folder, "hang"), ""),
    answer: () => rmSync(join(folder, "hang")),
    asked: () => eventually(() => existsSync(join(folder, "asked"))),
  };
}

// SIGHUP ------------------------------------------------------------------------------------------------------------------

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

// THE START ---------------------------------------------------------------------------------------------------------------

function words(...more: readonly string[]): readonly string[] {
  return ["serve", "--sim", "2xh100", "--socket-path", join(createFolder(), "zeusd.sock"), ...more];
}

describe("at the start", () => {
  it.each([
    ["what is no TOML", "[[rule]]\nname = = 1\n", 0o600, "line 2: "],
    ["an unknown right", rule("a", "uids = [1]", ["all"]), 0o600, 'line 4, rule.allow: there is no "all"'],
    ["nobody whom it is for", '[[rule]]\nname = "a"\nallow = ["gpu-read"]\n', 0o600, "it does not say who is meant"],
    ["nothing", "", 0o600, "there is no [[rule]]"],
    ["write access for everyone", forAlice, 0o602, "everyone can write to it; chmod o-w it"],
  ])("a policy with %s is refused in one sentence", async (_, text, mode, reason) => {
    const path = createFile("policy.toml", text, mode);
    const sentence = await refusal(words("--policy", path));
    expect(sentence).toContain(`Cannot use the policy file '${path}'`);
    expect(sentence).toContain(reason);
  });

  it("a policy that is not there is refused", async () => {
    expect(await refusal(words("--policy", "/nowhere/policy.toml"))).toContain(
      "No such file or directory (os error 2)",
    );
  });

  it("whose a policy is matters (as root: nobody else's is taken; else: root's is looked into)", async () => {
    if (isRoot) {
      for (const [flag, text] of [
        ["--policy", forAlice],
        ["--revoked-tokens", "jti x\n"],
      ] as const) {
        const path = createFile("file", text);
        chownSync(path, alice.uid, alice.gid);
        const more = ["--signing-key-path", createFile("key", "k".repeat(32)), flag, path];
        expect(await refusal(words(...more))).toContain(`it belongs to uid ${alice.uid}, who could change it`);
      }
    } else {
      expect(await refusal(words("--policy", "/etc/passwd"))).toMatch(/'\/etc\/passwd': line 1/);
    }
  });

  it.each([
    ["a kind that is none", "token abc\n", 0o600, "line 1: 'token' is no kind of revocation"],
    ["write access for everyone", "jti x\n", 0o666, "everyone can write to it"],
  ])("revoked tokens with %s are refused in one sentence", async (_, text, mode, reason) => {
    const key = createFile("key", "k".repeat(32));
    const path = createFile("revoked", text, mode);
    const sentence = await refusal(words("--signing-key-path", key, "--revoked-tokens", path));
    expect(sentence).toContain(`Cannot use the revocations file '${path}': ${reason}`);
  });

  it.each([
    [["--revoked-tokens", "/nowhere"], "give --signing-key-path as well"],
    [["--audit-required"], "give --audit-log a path, or journal"],
    [["--audit-log", "/nowhere/audit"], "Cannot write the audit log '/nowhere/audit': No such file or directory"],
    [["--audit-log", "/dev/null"], "Cannot write the audit log '/dev/null': it is no regular file"],
  ])("%j is refused in one sentence", async (args, reason) => {
    expect(await refusal(words(...args))).toContain(reason);
  });

  it("warns of rules that are for nobody", async () => {
    const policy = createPolicy(`${rule("by token", 'tokens = ["a"]', everything)}${forAlice}`);
    const args = ["--mode", "tcp", "--tcp-bind-address", "127.0.0.1:0", "--policy", policy];
    const daemon = startZeusd(["serve", "--sim", "1xh100", ...args]);
    await daemon.listening();
    expect(daemon.stderr()).toMatch(/ WARN Rule "by token" of the policy names tokens, but no --signing-key-path/);
    expect(daemon.stderr()).toMatch(/ WARN Rule "for alice" of the policy names users or groups, .* over TCP/);
  });
});

// REVOKED TOKENS ----------------------------------------------------------------------------------------------------------

describe("revoked tokens", () => {
  const key = "k".repeat(32);
  const bearer = async (claims: Omit<Claims, "scopes">): Promise<Record<string, string>> => {
    const token = await issueToken(Buffer.from(key), { scopes: ["gpu-read"], ...claims });
    return { authorization: `Bearer ${token}` };
  };

  it("are refused from SIGHUP on, though they were known to be good, and their streams end; others' go on", async () => {
    const revoked = createFile("revoked", "# none\n");
    const args = ["--signing-key-path", createFile("key", key), "--revoked-tokens", revoked];
    const { daemon, path } = await start({ args, settings: { NVML_STUB_POWER: "changing" } });
    const lost = await bearer({ sub: "alice", jti: "1" });
    const kept = await bearer({ sub: "alice", jti: "2" });
    const user = await actAs();
    const read = (headers: Record<string, string>): Promise<UserAnswer> =>
      user.ask(path, { target: "/gpu/get_power", headers });
    const streams = await Promise.all(
      [lost, kept].map((headers) => user.stream(path, { target: "/gpu/stream_power?gpu_ids=0", headers })),
    );
    const [lostStream, keptStream] = streams;
    await Promise.all(streams.map((stream) => stream.received(1)));
    expect([await read(lost), await read(kept)]).toMatchObject([{ status: 200 }, { status: 200 }]);

    writeFileSync(revoked, "jti 1\n");
    await reload(daemon, "revocations");
    const refused = await read(lost);
    expect(refused).toMatchObject({ status: 401, reused: true });
    expect(JSON.parse(refused.body)).toEqual({ error: "Token has been revoked.", code: "unauthenticated" });
    expect(await read(kept)).toMatchObject({ status: 200, reused: true });
    expect(await lostStream?.end).toBe("complete");
    if (keptStream) await goesOn(keptStream, 0);

    writeFileSync(revoked, "jti 1\njti 2\nsomething else\n");
    await reload(daemon, "revocations");
    expect(daemon.stderr()).toMatch(/ERROR Keeping the revocations .*line 3: 'something' is no kind of revocation/);
    expect([await read(lost), await read(kept)]).toMatchObject([{ status: 401 }, { status: 200 }]);
    expect(await health(daemon)).toEqual({
      status: "degraded",
      problems: { revocations: "The revocations file could not be read again; what it said before is in force." },
    });

    writeFileSync(revoked, "sub alice\n");
    await reload(daemon, "revocations");
    expect([await read(lost), await read(kept)]).toMatchObject([{ status: 401 }, { status: 401 }]);
    expect(await keptStream?.end).toBe("complete");
    expect(await health(daemon)).toEqual(isWell);
  });
});

// THE AUDIT ---------------------------------------------------------------------------------------------------------------

type Line = Readonly<Record<string, unknown>>;

function linesOf(path: string): readonly Line[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

async function linesAre(path: string, count: number): Promise<readonly Line[]> {
  await eventually(() => linesOf(path).length >= count);
  const lines = linesOf(path);
  expect(lines).toHaveLength(count);
  return lines;
}

describe("the audit log", () => {
  it("says of each write who made it, what it was and what came of it, and of each refusal why", async () => {
    const audit = join(createFolder(), "audit");
    const { address, driver } = await startWith(rule("limits", uids(alice), ["set_power_limit"], "gpus = [0, 1]"), [
      ...["--audit-log", audit],
    ]);
    const a = await actAs(alice, "alices-tool");
    const who = { uid: alice.uid, pid: a.pid, program: "alices-tool" };
    const done = await a.ask(address, { method: "POST", target: writeTarget({ ids: "0,1", mw: 210_000 }) });
    expect(done).toMatchObject({ status: 200, body: "" });
    const lines = await linesAre(audit, 2);
    expect(lines.map(({ gpu }) => gpu).toSorted()).toEqual([0, 1]);
    for (const line of lines) {
      expect(line).toMatchObject({
        ...who,
        request_id: done.headers["x-request-id"],
        operation: "set_power_limit",
        uuid: expect.stringMatching(/^GPU-/),
        asked: { power_limit_mw: 210_000 },
        block: true,
        after: { power_limit: { power_limit_mw: 210_000 } },
        enforced: { power_limit: { power_limit_mw: 210_000 } },
        rule: "limits",
        outcome: "ok",
      });
      expect(line["time"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(line["duration_ms"]).toBeGreaterThan(0);
    }
    expect(statSync(audit).mode & 0o777).toBe(0o640);

    // What it was before is what is known by now.
    await a.ask(address, { method: "POST", target: writeTarget({ mw: 220_000 }) });
    expect((await linesAre(audit, 3))[2]).toMatchObject({
      before: { power_limit: { power_limit_mw: 210_000 } },
      after: { power_limit: { power_limit_mw: 220_000 } },
    });

    driver.fail(`${setter}@0=code:999`);
    expect(await a.ask(address, { method: "POST", target: writeTarget({ mw: 230_000 }) })).toMatchObject({
      status: 500,
    });
    const failed = (await linesAre(audit, 4))[3];
    expect(failed).toMatchObject({ ...who, gpu: 0, rule: "limits", outcome: expect.stringMatching(/error/) });
    expect(failed?.["after"]).not.toEqual({ power_limit: { power_limit_mw: 230_000 } });

    const headers = { "content-type": "application/json" };
    const body = '{"block":true}';
    await a.ask(address, { method: "POST", target: "/gpu/0/reset_gpu_locked_clocks", headers, body });
    await a.ask(address, { target: "/gpu/get_power" });
    await a.ask(address, { method: "POST", target: `${writeTarget({ mw: 240_000 })}&dry_run=maybe` });
    const refused = (await linesAre(audit, 7)).slice(4);
    expect(refused).toMatchObject([
      { ...who, operation: "reset_gpu_locked_clocks", gpus: [0], asked: {}, outcome: "forbidden" },
      { ...who, operation: "get_power", gpus: "all", outcome: "forbidden" },
      { ...who, operation: "set_power_limit", outcome: "bad_request" },
    ]);
    expect(changes(driver).filter((call) => call.startsWith("nvmlDeviceReset"))).toEqual([]);
  });

  it("that was renamed goes on in a new file after SIGHUP, and no line is lost, double or torn", async () => {
    const folder = createFolder();
    const audit = join(folder, "audit");
    const { daemon, address } = await startWith(forAlice, ["--audit-log", audit]);
    const a = await actAs(alice);
    const writeOne = (mw: number): Promise<UserAnswer> =>
      a.ask(address, { method: "POST", target: writeTarget({ mw }) });
    const askedOf = (path: string): readonly unknown[] => linesOf(path).map(({ asked }) => asked);
    await writeOne(110_000);
    await linesAre(audit, 1);
    renameSync(audit, `${audit}.1`);
    await writeOne(120_000);
    await linesAre(`${audit}.1`, 2);
    expect(existsSync(audit)).toBe(false);

    daemon.signal("SIGHUP");
    await eventually(() => existsSync(audit));
    await writeOne(130_000);
    await linesAre(audit, 1);
    expect(askedOf(`${audit}.1`)).toEqual([{ power_limit_mw: 110_000 }, { power_limit_mw: 120_000 }]);
    expect(askedOf(audit)).toEqual([{ power_limit_mw: 130_000 }]);
    expect(statSync(audit).mode & 0o777).toBe(0o640);

    // A name at which no file can be made: it goes on in the one that it has.
    renameSync(audit, `${audit}.2`);
    mkdirSync(audit);
    await reload(daemon);
    expect(daemon.stderr()).toMatch(/ERROR The audit log could not be opened again/);
    expect(await health(daemon)).toMatchObject({ status: "degraded", problems: { audit_reopen: expect.any(String) } });
    await writeOne(140_000);
    await linesAre(`${audit}.2`, 2);
    rmSync(audit, { recursive: true });
    await reload(daemon);
    expect(await health(daemon)).toEqual(isWell);
  });

  it("has on SIGTERM the lines of all writes that were made, also of those whose value was still to be read", async () => {
    const audit = join(createFolder(), "audit");
    const { daemon, address, driver } = await startWith(forAlice, ["--audit-log", audit]);
    const a = await actAs(alice);
    const target = writeTarget({ ids: "0,1", mw: 250_000 });
    expect(await a.ask(address, { method: "POST", target })).toMatchObject({ status: 200 });
    daemon.signal("SIGTERM");
    expect(await daemon.exit).toEqual({ code: 0, signal: null });
    expect(written(driver).toSorted()).toEqual(["250000@0", "250000@1"]);
    const lines = linesOf(audit);
    expect(lines.map(({ gpu, outcome }) => `${String(gpu)} ${String(outcome)}`).toSorted()).toEqual(["0 ok", "1 ok"]);
    for (const line of lines) {
      const read = { after: { power_limit: { power_limit_mw: 250_000 } } };
      const unread = { after: null, read_back: "failed", reason: expect.stringContaining("stopped") };
      expect(line).toMatchObject(line["after"] === null ? unread : read);
    }
  });

  it("of simulated GPUs and over TCP has the address and the token's subject instead of a process", async () => {
    const audit = join(createFolder(), "audit");
    const key = "k".repeat(32);
    const keyed = ["--signing-key-path", createFile("key", key), "--audit-log", audit];
    const tcp = ["--mode", "tcp", "--tcp-bind-address", "127.0.0.1:0"];
    const daemon = startZeusd(["serve", "--sim", "1xh100", ...tcp, ...keyed]);
    const token = await issueToken(Buffer.from(key), { sub: "carol", scopes: ["gpu-control"], jti: "7" });
    const address = await daemon.listening();
    const user = await actAs();
    const ask = (authorization: string): Promise<UserAnswer> =>
      user.ask(address, { method: "POST", target: writeTarget({ mw: 300_000 }), headers: { authorization } });
    expect(await ask(`Bearer ${token}`)).toMatchObject({ status: 200 });
    const [line] = await linesAre(audit, 1);
    expect(line).toMatchObject({ address: "127.0.0.1", sub: "carol", jti: "7", gpu: 0, outcome: "ok" });
    expect(line).not.toHaveProperty("uid");
    expect(await ask(`Bearer ${token}x`)).toMatchObject({ status: 401 });
    const [, refused] = await linesAre(audit, 2);
    expect(refused).toMatchObject({ address: "127.0.0.1", outcome: "unauthenticated" });
    expect(JSON.stringify(refused)).not.toContain(token);
  });
});

/** A place for an audit log that takes no line. */
interface Full {
  readonly through: readonly string[];
  readonly path: string;
  /** How the file can be read from here, while the process lives. */
  file(pid: number): string;
  /** Makes room. */
  free(pid: number): void;
}

/** Of util-linux, as unshare is. */
const prlimit = "prlimit";

const limited = (): Full => {
  // A size that no file may pass; the stub driver's log stays well below.
  const [size, audit] = [65_536, join(createFolder(), "audit")];
  writeFileSync(audit, `${JSON.stringify({ filler: "x".repeat(size - 14) })}\n`);
  expect(statSync(audit).size).toBe(size);
  return {
    through: [prlimit, `--fsize=${size}:`],
    path: audit,
    file: () => audit,
    free: (pid) => void execFileSync(prlimit, ["--pid", String(pid), "--fsize=1048576:"]),
  };
};

const mounting = [
  "unshare",
  "-m",
  "sh",
  "-c",
  'mount -t tmpfs -o size=8k tmpfs "$0" && head -c 8192 /dev/zero > "$0/x"; exec "$@"',
];

const onFullDisk = (): Full => {
  const folder = createFolder();
  return {
    through: [...mounting, folder],
    path: join(folder, "audit"),
    file: (pid) => join(`/proc/${pid}/root`, folder, "audit"),
    free: (pid) => rmSync(join(`/proc/${pid}/root`, folder, "x")),
  };
};

/** Not every container lets even root mount anything; a file that may not grow is there for everyone. */
const canMount = isRoot && spawnSync("unshare", [...mounting.slice(1), "/mnt", "test", "-e", "/mnt/x"]).status === 0;

describe.each([
  { how: "a file may not grow any more", full: limited },
  { how: canMount ? "the disk is full" : "it cannot be written, once more", full: canMount ? onFullDisk : limited },
])("where $how", ({ full }) => {
  async function startFull(...more: readonly string[]) {
    const place = full();
    const driver = createDriver();
    const socket = ["--socket-path", join(createFolder(), "zeusd.sock"), "--powercap-root", createFolder()];
    const args = ["--allow-unprivileged", ...socket, "--audit-log", place.path, ...more];
    const daemon = startZeusd(args, { env: driver.env, through: place.through });
    await daemon.listening();
    return { place, driver, daemon, user: await actAs() };
  }

  it("with --audit-required nothing is changed any more once that is known, and reads go on; until there is room again", async () => {
    const { place, driver, daemon, user } = await startFull("--audit-required");
    const address = await daemon.listening();
    // That the line cannot be written shows when the first write has ended.
    await write(daemon, { mw: 110_000 });
    await eventually(async () => ((await health(daemon)) as typeof isWell).status === "degraded");
    expect(await health(daemon)).toEqual({
      status: "degraded",
      problems: { audit: "The audit log cannot be written." },
    });
    expect(countOf(daemon, / ERROR The audit log cannot be written: /)).toBe(1);

    const before = changes(driver);
    const onQuery = await user.ask(address, { method: "POST", target: writeTarget({ mw: 120_000, block: false }) });
    const onPath = await user.ask(address, {
      method: "POST",
      target: "/gpu/0/set_power_limit",
      headers: { "content-type": "application/json" },
      body: '{"power_limit_mw":130000,"block":true}',
    });
    for (const { status, headers } of [onQuery, onPath]) {
      expect([status, headers["retry-after"]]).toEqual([503, expect.stringMatching(/^[1-9]\d*$/)]);
    }
    expect(codeOf(onQuery)).toBe("audit_unavailable");
    expect(onPath.headers["content-type"]).toBe("text/plain; charset=utf-8");
    expect(changes(driver)).toEqual(before);
    expect((await daemon.request("/gpu/get_power")).status).toBe(200);

    place.free(daemon.pid);
    expect((await write(daemon, { mw: 140_000 })).status).toBe(200);
    await eventually(() => readFileSync(place.file(daemon.pid), "utf8").endsWith("}\n"));
    const wanted = (): boolean =>
      readFileSync(place.file(daemon.pid), "utf8").includes('"asked":{"power_limit_mw":140000');
    await eventually(wanted);
    const lines = linesOf(place.file(daemon.pid));
    expect(lines.filter(({ event }) => event === "lines_lost")).toMatchObject([{ count: expect.any(Number) }]);
    const done = lines.filter(({ outcome }) => outcome === "ok");
    expect(done).toMatchObject([{ asked: { power_limit_mw: 140_000 } }]);
    expect(await health(daemon)).toEqual(isWell);
  });

  it("without --audit-required writes go on, and it is said that lines are missing", async () => {
    const { place, driver, daemon } = await startFull();
    for (const mw of [110_000, 120_000, 130_000]) expect((await write(daemon, { mw })).status).toBe(200);
    await eventually(async () => ((await health(daemon)) as typeof isWell).status === "degraded");
    expect(written(driver)).toEqual(["110000@0", "120000@0", "130000@0"]);
    place.free(daemon.pid);
    await eventually(async () => {
      await write(daemon, { mw: 140_000 });
      return ((await health(daemon)) as typeof isWell).status === "ok";
    });
    await daemon.logged("The audit log can be written again");
  });
});

it("an audit in the journal needs one: without it is refused; with it, it starts", async () => {
  const socket = "/run/systemd/journal/socket";
  const hide = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /run/systemd/journal && exec "$@"', "sh"];
  const hidden: StartOptions = existsSync(socket) && canMount ? { through: hide } : {};
  if (existsSync(socket) && !canMount) {
    const daemon = startZeusd(words("--audit-log", "journal"));
    expect((await daemon.request("/gpu/get_power")).status).toBe(200);
  } else {
    const sentence = await refusal(words("--audit-log", "journal"), hidden);
    expect(sentence).toMatch(/^Cannot write the audit log 'journal': ENOENT: .*\/run\/systemd\/journal\/socket/);
  }
});

// RATES, DRY RUNS, ANSWERS ABOUT ONESELF ----------------------------------------------------------------------------------

it("who writes too often gets 429 with Retry-After on both wires, and nothing is written; others have their own share", async () => {
  const rate = "rate = { writes_per_second = 0.05, burst = 2 }";
  const limitedRule = rule("slowly", uids(alice, bob), ["set_power_limit", "gpu-read"], rate);
  const { address, driver } = await startWith(limitedRule);
  const [a, b] = [await actAs(alice), await actAs(bob)];
  const onPath = {
    method: "POST",
    target: "/gpu/0/set_power_limit",
    headers: { "content-type": "application/json" },
    body: '{"power_limit_mw":150000,"block":true}',
  };
  const onQuery = { method: "POST", target: writeTarget() };
  const dry = { method: "POST", target: `${writeTarget()}&dry_run=true` };
  expect(await a.askAll(address, [dry, dry, onPath, dry, onQuery])).toMatchObject(
    [200, 200, 200, 200, 200].map((status) => ({ status })),
  );
  const before = changes(driver);
  expect(before).toHaveLength(2);
  // A client of the same user on another connection, and another process, share its share.
  const [text, json, again] = [
    await a.ask(address, onPath),
    await a.ask(address, onQuery),
    await (await actAs(alice)).ask(address, onQuery),
  ];
  for (const { status, headers } of [text, json, again]) {
    expect(status).toBe(429);
    const seconds = Number(headers["retry-after"]);
    expect(Number.isInteger(seconds) && seconds >= 1 && seconds <= 20).toBe(true);
  }
  expect([text.headers["content-type"], text.body]).toEqual([
    "text/plain; charset=utf-8",
    expect.stringMatching(
      /^uid \d+ writes too often: rule "slowly" allows 0.05 writes a second, 2 at once; try again in /,
    ),
  ]);
  expect(codeOf(json)).toBe("rate_limited");
  const three = { method: "POST", target: writeTarget({ ids: "0,1,0" }) };
  expect((await a.ask(address, three)).status).toBe(429);
  expect((await a.ask(address, { target: "/gpu/get_power" })).status).toBe(200);
  expect(changes(driver)).toEqual(before);
  const other = await b.askAll(address, [onQuery, onPath, onQuery]);
  expect(other.map(({ status }) => status)).toEqual(isRoot ? [200, 200, 429] : [429, 429, 429]);
});

const writes = allOperations.filter(({ kind }) => kind === "write");
const wireValues: Readonly<Record<string, boolean | number>> = {
  enabled: true,
  power_limit_mw: 200_000,
  min_clock_mhz: 500,
  max_clock_mhz: 1000,
};

describe("a dry run", () => {
  it("of any write answers what would be done and by which rule, and the driver hears nothing", async () => {
    const bounds = "[[rule.bounds]]\npower_limit_mw = { max = 250000 }";
    const { address, driver } = await startWith(rule("bounded", uids(alice), ["gpu-control"], bounds));
    const a = await actAs(alice);
    const before = driver.calls();
    for (const { name, parameters } of writes) {
      const asked = Object.keys(parameters).map((field) => [field, wireValues[field]] as const);
      for (const block of [true, false]) {
        const query = [...asked, ["block", block]].map(([field, value]) => `${field}=${value}`).join("&");
        const answer = await a.ask(address, {
          method: "POST",
          target: `/gpu/${name}?gpu_ids=0,1&${query}&dry_run=true`,
        });
        expect([name, answer.status, JSON.parse(answer.body)]).toEqual([
          name,
          200,
          {
            dry_run: true,
            would: expect.stringMatching(new RegExp(`^${name}.* on GPU 0, GPU 1$`)),
            operation: name,
            asked: Object.fromEntries(asked),
            gpus: { 0: { rule: "bounded" }, 1: { rule: "bounded" } },
          },
        ]);
      }
    }
    const over = `${writeTarget({ mw: 250_001 })}&dry_run=true`;
    const refused = await a.ask(address, { method: "POST", target: over });
    expect([refused.status, codeOf(refused)]).toEqual([403, "forbidden"]);
    expect(await a.ask(address, { method: "POST", target: `${writeTarget({ ids: "7" })}&dry_run=true` })).toMatchObject(
      {
        status: 400,
      },
    );
    expect(driver.calls()).toEqual(before);
  });

  it("in a JSON body, which has never known it, is a 400 and no write", async () => {
    const { address, driver } = await startWith(forAlice);
    const a = await actAs(alice);
    const before = driver.calls();
    for (const { parameters, json } of writes) {
      const asked = Object.fromEntries(Object.keys(parameters).map((field) => [field, wireValues[field]]));
      for (const path of json?.paths ?? []) {
        for (const dry_run of [true, false, null]) {
          const answer = await a.ask(address, {
            method: "POST",
            target: `/gpu/0/${path}?dry_run=true`,
            headers: { "content-type": "application/json" },
            body: JSON.stringify({ ...asked, block: true, dry_run }),
          });
          expect([path, answer.status, answer.headers["content-type"]]).toEqual([
            path,
            400,
            "text/plain; charset=utf-8",
          ]);
          expect(answer.body).toContain("dry_run");
        }
      }
    }
    expect(driver.calls()).toEqual(before);
  });
});

describe("who asks about themselves", () => {
  it("is told who they are and which rules are theirs, and no others", async () => {
    const ofGroup = rule("of a group", `gids = [${alice.groups[0] ?? alice.gid}]`, ["gpu-read"]);
    const { address } = await startWith(forAlice + ofGroup + rule("of others", "uids = [34009]", everything));
    const a = await actAs(alice);
    const { status, body } = await a.ask(address, { target: "/auth/whoami" });
    expect(status).toBe(200);
    expect(JSON.parse(body)).toMatchObject({
      uid: alice.uid,
      gid: alice.gid,
      groups: expect.arrayContaining([alice.gid]),
      pid: a.pid,
      you: `uid ${alice.uid}`,
      rules: [
        { rule: "for alice", allow: everything, gpus: "all" },
        { rule: "of a group", allow: ["gpu-read"], gpus: "all" },
      ],
    });
    expect(body).not.toContain("of others");
  });

  it("may ask what the policy says of others as root alone", async () => {
    const { address } = await startWith(forAlice + rule("more", uids(alice), ["gpu-read"]));
    const query = `operation=set_power_limit&power_limit_mw=200000&gpu_ids=0,1&uid=${alice.uid}`;
    const target = `/policy/explain?${query}`;
    const asOther = await (await actAs(alice)).ask(address, { target });
    expect([asOther.status, codeOf(asOther)]).toEqual([403, "forbidden"]);
    const asSelf = await (await actAs()).ask(address, { target });
    expect(asSelf.status).toBe(isRoot ? 200 : 403);
    if (!isRoot) return;
    const { operation, gpus } = JSON.parse(asSelf.body) as { operation: string; gpus: Record<string, unknown> };
    expect([operation, Object.keys(gpus)]).toEqual(["set_power_limit", ["0", "1"]]);
    expect(gpus["1"]).toEqual({
      allowed: true,
      rule: "for alice",
      rules: [
        { rule: "for alice", line: 1, because: "it decides" },
        { rule: "more", line: expect.any(Number), because: "not looked at any more" },
      ],
    });
    const [stranger] = [await (await actAs()).ask(address, { target: target.replace(/uid=\d+/, "uid=34009") })];
    expect(JSON.parse(stranger.body)).toMatchObject({ gpus: { 0: { allowed: false, refusal: expect.any(String) } } });
  });
});

// THE COMMAND LINE --------------------------------------------------------------------------------------------------------

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
