// The gate: all or nothing over the devices of a command, in a fixed order of checks, and within the rates of the rules.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Actor } from "../../src/access/actor.ts";
import { Audit } from "../../src/access/audit.ts";
import { Gate, type Permit } from "../../src/access/gate.ts";
import type { Command } from "../../src/contract/command.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import { Health } from "../../src/contract/health.ts";
import { gpuKey, type Lease, type LeaseBook } from "../../src/contract/lease.ts";
import type { Target } from "../../src/contract/target.ts";
import { createFakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";
import { actorOf, askingOf, commandOf, cpuOf, gpuOf, leaseOf, noLeases, policyOf, type Draft } from "./subjects.ts";

const alice = actorOf({ uid: 1000 });
const bob = actorOf({ uid: 1001 });
const fourGpus = [0, 1, 2, 3].map((id) => gpuOf(id));
const setLimit = commandOf("set_power_limit", { power_limit_mw: 300_000 });
const readLimit = commandOf("get_power_limit");

interface Options {
  /** Absent means no policy. */
  readonly rules?: readonly Draft[];
  readonly audit?: "kept" | "required" | "broken";
  readonly leases?: LeaseBook;
  readonly restoreOnExit?: boolean;
}

function createSubject({ rules, audit, leases = noLeases, restoreOnExit = false }: Options = {}) {
  const clock = createFakeClock();
  const log = createQuietLog();
  /** What the audit has written down. */
  const written: string[] = [];
  const inForce = { policy: rules && policyOf(...rules), auditWorks: audit !== "broken" };
  const sink = {
    append(lines: readonly string[]) {
      if (!inForce.auditWorks) throw new Error("No space left on device (os error 28)");
      written.push(...lines);
    },
    reopen() {},
    close() {},
  };
  const parts = { sink, clock, log, health: new Health(), required: audit !== "kept" };
  const ofAudit = audit && new Audit(parts);
  const { policy } = inForce;
  const gate = new Gate({
    clock,
    leases,
    restoreOnExit,
    ...(policy ? { policy: () => inForce.policy ?? policy } : {}),
    ...(ofAudit ? { audit: ofAudit } : {}),
  });
  const permit = (actor: Actor, command: Command, targets: readonly Target[]): Permit =>
    gate.permit(askingOf(actor, { arrivedMs: clock.monotonicMs() }), command, targets);
  return {
    clock,
    inForce,
    lines(): readonly string[] {
      ofAudit?.flush();
      return written;
    },
    permit,
    audit: ofAudit,
    /** The rules that allow it, or the code and the text of the refusal. */
    answer(command: Command = setLimit, { actor = alice, targets = fourGpus.slice(0, 1) } = {}): string {
      try {
        return (
          [...permit(actor, command, targets).rules].map(([id, { name }]) => `${id} ${name}`).join(", ") || "allowed"
        );
      } catch (error) {
        if (error instanceof ZeusdError) return `${error.code}: ${error.message}`;
        throw error;
      }
    },
  };
}

function refusalOf(attempt: () => unknown): ZeusdError {
  try {
    attempt();
  } catch (error) {
    if (error instanceof ZeusdError) return error;
    throw error;
  }
  throw new Error("It was allowed");
}

describe("without a policy", () => {
  it.each([undefined, "kept", "required"] as const)("everything passes, with the audit %j", (audit) => {
    const { answer } = createSubject(audit ? { audit } : {});
    for (const targets of [fourGpus, [gpuOf(0, { model: undefined })], []])
      for (const command of [setLimit, readLimit, { ...setLimit, dryRun: true }])
        expect(answer(command, { targets, actor: actorOf({}) })).toBe("allowed");
    expect(answer(commandOf("cpu/get_power"), { targets: [cpuOf(0)] })).toBe("allowed");
  });

  it("writes have a witness if there is an audit, and reads have none", () => {
    const { permit } = createSubject({ audit: "kept" });
    expect(permit(alice, setLimit, fourGpus).witness).toBeDefined();
    expect(permit(alice, readLimit, fourGpus).witness).toBeUndefined();
    expect(createSubject().permit(alice, setLimit, fourGpus).witness).toBeUndefined();
  });
});

describe("a command for several devices", () => {
  const own: Draft = { name: "own", gpus: [0, 1], rate: { writesPerSecond: 1, burst: 2 } };
  const capped: Draft = { name: "capped", gpus: [2], bounds: [{ power_limit_mw: { max: 200_000 } }] };
  const rest: Draft = { name: "rest", allow: ["gpu-read"] };

  it("is told which rule allows it on which", () => {
    const { answer } = createSubject({ rules: [own, { name: "all" }] });
    expect(answer(setLimit, { targets: fourGpus })).toBe("0 own, 1 own, 2 all, 3 all");
  });

  it("is refused as a whole if it is on one of them, whichever it is, and uses up no rate", () => {
    const { answer } = createSubject({ rules: [own, capped, rest] });
    const [g0, g1, g2, g3] = [gpuOf(0), gpuOf(1), gpuOf(2), gpuOf(3)];
    const above = 'forbidden: power_limit_mw 300000 is above 200000, the most that rule "capped" allows on GPU 2';
    const orders = [
      [g0, g1, g2],
      [g2, g0, g1],
      [g0, g2],
    ];
    for (const targets of orders) expect(answer(setLimit, { targets })).toBe(above);
    expect(answer(setLimit, { targets: [g0, g3] })).toMatch(
      /^forbidden: rule "own" allows set_power_limit to uid 1000 on GPU 0, 1 only, and not on GPU 3$/,
    );
    expect(answer(readLimit, { targets: [g3, g2] })).toBe("3 rest, 2 capped");
    expect(answer(setLimit, { targets: [g0, g1] })).toBe("0 own, 1 own");
  });

  it("is refused as a whole if the rate of one of its rules is used up, and uses up none of the others", () => {
    const slow: Draft = { name: "slow", gpus: [2], rate: { writesPerSecond: 0.1, burst: 1 } };
    const { answer, clock } = createSubject({ rules: [own, slow] });
    const [g0, g1, g2] = fourGpus;
    if (!g0 || !g1 || !g2) throw new Error("There are four");
    expect(answer(setLimit, { targets: [g2] })).toBe("2 slow");
    for (const targets of [
      [g0, g1, g2],
      [g2, g1, g0],
      [g0, g2],
    ])
      expect(answer(setLimit, { targets })).toMatch(
        /^rate_limited: .* rule "slow" allows 0.1 writes a second, 1 at once/,
      );
    expect(answer(setLimit, { targets: [g0, g1] })).toBe("0 own, 1 own");
    clock.skip(10_000);
    expect(answer(setLimit, { targets: [g0, g1, g2] })).toBe("0 own, 1 own, 2 slow");
  });

  it("names in its refusal the rule that says no, and none where none matches", () => {
    const { permit } = createSubject({ rules: [own, capped] });
    const g2 = [gpuOf(2)];
    expect(refusalOf(() => permit(alice, setLimit, g2))).toMatchObject({
      code: "forbidden",
      status: 403,
      rule: "capped",
    });
    expect(refusalOf(() => permit(alice, readLimit, [gpuOf(3)]))).toMatchObject({ code: "forbidden", rule: undefined });
    expect(refusalOf(() => permit(alice, setLimit, [gpuOf(0), gpuOf(1)].concat(g2))).retryAfterS).toBeUndefined();
  });

  it("that can be judged on no GPU that has never been there is not forbidden, but may be tried again", () => {
    const { permit, answer } = createSubject({ rules: [{ name: "all" }] });
    const targets = [gpuOf(0), gpuOf(1, { model: undefined })];
    const text = "gpu_away: GPU 1 has not been there yet, so that the policy cannot be applied to it";
    expect(answer(setLimit, { targets })).toBe(text);
    expect(answer(readLimit, { targets })).toBe(text);
    expect(refusalOf(() => permit(alice, setLimit, targets))).toMatchObject({ status: 503, retryAfterS: 5 });
    expect(answer(commandOf("cpu/get_power"), { targets: [cpuOf(0)] })).toBe("0 all");
  });
});

describe("the order of the checks is", () => {
  const rate = { writesPerSecond: 1, burst: 1 };

  it("first whether it is forbidden, then how often it comes, then whether it can be written down", () => {
    const { answer, inForce, clock } = createSubject({
      audit: "required",
      rules: [{ name: "own", allow: ["set_power_limit"], rate }],
    });
    expect(answer()).toBe("0 own");
    inForce.auditWorks = false;
    expect(answer(commandOf("reset_locked_clocks"))).toMatch(/^forbidden: no rule of the policy allows reset_locked/);
    expect(answer()).toMatch(/^rate_limited: /);
    clock.skip(1000);
    expect(answer()).toBe("audit_unavailable: The audit log cannot be written, and nothing may be changed without it.");
    inForce.auditWorks = true;
    expect(answer()).toBe("0 own");
  });

  it("and what cannot be written down uses up no rate", () => {
    const { answer, inForce } = createSubject({ audit: "broken", rules: [{ name: "own", rate }] });
    for (let time = 0; time < 3; time += 1) expect(answer()).toMatch(/^audit_unavailable: /);
    inForce.auditWorks = true;
    expect(answer()).toBe("0 own");
    expect(answer()).toMatch(/^rate_limited: /);
  });

  it("and reads and dry runs go on where nothing can be written down, and writes too where that is not required", () => {
    const required = createSubject({ audit: "broken", rules: [{ name: "own" }] });
    for (const command of [readLimit, { ...setLimit, dryRun: true }]) expect(required.answer(command)).toBe("0 own");
    expect(required.answer()).toMatch(/^audit_unavailable: /);
    const kept = createSubject({ audit: "kept", rules: [{ name: "own" }] });
    kept.inForce.auditWorks = false;
    for (let time = 0; time < 3; time += 1) {
      expect(kept.answer()).toBe("0 own");
      expect(kept.lines()).toEqual([]);
    }
  });

  it("and what is refused, a read or a dry run is not written down as a write that begins", () => {
    const { answer, lines } = createSubject({ audit: "required", rules: [{ name: "own", uids: [1000], rate }] });
    expect(answer(setLimit, { actor: bob })).toMatch(/^forbidden: /);
    expect(answer({ ...setLimit, dryRun: true })).toBe("0 own");
    expect(answer(readLimit)).toBe("0 own");
    expect(lines()).toEqual([]);
    expect(answer()).toBe("0 own");
    expect(answer()).toMatch(/^rate_limited: /);
    expect(lines().map((line) => JSON.parse(line))).toMatchObject([{ event: "begins", uid: 1000, gpus: [0] }]);
  });
});

describe("leases", () => {
  /** A book with these leases, by GPU; who asks for an implicit one gets number 99. It tells what it was asked. */
  function bookOf(held: Readonly<Record<number, Lease | ZeusdError>>) {
    const asked: string[] = [];
    const book: LeaseBook = {
      isEmpty: Object.keys(held).length === 0,
      claim({ peer, sub }, gpu, gpuName, leaseId) {
        asked.push([`uid ${peer?.uid} sub ${sub}`, gpu, gpuName, leaseId].join(", "));
        const [, found] = Object.entries(held).find(([id]) => gpuKey(gpuOf(Number(id))) === gpu) ?? [];
        if (found instanceof ZeusdError) throw found;
        return found;
      },
      implicit({ peer }) {
        asked.push(`an implicit one for uid ${peer?.uid}`);
        return leaseOf(99, { implicit: true, gpus: [] });
      },
    };
    return { book, asked };
  }
  const numbersOf = ({ leases }: Permit): unknown =>
    leases && Object.fromEntries([...leases].map(([id, { number }]) => [id, number]));
  const held = new ZeusdError("held", "GPU 1 is held by lease 3");
  const rate = { writesPerSecond: 1, burst: 1 };
  const targets = fourGpus.slice(0, 2);

  it("are looked up for each GPU of a write, with who asks and the id that was given", () => {
    const { book, asked } = bookOf({ 0: leaseOf(7) });
    const { permit } = createSubject({ leases: book });
    expect(numbersOf(permit(actorOf({ uid: 1000, sub: "anna" }), { ...setLimit, leaseId: "ab" }, targets))).toEqual({
      0: 7,
    });
    expect(asked).toEqual(["uid 1000 sub anna, gpu 0, GPU 0, ab", "uid 1000 sub anna, gpu 1, GPU 1, ab"]);
  });

  it("are not looked up for reads, nor where there are none and nothing says that there should be", () => {
    const { book, asked } = bookOf({});
    for (const rules of [undefined, [{ name: "own" }], [{ name: "own", lease: "forbidden" } as const]]) {
      const { permit } = createSubject({ leases: book, ...(rules ? { rules } : {}) });
      expect(numbersOf(permit(alice, setLimit, targets))).toBeUndefined();
    }
    const some = bookOf({ 0: leaseOf(7) });
    const { permit } = createSubject({ leases: some.book, restoreOnExit: true });
    expect(numbersOf(permit(alice, readLimit, targets))).toBeUndefined();
    expect([...asked, ...some.asked]).toEqual([]);
  });

  it("that are named are looked up where there are none as well: who names one shall be told that it is over", () => {
    const { book, asked } = bookOf({});
    createSubject({ leases: book }).permit(alice, { ...setLimit, leaseId: "ab" }, [gpuOf(0)]);
    expect(asked).toEqual(["uid 1000 sub undefined, gpu 0, GPU 0, ab"]);
  });

  it("come with a write over the Unix socket where they shall be there for all, and where a rule says so", () => {
    const own: Draft = { name: "own", gpus: [0], restoreOnExit: true };
    const not: Draft = { name: "not", gpus: [1], restoreOnExit: false };
    const cases: readonly [Options, unknown][] = [
      [{ restoreOnExit: true }, { 0: 99, 1: 99 }],
      [{ restoreOnExit: false }, undefined],
      [{ rules: [own, { name: "rest" }] }, { 0: 99 }],
      [{ rules: [not, { name: "rest" }], restoreOnExit: true }, { 0: 99 }],
      [{ rules: [{ name: "none", lease: "forbidden" }], restoreOnExit: true }, undefined],
    ];
    for (const [options, expected] of cases) {
      expect(
        numbersOf(createSubject({ leases: bookOf({}).book, ...options }).permit(alice, setLimit, targets)),
      ).toEqual(expected);
    }
    const overTcp = createSubject({ leases: bookOf({}).book, restoreOnExit: true });
    expect(numbersOf(overTcp.permit(actorOf({ sub: "anna" }), setLimit, targets))).toBeUndefined();
  });

  it("that somebody has asked for go before those that come with a write", () => {
    const { permit } = createSubject({ leases: bookOf({ 1: leaseOf(7) }).book, restoreOnExit: true });
    expect(numbersOf(permit(alice, setLimit, targets))).toEqual({ 0: 99, 1: 7 });
  });

  it("do not come with a dry run, which is told all the same what it is told within those that there are", () => {
    const { book, asked } = bookOf({ 1: leaseOf(7) });
    const { permit } = createSubject({
      leases: book,
      rules: [{ name: "own", lease: "required" }],
      restoreOnExit: true,
    });
    expect(numbersOf(permit(alice, { ...setLimit, dryRun: true }, targets))).toEqual({ 1: 7 });
    expect(asked.filter((line) => line.startsWith("an implicit"))).toEqual([]);
  });

  it("that a rule forbids refuse a write within one, and those that it requires a write without one", () => {
    const forbidding = createSubject({
      leases: bookOf({ 1: leaseOf(7) }).book,
      rules: [{ name: "free", lease: "forbidden" }],
    });
    expect(forbidding.answer(setLimit, { targets })).toBe('forbidden: rule "free" allows no leases on GPU 1');
    expect(forbidding.answer()).toBe("0 free");
    for (const leases of [bookOf({}).book, bookOf({ 1: leaseOf(7) }).book]) {
      const { answer } = createSubject({ leases, rules: [{ name: "strict", lease: "required" }] });
      expect(answer(setLimit, { targets })).toMatch(
        /^forbidden: rule "strict" requires a lease to write to GPU 0; acquire one/,
      );
    }
    const leased = createSubject({
      leases: bookOf({ 0: leaseOf(7) }).book,
      rules: [{ name: "strict", lease: "required" }],
    });
    expect(leased.answer()).toBe("0 strict");
    expect(leased.answer({ ...readLimit }, { targets })).toBe("0 strict, 1 strict");
  });

  it("of others refuse a write as a whole, after what is forbidden and before how often it comes", () => {
    const { book } = bookOf({ 1: held });
    const { answer, lines } = createSubject({
      leases: book,
      audit: "required",
      rules: [{ name: "own", allow: ["set_power_limit", "gpu-read"], rate }],
    });
    expect(answer(commandOf("reset_locked_clocks"), { targets })).toMatch(/^forbidden: /);
    for (const command of [setLimit, { ...setLimit, dryRun: true }])
      for (let time = 0; time < 3; time += 1)
        expect(answer(command, { targets: [gpuOf(1)] })).toBe("held: GPU 1 is held by lease 3");
    expect(answer(setLimit, { targets })).toBe("held: GPU 1 is held by lease 3");
    expect(answer(readLimit, { targets })).toBe("0 own, 1 own");
    // What was refused is written down by nobody here, and has used up no rate.
    expect(lines()).toEqual([]);
    expect(answer()).toBe("0 own");
    expect(answer(setLimit, { targets: [gpuOf(1)] })).toBe("held: GPU 1 is held by lease 3");
    expect(answer()).toMatch(/^rate_limited: /);
  });

  it("are told to the witness of the write", () => {
    const { permit, lines, clock } = createSubject({ leases: bookOf({ 1: leaseOf(7) }).book, audit: "kept" });
    const { witness } = permit(alice, setLimit, targets);
    for (const target of targets)
      witness?.ended({ target, endedMs: clock.monotonicMs(), before: {}, error: undefined, late: false });
    expect(lines().map((line) => (JSON.parse(line) as { readonly lease?: number }).lease)).toEqual([undefined, 7]);
  });
});

describe("a rate", () => {
  const rules: readonly Draft[] = [{ name: "own", rate: { writesPerSecond: 2, burst: 3 } }];
  const tooOften = (waitS: string): string =>
    `rate_limited: uid 1000 writes too often: rule "own" allows 2 writes a second, 3 at once; try again in ${waitS} s`;

  it("lets its burst through at once, and from then on one write after the other", () => {
    const { answer, clock } = createSubject({ rules });
    for (let write = 0; write < 3; write += 1) expect(answer()).toBe("0 own");
    expect(answer()).toBe(tooOften("0.5"));
    clock.skip(499);
    expect(answer()).toBe(tooOften("0.1"));
    clock.skip(1);
    expect(answer()).toBe("0 own");
    expect(answer()).toBe(tooOften("0.5"));
  });

  it("lets no more than its burst through at once after any rest", () => {
    const { answer, clock } = createSubject({ rules });
    for (const restMs of [0, 1500, 1e9]) {
      clock.skip(restMs);
      const answers = Array.from({ length: 4 }, () => answer());
      expect(answers).toEqual(["0 own", "0 own", "0 own", tooOften("0.5")]);
    }
  });

  it("counts a write to several GPUs once for each", () => {
    const { answer, clock } = createSubject({ rules });
    const targets = fourGpus.slice(0, 2);
    expect(answer(setLimit, { targets })).toBe("0 own, 1 own");
    expect(answer(setLimit, { targets })).toBe(tooOften("0.5"));
    expect(answer()).toBe("0 own");
    expect(answer(setLimit, { targets })).toBe(tooOften("1"));
    clock.skip(1000);
    expect(answer(setLimit, { targets })).toBe("0 own, 1 own");
  });

  it("never lets through more at once than its burst, and says so instead of asking for patience", () => {
    const { permit, clock } = createSubject({ rules });
    for (const restMs of [0, 1e9]) {
      clock.skip(restMs);
      expect(refusalOf(() => permit(alice, setLimit, fourGpus))).toMatchObject({
        code: "forbidden",
        rule: "own",
        message: '4 writes at once are more than may ever be made: rule "own" allows 2 writes a second, 3 at once',
      });
    }
    expect(permit(alice, setLimit, fourGpus.slice(0, 3)).rules.size).toBe(3);
  });

  it.each([
    [2, 0, 1],
    [1, 0, 1],
    [0.5, 0, 2],
    [0.4, 0, 3],
    [0.4, 500, 2],
    [0.001, 0, 1000],
    [1000, 0, 1],
  ])("of %d a second asks %d ms later for %d s of patience", (writesPerSecond, laterMs, retryAfterS) => {
    const { permit, clock } = createSubject({ rules: [{ name: "own", rate: { writesPerSecond, burst: 1 } }] });
    permit(alice, setLimit, [gpuOf(0)]);
    clock.skip(laterMs);
    const refusal = refusalOf(() => permit(alice, setLimit, [gpuOf(0)]));
    expect(refusal).toMatchObject({ code: "rate_limited", status: 429, rule: "own", retryAfterS });
    clock.skip(retryAfterS * 1000);
    expect(permit(alice, setLimit, [gpuOf(0)]).rules.get(0)?.name).toBe("own");
  });

  it("is each user's own, and over TCP each token subject's", () => {
    const { answer } = createSubject({ rules: [{ name: "own", rate: { writesPerSecond: 1, burst: 1 } }] });
    const others = [bob, actorOf({ sub: "carol" }), actorOf({ sub: "dave" }), actorOf({}), actorOf({ sub: "1000" })];
    for (const actor of [alice, ...others]) {
      expect(answer(setLimit, { actor })).toBe("0 own");
      expect(answer(setLimit, { actor })).toMatch(/^rate_limited: /);
    }
    const withToken = actorOf({ uid: 1000, sub: "erin" });
    expect(answer(setLimit, { actor: withToken })).toMatch(/^rate_limited: uid 1000 with token subject 'erin' writes/);
  });

  it("is one for each rule", () => {
    const { answer } = createSubject({
      rules: [
        { name: "a", gpus: [0], rate: { writesPerSecond: 1, burst: 1 } },
        { name: "b", gpus: [1], rate: { writesPerSecond: 1, burst: 1 } },
        { name: "c" },
      ],
    });
    for (const target of fourGpus.slice(0, 2)) {
      const targets = [target];
      expect(answer(setLimit, { targets })).toMatch(/^\d [ab]$/);
      expect(answer(setLimit, { targets })).toMatch(/^rate_limited: /);
    }
    for (let write = 0; write < 20; write += 1)
      expect(answer(setLimit, { targets: fourGpus.slice(2) })).toBe("2 c, 3 c");
  });

  it("of one rule and actor is not another's, however their names are put together", () => {
    const rate = { writesPerSecond: 1, burst: 1 };
    const { answer } = createSubject({
      rules: [
        { name: "a", tokens: ["x sub y"], rate },
        { name: "a sub x", rate },
      ],
    });
    expect(answer(setLimit, { actor: actorOf({ sub: "x sub y" }) })).toBe("0 a");
    expect(answer(setLimit, { actor: actorOf({ sub: "y" }) })).toBe("0 a sub x");
  });

  it("stays used up when the policy is read again, and is the new one from then on", () => {
    const { answer, inForce } = createSubject({ rules });
    for (let write = 0; write < 3; write += 1) answer();
    inForce.policy = policyOf(...rules);
    expect(answer()).toBe(tooOften("0.5"));
    inForce.policy = policyOf({ name: "own" });
    expect(answer()).toBe("0 own");
  });

  it("is not used up by reads, of which any number may be made", () => {
    const { answer } = createSubject({ rules });
    for (let read = 0; read < 20; read += 1) expect(answer(readLimit, { targets: fourGpus })).toContain("3 own");
    for (let write = 0; write < 3; write += 1) expect(answer()).toBe("0 own");
    expect(answer(readLimit)).toBe("0 own");
    expect(answer()).toBe(tooOften("0.5"));
  });

  it("is not used up by a dry run, which is told the same as a write", () => {
    const { answer } = createSubject({ rules });
    const dry = { ...setLimit, dryRun: true };
    for (let run = 0; run < 20; run += 1) expect(answer(dry)).toBe("0 own");
    expect(answer(dry, { targets: fourGpus })).toMatch(/^forbidden: 4 writes at once are more than may ever be made/);
    for (let write = 0; write < 3; write += 1) expect(answer()).toBe("0 own");
    expect(answer(dry)).toBe(tooOften("0.5"));
    expect(answer()).toBe(tooOften("0.5"));
  });
});

describe("a witness", () => {
  it("writes down which rule allowed the write on each device", () => {
    const { permit, lines, clock } = createSubject({ audit: "kept", rules: [{ name: "a", gpus: [1] }, { name: "b" }] });
    const targets = [gpuOf(0), gpuOf(1)];
    const { witness } = permit(alice, setLimit, targets);
    for (const target of targets)
      witness?.ended({ target, endedMs: clock.monotonicMs(), before: {}, error: undefined, late: false });
    expect(lines().map((line) => JSON.parse(line))).toMatchObject([
      { gpu: 0, rule: "b" },
      { gpu: 1, rule: "a" },
    ]);
  });
});

describe("for any writes at any times", () => {
  /** In writes a thousand seconds and whole ms, so that the oracle reckons in whole numbers: a thousandth of a thousandth of a write. */
  const writeParts = 1_000_000;
  const rate = fc.record({
    perKs: fc.oneof(
      fc.integer({ min: 1, max: 9999 }),
      fc.nat(1e6).map((n) => n + 1),
    ),
    burst: fc.integer({ min: 1, max: 6 }),
  });
  const step = fc.record({
    /** Mostly such that the rate matters. */
    restMs: fc.oneof(fc.constant(0), fc.nat(50), fc.nat(5000), fc.nat(1_000_000)),
    actor: fc.constantFrom(alice, bob),
    gpus: fc.integer({ min: 1, max: 4 }),
    dryRun: fc.boolean(),
  });
  const steps = fc.array(step, { maxLength: 60 });

  it("no actor gets more through in any time than the burst and the rate allow", () => {
    const holds = fc.property(rate, steps, ({ perKs, burst }, sequence) => {
      const { clock, permit } = createSubject({
        rules: [{ name: "own", rate: { writesPerSecond: perKs / 1000, burst } }],
      });
      const passed: { readonly atMs: number; readonly count: number; readonly actor: Actor }[] = [];
      for (const { restMs, actor, gpus, dryRun } of sequence) {
        clock.skip(restMs);
        try {
          const { rules } = permit(actor, { ...setLimit, dryRun }, fourGpus.slice(0, gpus));
          if (!dryRun) passed.push({ atMs: clock.monotonicMs(), count: rules.size, actor });
        } catch (error) {
          expect(error).toBeInstanceOf(ZeusdError);
        }
      }
      for (const actor of [alice, bob]) {
        const own = passed.filter((each) => each.actor === actor);
        for (const [from, first] of own.entries()) {
          let sum = 0;
          for (const { atMs, count } of own.slice(from)) {
            sum += count;
            expect(sum).toBeLessThanOrEqual(burst + ((atMs - first.atMs) * perKs) / 1e6 + 0.01);
          }
        }
      }
    });
    fc.assert(holds, { numRuns: 2000 });
  });

  it("what is within the rate is let through, and all else is refused with the time after which it is within it", () => {
    const holds = fc.property(rate, steps, ({ perKs, burst }, sequence) => {
      const { clock, answer } = createSubject({
        rules: [{ name: "own", rate: { writesPerSecond: perKs / 1000, burst } }],
      });
      const buckets = new Map([alice, bob].map((actor) => [actor, { parts: burst * writeParts, atMs: 0 }]));
      for (const { restMs, actor, gpus, dryRun } of sequence) {
        clock.skip(restMs);
        const nowMs = clock.monotonicMs();
        const { parts, atMs } = buckets.get(actor) ?? { parts: 0, atMs: 0 };
        const filled = Math.min(burst * writeParts, parts + (nowMs - atMs) * perKs);
        const needed = gpus * writeParts;
        const told = answer({ ...setLimit, dryRun }, { actor, targets: fourGpus.slice(0, gpus) });
        const [, wait] = /try again in ([\d.]+) s$/.exec(told) ?? [];
        const waitMs = (needed - filled) / perKs;
        if (gpus > burst) expect(told).toMatch(/^forbidden: /);
        else if (waitMs <= 0) expect(told).toMatch(/^0 own/);
        // What a microsecond is short is let through: the clock has no more than that.
        else if (waitMs > 0.001) expect(Math.abs(Number(wait) * 1000 - waitMs - 50)).toBeLessThanOrEqual(50.01);
        const taken = wait === undefined && gpus <= burst && !dryRun ? needed : 0;
        buckets.set(actor, { parts: filled - taken, atMs: nowMs });
      }
    });
    fc.assert(holds, { numRuns: 2000 });
  });

  it("nothing that is refused has a witness, asks who the program is, or is written down by the gate", () => {
    const holds = fc.property(steps, fc.constantFrom("required", "broken"), (sequence, audit) => {
      const { clock, permit, lines } = createSubject({
        audit,
        rules: [
          { name: "a", gpus: [0, 1], uids: [1000], rate: { writesPerSecond: 1, burst: 2 } },
          {
            name: "b",
            gpus: [0, 1, 2],
            bounds: [{ power_limit_mw: { max: 300_000 } }],
            rate: { writesPerSecond: 5, burst: 2 },
          },
        ],
      });
      const asked = new Set<Actor>();
      let made = 0;
      for (const { restMs, actor, gpus, dryRun } of sequence) {
        clock.skip(restMs);
        const { peer } = actor;
        const watched: Actor = { peer: peer && { ...peer, program: () => (asked.add(watched), "train.py") } };
        let isMade = false;
        try {
          const { witness } = permit(watched, { ...setLimit, dryRun }, fourGpus.slice(0, gpus));
          isMade = witness !== undefined;
          expect(isMade).toBe(!dryRun);
        } catch (error) {
          expect(error).toBeInstanceOf(ZeusdError);
          // Who could not be written down has been asked for.
          isMade = error instanceof ZeusdError && error.code === "audit_unavailable";
        }
        expect(asked.has(watched)).toBe(isMade);
        if (isMade) made += 1;
      }
      expect(lines()).toHaveLength(audit === "broken" ? 0 : made);
    });
    fc.assert(holds, { numRuns: 500 });
  });
});
