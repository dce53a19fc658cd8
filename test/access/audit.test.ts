// The audit: every line of it, and that none is lost without a word.
import { describe, expect, it } from "vitest";
import { Audit, type AuditSink } from "../../src/access/audit.ts";
import type { Asking } from "../../src/access/asking.ts";
import { RuleRefusal } from "../../src/access/rule-refusal.ts";
import type { Command, Ending, ReadBack } from "../../src/contract/command.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import { Health } from "../../src/contract/health.ts";
import type { Lease } from "../../src/contract/lease.ts";
import { createFakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";
import { actorOf, askingOf, commandOf, gpuOf, leaseOf, peerOf, ruleOf } from "./subjects.ts";

type Line = Readonly<Record<string, unknown>>;

const noon = Date.UTC(2026, 0, 31, 12);
const full = new Error("No space left on device (os error 28)");

function createSubject({ required = false } = {}) {
  const clock = createFakeClock(noon);
  const log = createQuietLog();
  const health = new Health();
  const written: string[] = [];
  /** What the sink does from now on; `reopen` is what is thrown by it. */
  const does = {
    append: undefined as Error | undefined,
    reopen: undefined as Error | undefined,
    held: 0,
    tries: 0,
    reopened: 0,
    closed: 0,
  };
  const sink: AuditSink = {
    append(lines) {
      does.tries += 1;
      if (does.append) throw does.append;
      written.push(...lines);
    },
    reopen() {
      does.reopened += 1;
      if (does.reopen) throw does.reopen;
    },
    close: () => void (does.closed += 1),
    get held() {
      return does.held;
    },
  };
  const audit = new Audit({ sink, clock, log, health, required });
  const texts = (): readonly string[] => {
    audit.flush();
    return written;
  };
  const at = (uid: number): Asking => askingOf(actorOf({ uid }));
  return {
    clock,
    log,
    health,
    audit,
    does,
    written,
    texts,
    lines: (): readonly Line[] => texts().map((text) => JSON.parse(text) as Line),
    /** Some write that ends now, and is written down now. */
    write() {
      audit.witness(at(1000), setLimit, new Map(), undefined).ended(endingOf());
      audit.flush();
    },
    /** What comes before some write. */
    begin: () => audit.begin(at(1000), setLimit, [gpuOf(0)]),
    /** Some refusal that is written down now. */
    refuse(uid = 1000) {
      audit.refused(at(uid), "set_power_limit", setLimit, no);
      audit.flush();
    },
    /** How many lines tell of refusals, by uid. */
    told: (uid: number): number =>
      texts().filter((text) => text.includes(`"uid":${uid},`) && text.includes('"outcome"')).length,
  };
}

const setLimit = commandOf("set_power_limit", { power_limit_mw: 300_000 });
const no = new ZeusdError("forbidden", "no");

function endingOf(more: Partial<Ending> = {}): Ending {
  return { target: gpuOf(0), endedMs: 0, before: {}, error: undefined, late: false, ...more };
}

interface Circumstances {
  readonly readBack?: ReadBack;
  readonly asking?: Asking;
  readonly command?: Command;
  readonly leases?: ReadonlyMap<number, Lease>;
}

/** The line of a write by uid 1000 that arrived after 10 ms and ended after 12.5 ms. */
function lineOf(
  ending: Partial<Ending> = {},
  { readBack, asking, command = setLimit, leases }: Circumstances = {},
): Line {
  const { audit, clock, lines } = createSubject();
  clock.skip(12.5);
  const request = asking ?? askingOf(actorOf({ uid: 1000 }), { arrivedMs: 10 });
  const witness = audit.witness(request, command, new Map([[0, ruleOf({ name: "lab" })]]), leases);
  witness.ended(endingOf({ endedMs: 12.5, ...ending }), readBack);
  const [line, ...others] = lines();
  expect(others).toEqual([]);
  return line ?? {};
}

describe("the line of a write", () => {
  it("that succeeded has when, who, what, on which device, what it was before and after, by which rule and within which lease", () => {
    const { audit, clock, texts } = createSubject();
    clock.skip(1003);
    const asking = askingOf(actorOf({ uid: 1000, sub: "alice" }), { id: "req-7", arrivedMs: 1000 });
    const witness = audit.witness(
      asking,
      { ...setLimit, block: false },
      new Map([
        [1, ruleOf({ name: "lab" })],
        [2, ruleOf({ name: "other" })],
      ]),
      new Map([
        [1, leaseOf(7)],
        [2, leaseOf(8)],
      ]),
    );
    const readBack: ReadBack = {
      kind: "done",
      set: { power_limit: { power_limit_mw: 300_000 } },
      enforced: { power_limit: { power_limit_mw: 250_000 } },
    };
    const before = { power_limit: { power_limit_mw: 400_000 } };
    witness.ended(endingOf({ target: gpuOf(1, { uuid: "GPU-1" }), endedMs: 1002.5, before }), readBack);
    const written = {
      time: "2026-01-31T12:00:01.002Z",
      request_id: "req-7",
      uid: 1000,
      pid: 4321,
      program: "train.py",
      sub: "alice",
      jti: "a1",
      operation: "set_power_limit",
      gpu: 1,
      uuid: "GPU-1",
      asked: { power_limit_mw: 300_000 },
      block: false,
      before: { power_limit: { power_limit_mw: 400_000 } },
      after: { power_limit: { power_limit_mw: 300_000 } },
      enforced: { power_limit: { power_limit_mw: 250_000 } },
      rule: "lab",
      lease: 7,
      outcome: "ok",
      duration_ms: 2.5,
    };
    expect(texts().map((text) => JSON.parse(text))).toEqual([written]);
    expect(Object.keys(JSON.parse(texts()[0] ?? ""))).toEqual(Object.keys(written));
  });

  it("leaves out what there is not", () => {
    expect(lineOf({}, { readBack: { kind: "done", set: {}, enforced: {} } })).toEqual({
      time: "2026-01-31T12:00:00.012Z",
      request_id: "r1",
      uid: 1000,
      pid: 4321,
      program: "train.py",
      operation: "set_power_limit",
      gpu: 0,
      asked: { power_limit_mw: 300_000 },
      block: true,
      before: {},
      after: {},
      rule: "lab",
      outcome: "ok",
      duration_ms: 2.5,
    });
  });

  it("over TCP has the address and the token instead of the process", () => {
    const asking = askingOf(actorOf({ sub: "alice" }), { address: "192.0.2.7" });
    const line = lineOf({}, { asking });
    expect(line).toMatchObject({ address: "192.0.2.7", sub: "alice", jti: "a1" });
    for (const key of ["uid", "pid", "program"]) expect(line).not.toHaveProperty(key);
  });

  it("of a process that cannot be named has its uid alone", () => {
    const peer = peerOf({ uid: 1000, program: () => undefined });
    const line = lineOf({}, { asking: askingOf({ peer }) });
    expect(line).toMatchObject({ uid: 1000 });
    for (const key of ["pid", "program", "sub", "jti", "address"]) expect(line).not.toHaveProperty(key);
  });

  it.each<[string, unknown, object]>([
    [
      "a failure of the driver",
      new ZeusdError("driver_error", "NVML error: Unknown"),
      { outcome: "driver_error", message: "NVML error: Unknown" },
    ],
    ["a mishap", new TypeError("x is not a function"), { outcome: "internal", message: "x is not a function" }],
    ["what is no Error", "gone", { outcome: "internal", message: "gone" }],
  ])("that ended with %s has it, and nothing that it would be afterwards", (_, error, outcome) => {
    const line = lineOf({ error, before: { power_limit: { power_limit_mw: 1 } } });
    expect(line).toMatchObject({ ...outcome, before: { power_limit: { power_limit_mw: 1 } }, gpu: 0, rule: "lab" });
    for (const key of ["after", "read_back", "late"]) expect(line).not.toHaveProperty(key);
  });

  it("that came late says so, whether it succeeded or not", () => {
    expect(lineOf({ late: true })).toMatchObject({ late: true, outcome: "ok" });
    expect(lineOf({ late: true, error: new ZeusdError("driver_error", "x") })).toMatchObject({
      late: true,
      outcome: "driver_error",
    });
    expect(lineOf()).not.toHaveProperty("late");
  });

  it.each<[ReadBack, object]>([
    [{ kind: "superseded" }, { after: null, read_back: "superseded" }],
    [{ kind: "untold" }, { after: null, read_back: "untold" }],
    [
      { kind: "failed", reason: "NVML error: x" },
      { after: null, read_back: "failed", reason: "NVML error: x" },
    ],
  ])("that could not be read back says why: %j", (readBack, told) => {
    const line = lineOf({}, { readBack });
    expect(line).toMatchObject({ outcome: "ok", ...told });
    expect(Object.keys(line).filter((key) => ["after", "read_back", "reason", "enforced"].includes(key))).toEqual(
      Object.keys(told),
    );
  });

  it("says of settings that were reset that they are", () => {
    const readBack: ReadBack = { kind: "done", set: { gpu_clocks: {}, memory_clocks: {} }, enforced: {} };
    const command = commandOf("reset_locked_clocks");
    expect(
      lineOf({ before: { gpu_clocks: { min_clock_mhz: 1, max_clock_mhz: 2 } } }, { readBack, command }),
    ).toMatchObject({
      operation: "reset_locked_clocks",
      asked: {},
      before: { gpu_clocks: { min_clock_mhz: 1, max_clock_mhz: 2 } },
      after: { gpu_clocks: {}, memory_clocks: {} },
    });
  });

  it("has the rule of its own device, and none where there is no policy", () => {
    const { audit, lines } = createSubject();
    const witness = audit.witness(
      askingOf(actorOf({ uid: 1 })),
      setLimit,
      new Map([
        [0, ruleOf({ name: "a" })],
        [1, ruleOf({ name: "b" })],
      ]),
      undefined,
    );
    for (const id of [1, 0, 2]) witness.ended(endingOf({ target: gpuOf(id) }));
    expect(lines().map(({ gpu, rule }) => [gpu, rule])).toEqual([
      [1, "b"],
      [0, "a"],
      [2, undefined],
    ]);
  });

  it("has the lease of its own device, by its number and not by the id that only whoever acquired it knows", () => {
    const { audit, texts } = createSubject();
    const lease = leaseOf(3, { id: "0123456789abcdef0123456789abcdef", reason: "night run" });
    const leases = new Map([
      [0, lease],
      [1, leaseOf(4, { implicit: true })],
    ]);
    const witness = audit.witness(askingOf(actorOf({ uid: 1 })), setLimit, new Map(), leases);
    for (const id of [2, 1, 0]) witness.ended(endingOf({ target: gpuOf(id) }));
    const lines = texts().map((text) => JSON.parse(text) as Line);
    expect(lines.map((line) => [line["gpu"], line["lease"]])).toEqual([
      [2, undefined],
      [1, 4],
      [0, 3],
    ]);
    expect(texts().join("")).not.toContain(lease.id);
  });

  it("that ended with its lease has its number all the same", () => {
    const error = new ZeusdError("no_such_lease", "Lease 3 has ended");
    const leases = new Map([[0, leaseOf(3)]]);
    expect(lineOf({ error }, { leases })).toMatchObject({ lease: 3, outcome: "no_such_lease" });
    expect(lineOf({}, { leases: new Map() })).not.toHaveProperty("lease");
  });

  it("has the time and the duration of its end, however long ago that was", () => {
    const { audit, clock, lines } = createSubject();
    clock.skip(60_000);
    const witness = audit.witness(askingOf(actorOf({ uid: 1 }), { arrivedMs: 59_000 }), setLimit, new Map(), undefined);
    clock.skip(60_000);
    witness.ended(endingOf({ endedMs: 60_250.123_456 }));
    expect(lines()).toMatchObject([{ time: "2026-01-31T12:01:00.250Z", duration_ms: 1250.123 }]);
  });

  it("has the name that the program had when it asked, though another has it by the time that the line is written", () => {
    const { audit, lines } = createSubject();
    let now: string | undefined = "train.py";
    let first: { readonly name: string | undefined } | undefined;
    // As the peer of a connection does, it is read once.
    const program = (): string | undefined => (first ??= { name: now }).name;
    const peer = peerOf({ uid: 1, pid: 7, program });
    const witness = audit.witness(askingOf({ peer }), setLimit, new Map(), undefined);
    now = "impostor";
    for (const id of [0, 1]) witness.ended(endingOf({ target: gpuOf(id) }));
    expect(lines().map((line) => line["program"])).toEqual(["train.py", "train.py"]);
  });

  it("is one line, whatever a client puts into it", () => {
    const { audit, texts } = createSubject();
    const said = 'x\n{"outcome":"ok"}\u2028\r\0\u009b2J\u202e\u007f';
    const asking = askingOf(actorOf({ uid: 1, sub: said }), { id: said, path: said, address: said });
    const rules = new Map([[0, ruleOf({ name: said })]]);
    audit.witness(asking, setLimit, rules, undefined).ended(endingOf({ error: new Error(said) }));
    audit.refused(asking, undefined, undefined, new Error(said));
    expect(texts().map((text) => /[\n\r\0\u007f-\u009f\u2028-\u202e]/.test(text))).toEqual([false, false]);
    expect(texts().map((text) => (JSON.parse(text) as Line)["sub"])).toEqual([said, said]);
  });
});

describe("the line of a refusal", () => {
  it("of the policy has the rule that says no, and what was asked for", () => {
    const { audit, clock, texts } = createSubject();
    clock.skip(5);
    const refusal = new RuleRefusal("forbidden", "power_limit_mw 300000 is above 200000", "lab");
    const command = { ...setLimit, devices: [1, "GPU-a"] };
    audit.refused(
      askingOf(actorOf({ uid: 1000, sub: "alice" }), { arrivedMs: 3.5 }),
      "set_power_limit",
      command,
      refusal,
    );
    const written = {
      time: "2026-01-31T12:00:00.005Z",
      request_id: "r1",
      uid: 1000,
      pid: 4321,
      program: "train.py",
      sub: "alice",
      jti: "a1",
      operation: "set_power_limit",
      gpus: [1, "GPU-a"],
      asked: { power_limit_mw: 300_000 },
      rule: "lab",
      outcome: "forbidden",
      message: "power_limit_mw 300000 is above 200000",
      duration_ms: 1.5,
    };
    expect(texts().map((text) => JSON.parse(text))).toEqual([written]);
    expect(Object.keys(JSON.parse(texts()[0] ?? ""))).toEqual(Object.keys(written));
  });

  it("has no rule where none matched", () => {
    const { audit, lines } = createSubject();
    const refusal = new RuleRefusal("forbidden", "no rule of the policy is for uid 1", undefined);
    audit.refused(askingOf(actorOf({ uid: 1 })), "set_power_limit", setLimit, refusal);
    expect(lines()).toMatchObject([{ outcome: "forbidden", gpus: "all" }]);
    expect(lines()[0]).not.toHaveProperty("rule");
  });

  it("of a CPU's operation and of a dry run says that it is one", () => {
    const { audit, lines } = createSubject();
    const asking = askingOf(actorOf({ uid: 1 }));
    audit.refused(asking, "get_power", commandOf("cpu/get_power", {}, { devices: [3] }), no);
    audit.refused(asking, "set_power_limit", { ...setLimit, dryRun: true }, no);
    expect(lines()).toMatchObject([{ cpus: [3] }, { gpus: "all", dry_run: true }]);
    expect(lines()[0]).not.toHaveProperty("gpus");
    expect(lines()[0]).not.toHaveProperty("dry_run");
  });

  it("before it was read has the operation alone, or the request line if there is none", () => {
    const { audit, lines } = createSubject();
    const asking = askingOf(actorOf({ uid: 1 }), { method: "DELETE", path: "/gpu/x?y=%20" });
    audit.refused(asking, "set_power_limit", undefined, new ZeusdError("unauthenticated", "Token has expired."));
    audit.refused(asking, undefined, undefined, new ZeusdError("unauthenticated", "Token has expired."));
    const [one, other] = lines();
    expect(one).toMatchObject({
      operation: "set_power_limit",
      outcome: "unauthenticated",
      message: "Token has expired.",
    });
    expect(other).toMatchObject({ request: "DELETE /gpu/x?y=%20", outcome: "unauthenticated" });
    for (const key of ["request", "asked", "gpus", "cpus"]) expect(one).not.toHaveProperty(key);
    for (const key of ["operation", "asked", "gpus", "cpus"]) expect(other).not.toHaveProperty(key);
  });

  it("for more than 64 devices has 64 of them and how many more", () => {
    const { audit, lines } = createSubject();
    const asking = askingOf(actorOf({ uid: 1 }));
    const ids = Array.from({ length: 20_000 }, (_, index) => index);
    for (const count of [64, 65, 20_000])
      audit.refused(asking, "set_power_limit", { ...setLimit, devices: ids.slice(0, count) }, no);
    audit.refused(asking, "get_power", commandOf("cpu/get_power", {}, { devices: ids.slice(0, 66) }), no);
    const first = ids.slice(0, 64);
    expect(lines().map(({ gpus, cpus }) => gpus ?? cpus)).toEqual([
      first,
      [...first, "and 1 more"],
      [...first, "and 19936 more"],
      [...first, "and 2 more"],
    ]);
  });

  it("has no more than the beginning of a path", () => {
    const { audit, texts } = createSubject();
    const path = `/${"x".repeat(16_000)}`;
    audit.refused(askingOf(actorOf({ uid: 1 }), { path }), undefined, undefined, no);
    expect(JSON.parse(texts()[0] ?? "")).toMatchObject({ request: `POST ${path.slice(0, 200)}` });
    expect(texts()[0]?.length).toBeLessThan(1000);
  });
});

describe("many refusals", () => {
  it("of one actor are written down up to a hundred at once, and counted from there on", async () => {
    const { refuse, told, clock, lines } = createSubject();
    for (let time = 0; time < 150; time += 1) refuse();
    expect(told(1000)).toBe(100);
    await clock.advance(9_999);
    expect(lines()).toHaveLength(100);
    await clock.advance(1);
    expect(lines().slice(100)).toEqual([
      { time: "2026-01-31T12:00:10.000Z", event: "refusals_omitted", actor: "uid 1000", count: 50 },
    ]);
    await clock.advance(60_000);
    expect(lines()).toHaveLength(101);
    expect(clock.pending).toBe(0);
  });

  it("of one actor leave another's their lines", () => {
    const { refuse, told } = createSubject();
    for (let time = 0; time < 150; time += 1) refuse();
    for (let time = 0; time < 5; time += 1) refuse(1001);
    expect([told(1000), told(1001)]).toEqual([100, 5]);
  });

  it("are counted for each actor, and written down again once the actor comes less often", async () => {
    const { refuse, told, clock, lines } = createSubject();
    for (let time = 0; time < 103; time += 1) refuse();
    await clock.advance(5_000);
    for (let time = 0; time < 101; time += 1) refuse(1001);
    // Ten a second are written down again.
    for (let time = 0; time < 52; time += 1) refuse();
    expect([told(1000), told(1001)]).toEqual([150, 100]);
    await clock.advance(30_000);
    expect(lines().filter(({ event }) => event === "refusals_omitted")).toMatchObject([
      { actor: "uid 1000", count: 5, time: "2026-01-31T12:00:10.000Z" },
      { actor: "uid 1001", count: 1, time: "2026-01-31T12:00:15.000Z" },
    ]);
    for (let time = 0; time < 101; time += 1) refuse();
    await clock.advance(10_000);
    expect(lines().at(-1)).toMatchObject({ event: "refusals_omitted", actor: "uid 1000", count: 1 });
  });

  it("over TCP are told apart by the token, wherever they come from", async () => {
    const { audit, clock, lines } = createSubject();
    const refuse = (sub: string, address: string): void =>
      audit.refused(askingOf(actorOf({ sub }), { address }), "set_power_limit", setLimit, no);
    for (let time = 0; time < 102; time += 1) refuse("alice", `192.0.2.${time}`);
    refuse("bob", "192.0.2.7");
    expect(lines()).toHaveLength(101);
    await clock.advance(10_000);
    expect(lines().at(-1)).toMatchObject({
      event: "refusals_omitted",
      actor: expect.stringContaining("alice"),
      count: 2,
    });
  });

  const unknown = (address: string): Asking => askingOf(actorOf({}), { address });

  it.each([
    ["192.0.2.7", "addresses 192.0.2.7", ["::ffff:192.0.2.7"]],
    ["127.0.0.1", "addresses loopback", ["127.9.9.9", "::1", "::ffff:127.0.0.2"]],
    ["2001:db8:1:2:3:4:5:6", "addresses 2001:db8:1:2", ["2001:db8:1:2:ffff:0:0:1"]],
  ])("over TCP without a token are told apart by where they come from: %s", async (address, actor, same) => {
    const { audit, clock, lines } = createSubject();
    const refuse = (from: string): void => audit.refused(unknown(from), "set_power_limit", setLimit, no);
    for (let time = 0; time < 60; time += 1) refuse(address);
    for (const other of same) for (let time = 0; time < 60; time += 1) refuse(other);
    expect(lines()).toHaveLength(100);
    await clock.advance(10_000);
    expect(lines().at(-1)).toMatchObject({ event: "refusals_omitted", actor, count: 60 * same.length - 40 });
  });

  it("of any number of addresses without a token have one share together, of which those with a token have none", () => {
    const { audit, lines, refuse } = createSubject();
    for (let time = 0; time < 1000; time += 1)
      audit.refused(unknown(`192.0.${time >> 8}.${time & 255}`), "set_power_limit", setLimit, no);
    expect(lines()).toHaveLength(100);
    audit.refused(askingOf(actorOf({ sub: "a" }), { address: "192.0.2.7" }), "set_power_limit", setLimit, no);
    refuse();
    expect(lines()).toHaveLength(102);
  });

  it("leave the writes of the same actor their lines", () => {
    const { refuse, write, lines } = createSubject();
    for (let time = 0; time < 150; time += 1) refuse();
    write();
    expect(lines()).toHaveLength(101);
    expect(lines().at(-1)).toMatchObject({ outcome: "ok" });
  });
});

describe("when lines cannot be written", () => {
  const unavailable = {
    code: "audit_unavailable",
    status: 503,
    message: "The audit log cannot be written, and nothing may be changed without it.",
    retryAfterS: 1,
  };
  const degraded = [["audit", "The audit log cannot be written."]];

  it("it can be seen, is logged once, and the number of lost lines is written down as soon as it works again", () => {
    const { write, refuse, does, health, log, lines, clock } = createSubject();
    write();
    does.append = full;
    write();
    refuse();
    write();
    expect([...health.problems]).toEqual(degraded);
    expect(log.lines).toEqual(["error The audit log cannot be written: No space left on device (os error 28)"]);
    expect(lines()).toHaveLength(1);
    does.append = undefined;
    clock.skip(2000);
    write();
    expect(lines().slice(1)).toMatchObject([
      { event: "lines_lost", count: 3, time: "2026-01-31T12:00:02.000Z" },
      { outcome: "ok" },
    ]);
    expect(health.problems.size).toBe(0);
    expect(log.lines.slice(1)).toEqual(["warn The audit log can be written again; 3 lines were lost"]);
    write();
    expect(lines()).toHaveLength(4);
  });

  it("a second time, only what was lost since is told", () => {
    const { write, does, lines, health, log } = createSubject();
    for (const lost of [2, 1]) {
      does.append = full;
      for (let time = 0; time < lost; time += 1) write();
      does.append = undefined;
      write();
    }
    expect(lines().filter(({ event }) => event === "lines_lost")).toMatchObject([{ count: 2 }, { count: 1 }]);
    expect(health.problems.size).toBe(0);
    expect(log.lines).toHaveLength(4);
  });

  it("again right after their number was told, the line is counted and it can be seen", () => {
    const { write, begin, does, lines, health } = createSubject({ required: true });
    does.append = full;
    write();
    does.append = undefined;
    begin();
    does.append = full;
    write();
    expect([...health.problems]).toEqual(degraded);
    does.append = undefined;
    write();
    expect(lines()).toMatchObject([
      { event: "lines_lost", count: 1 },
      { event: "begins" },
      { event: "lines_lost", count: 1 },
      { outcome: "ok" },
    ]);
  });

  it("the count of omitted refusals is itself a line that can be lost", async () => {
    const { refuse, does, clock, lines, write } = createSubject();
    for (let time = 0; time < 101; time += 1) refuse();
    does.append = full;
    await clock.advance(10_100);
    does.append = undefined;
    write();
    expect(lines().slice(100)).toMatchObject([{ event: "lines_lost", count: 1 }, { outcome: "ok" }]);
  });

  it("and they are required, no write may be made from the first on, until it works again, of which each makes sure", () => {
    const { begin, does, lines, health } = createSubject({ required: true });
    begin();
    does.append = full;
    for (let time = 0; time < 3; time += 1) expect(begin).toThrow(expect.objectContaining(unavailable));
    expect([...health.problems]).toEqual(degraded);
    does.append = undefined;
    begin();
    expect(lines()).toMatchObject([{ event: "begins" }, { event: "lines_lost", count: 3 }, { event: "begins" }]);
    expect(health.problems.size).toBe(0);
  });

  it("and they are required, no write may be made while lines of others are lost, though there may be room for its own", () => {
    const { begin, write, does, lines } = createSubject({ required: true });
    does.append = full;
    write();
    expect(begin).toThrow(expect.objectContaining(unavailable));
    does.append = undefined;
    begin();
    expect(lines()).toMatchObject([{ event: "lines_lost", count: 2 }, { event: "begins" }]);
  });

  it("and they are required, no write may be made while the log holds lines that it has not handed on", () => {
    const { begin, does } = createSubject({ required: true });
    does.held = 1;
    expect(begin).toThrow(expect.objectContaining(unavailable));
    does.held = 0;
    begin();
  });

  it("and they are not required, writes go on, and nothing is written down before they are made", () => {
    const { write, begin, does, lines } = createSubject();
    begin();
    expect(lines()).toEqual([]);
    does.append = full;
    write();
    const { tries } = does;
    begin();
    expect(does.tries).toBe(tries);
  });
});

describe("the line of a write that is about to be made, where lines are required,", () => {
  it("is written at once, before anything that waits for it, with who, what and on which devices", () => {
    const { audit, clock, written } = createSubject({ required: true });
    clock.skip(1003);
    const asking = askingOf(actorOf({ uid: 1000, sub: "alice" }), { id: "req-7", arrivedMs: 1000 });
    audit.refused(askingOf(actorOf({ uid: 2 })), "set_power_limit", setLimit, no);
    audit.begin(asking, { ...setLimit, devices: ["GPU-1", 0], block: false }, [gpuOf(1, { uuid: "GPU-1" }), gpuOf(0)]);
    const line = {
      time: "2026-01-31T12:00:01.003Z",
      event: "begins",
      request_id: "req-7",
      uid: 1000,
      pid: 4321,
      program: "train.py",
      sub: "alice",
      jti: "a1",
      operation: "set_power_limit",
      gpus: [1, 0],
      asked: { power_limit_mw: 300_000 },
      block: false,
    };
    expect(written.map((text) => JSON.parse(text))).toEqual([expect.objectContaining({ uid: 2 }), line]);
    expect(Object.keys(JSON.parse(written[1] ?? ""))).toEqual(Object.keys(line));
  });

  it("over TCP has the address instead of the process", () => {
    const { audit, lines } = createSubject({ required: true });
    audit.begin(askingOf(actorOf({ sub: "alice" }), { address: "192.0.2.7" }), setLimit, [gpuOf(0)]);
    expect(lines()).toMatchObject([{ event: "begins", address: "192.0.2.7", sub: "alice", gpus: [0] }]);
    for (const key of ["uid", "pid", "program"]) expect(lines()[0]).not.toHaveProperty(key);
  });
});

describe("closing", () => {
  it("writes down what waits, and how many refusals were left out, and lets go of the log", async () => {
    const { audit, refuse, does, written, clock, log } = createSubject();
    for (let time = 0; time < 150; time += 1) refuse();
    for (let time = 0; time < 103; time += 1) refuse(1001);
    audit.witness(askingOf(actorOf({ uid: 1 })), setLimit, new Map(), undefined).ended(endingOf());
    audit.close();
    const lines = written.map((text) => JSON.parse(text) as Line);
    expect(lines.filter((line) => line["outcome"] === "forbidden")).toHaveLength(200);
    expect(lines.slice(200)).toEqual([
      expect.objectContaining({ outcome: "ok" }),
      { time: "2026-01-31T12:00:00.000Z", event: "refusals_omitted", actor: "uid 1000", count: 50 },
      { time: "2026-01-31T12:00:00.000Z", event: "refusals_omitted", actor: "uid 1001", count: 3 },
    ]);
    expect([does.closed, log.lines]).toEqual([1, []]);
    await clock.advance(60_000);
    expect(written).toHaveLength(203);
  });

  it("says how many lines the log has not handed on", () => {
    const { audit, does, log } = createSubject();
    does.held = 3;
    audit.close();
    expect(log.lines).toEqual(["error The audit log has not taken 3 lines, which are lost"]);
  });
});

describe("lines", () => {
  it("that come shortly after each other are written together and in order, within a tenth of a second of the first", async () => {
    const { audit, clock, written, does } = createSubject();
    const witness = audit.witness(askingOf(actorOf({ uid: 1 })), setLimit, new Map(), undefined);
    for (const id of [0, 1]) witness.ended(endingOf({ target: gpuOf(id) }));
    audit.refused(askingOf(actorOf({ uid: 2 })), "set_power_limit", setLimit, no);
    await clock.advance(1);
    for (const id of [2, 3]) witness.ended(endingOf({ target: gpuOf(id) }));
    await clock.advance(99);
    expect(written.map((text) => (JSON.parse(text) as Line)["gpu"] ?? "refusal")).toEqual([0, 1, "refusal", 2, 3]);
    expect(does.tries).toBe(1);
    witness.ended(endingOf({ target: gpuOf(4) }));
    await clock.advance(100);
    expect(written).toHaveLength(6);
    expect(clock.pending).toBe(0);
  });

  it("that wait are written at once when they have to be, and not a second time", async () => {
    const { audit, clock, written, does } = createSubject();
    audit.witness(askingOf(actorOf({ uid: 1 })), setLimit, new Map(), undefined).ended(endingOf());
    audit.flush();
    expect(written).toHaveLength(1);
    audit.flush();
    await clock.advance(100);
    expect(written).toHaveLength(1);
    expect(does.tries).toBe(1);
  });

  it("that were to be written together and could not be are all counted", () => {
    const { audit, does, lines } = createSubject();
    does.append = full;
    const witness = audit.witness(askingOf(actorOf({ uid: 1 })), setLimit, new Map(), undefined);
    for (const id of [0, 1, 2]) witness.ended(endingOf({ target: gpuOf(id) }));
    audit.flush();
    for (const id of [0, 1]) witness.ended(endingOf({ target: gpuOf(id) }));
    audit.flush();
    does.append = undefined;
    witness.ended(endingOf({ target: gpuOf(3) }));
    expect(lines()).toMatchObject([{ event: "lines_lost", count: 5 }, { gpu: 3 }]);
  });
});

describe("when the log is to be opened anew", () => {
  it("it is", () => {
    const { audit, does, log, health } = createSubject();
    audit.reopen();
    expect(does.reopened).toBe(1);
    expect(log.lines).toEqual([]);
    expect(health.problems.size).toBe(0);
  });

  it("and cannot be, it can be seen and is logged, until it can", () => {
    const { audit, does, log, health } = createSubject();
    does.reopen = new Error("Permission denied (os error 13)");
    audit.reopen();
    expect([...health.problems]).toEqual([
      ["audit_reopen", "The audit log could not be opened again; the file that was open is in use."],
    ]);
    expect(log.lines).toEqual([
      "error The audit log could not be opened again, and goes on in the file that was open: Permission denied (os error 13)",
    ]);
    does.reopen = undefined;
    audit.reopen();
    expect(health.problems.size).toBe(0);
  });
});
