// Lanes: one call at a time, in the order in which they came, and nobody waits for ever.
import * as fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import type { Caller } from "../../src/contract/command.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import type { Values } from "../../src/contract/field.ts";
import { capacity, Lane, type Work } from "../../src/devices/lane.ts";
import { drowsy } from "../../src/devices/wakefulness.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";
import { createWorks, outcome } from "./lane-works.ts";

const timeoutMs = 4_000;
const { begun, quick, held } = createWorks();

let clock: FakeClock;
let log: ReturnType<typeof createQuietLog>;
let lane: Lane;

beforeEach(() => {
  clock = createFakeClock();
  log = createQuietLog();
  lane = new Lane({ name: "GPU 0", clock, log, timeoutMs, wakefulness: drowsy });
  begun.length = 0;
});

/** Whoever asks now, and stays. */
function caller(over: Partial<Caller> = {}): Caller {
  return { arrivedMs: clock.monotonicMs(), gone: () => false, ...over };
}

/** A call that takes this long. */
function lasting(name: string, ms: number): Work {
  return {
    name,
    call: () =>
      new Promise((resolve) => {
        begun.push(name);
        clock.after(ms, () => resolve({ ms }));
      }),
  };
}

describe("a lane", () => {
  it("gives the outcome of each call to whoever asked for it", async () => {
    const works: readonly Work[] = [
      { name: "read", call: async () => ({ power_mw: 1 }) },
      { name: "fails", call: () => Promise.reject(new Error("no")) },
      { name: "write", call: async () => ({}) },
    ];
    const [read, fails, write] = works.map((work) => lane.run(work, caller()));
    await expect(fails).rejects.toThrow("no");
    expect(await read).toEqual({ power_mw: 1 });
    expect(await write).toEqual({});
  });

  it("is idle when nothing runs and nothing waits", async () => {
    await lane.idle();
    const first = held("first");
    void lane.run(first);
    const second = lane.run(quick("second"));
    let idle = false;
    const waiting = lane.idle().then(() => (idle = true));
    await clock.advance(0);
    expect(idle).toBe(false);
    first.end();
    await Promise.all([second, waiting]);
    expect(begun).toEqual(["first", "second"]);
  });

  it("tells what runs, where, and for how long already", async () => {
    expect(lane.running()).toBeUndefined();
    const work = held("set_power_limit");
    const run = lane.run(work);
    await clock.advance(3_200);
    expect(lane.running()).toBe("set_power_limit on GPU 0 (3.2 s)");
    work.end();
    await run;
    expect(lane.running()).toBeUndefined();
  });

  it("leaves no timer behind that a caller or a call could still need", async () => {
    const runs = [1, 2, 3].map((index) => lane.run(lasting(`call ${index}`, 10), caller()));
    await clock.advance(30);
    await Promise.all(runs);
    await clock.advance(timeoutMs);
    expect(clock.pending).toBe(0);
    expect(log.lines).toEqual([]);
  });
});

describe("whoever waits", () => {
  it("is answered with `deadline` once a call has taken too long; the call goes on, and the log hears of its end", async () => {
    const work = held("set_power_limit");
    const run = outcome(lane.run(work, caller()));
    await clock.advance(timeoutMs);
    expect(await run).toBe("deadline");
    await clock.advance(1_500);
    work.end();
    await clock.advance(0);
    expect(log.lines.at(-1)).toMatch(/^warn .*set_power_limit on GPU 0 returned after 5\.5 s, with success$/);
  });

  it("is told what did not return, and that it may still take effect", async () => {
    const run = lane.run(held("set_power_limit"), caller());
    const told = expect(run).rejects.toThrow(
      "set_power_limit on GPU 0 has not returned within 4 s; it may still take effect",
    );
    await clock.advance(timeoutMs);
    await told;
  });

  it("is told no more than that of a call which changes nothing", async () => {
    const run = lane.run({ ...held("get_power_limit"), harmless: true }, caller());
    const told = expect(run).rejects.toThrow(/^get_power_limit on GPU 0 has not returned within 4 s$/);
    await clock.advance(timeoutMs);
    await told;
  });

  it("waits no longer than that from the arrival of the request, whatever was before it", async () => {
    void lane.run(lasting("first", 3_000), caller());
    await clock.advance(1_000);
    const second = outcome(lane.run(lasting("second", 3_500), caller()));
    await clock.advance(3_999);
    expect(begun).toEqual(["first", "second"]);
    await clock.advance(1);
    expect(await second).toBe("deadline");
    expect(lane.refusal()).toBeUndefined();
    await clock.advance(1_500);
    expect(lane.running()).toBeUndefined();
    expect(log.lines).toEqual(["warn second on GPU 0 returned after 3.5 s, with success"]);
  });

  it("has what could not begin in time dropped: the driver never sees it", async () => {
    void lane.run(lasting("first", 3_000));
    void lane.run(lasting("second", 3_000));
    const third = lane.run(quick("third"), caller());
    const told = expect(third).rejects.toThrow(
      "third on GPU 0 could not be done within 4 s and was dropped before it began",
    );
    await clock.advance(timeoutMs);
    await told;
    await clock.advance(10_000);
    expect(begun).toEqual(["first", "second"]);
  });

  it("has nothing begun whose time was up when it came, as with a body that took its time", async () => {
    await clock.advance(10_000);
    const late = caller({ arrivedMs: clock.monotonicMs() - timeoutMs });
    expect(await outcome(lane.run(quick("late"), late))).toBe("deadline");
    void lane.run(lasting("first", 10));
    const behind = outcome(lane.run(quick("late too"), caller({ arrivedMs: clock.monotonicMs() - timeoutMs + 5 })));
    await clock.advance(10);
    expect(await behind).toBe("deadline");
    expect(begun).toEqual(["first"]);
  });

  it("has nothing begun at the very moment at which its time is up", async () => {
    void lane.run(lasting("first", 1_000));
    const second = lane.run(lasting("second", 3_500));
    await clock.advance(500);
    const third = outcome(lane.run(quick("third"), caller()));
    await clock.advance(timeoutMs);
    await second;
    expect(await third).toBe("deadline");
    expect(begun).toEqual(["first", "second"]);
  });

  it("and those who came later wait on, each for a time of their own", async () => {
    void lane.run(lasting("first", 3_900));
    const second = outcome(lane.run(lasting("second", 1_000), caller()));
    await clock.advance(2_000);
    const third = outcome(lane.run(quick("third"), caller()));
    await clock.advance(2_000);
    expect(await second).toBe("deadline");
    await clock.advance(1_000);
    expect(await third).toBe("done");
    expect(begun).toEqual(["first", "second", "third"]);
  });
});

it("a command that nobody waits for has no deadline: it runs when its turn comes", async () => {
  const names = Array.from({ length: 10 }, (_, index) => `call ${index}`);
  const runs = names.map((name) => lane.run(lasting(name, 3_000)));
  await clock.advance(30_000);
  await Promise.all(runs);
  expect(begun).toEqual(names);
  expect(log.lines).toEqual([]);
});

describe("a call that does not return", () => {
  it("makes the lane stuck after its time: what waits is refused, and so is what comes, with a reason", async () => {
    const work = held("set_power_limit");
    const runs = [lane.run(work), lane.run(quick("no caller")), lane.run(quick("caller"), caller({ arrivedMs: 100 }))];
    const outcomes = runs.map(outcome);
    await clock.advance(timeoutMs);
    // Who does not wait has had an answer long ago, and hears of nothing more.
    expect(await Promise.all(outcomes.slice(1))).toEqual(["done", "lane_stuck"]);
    await clock.advance(2_900);
    await expect(lane.run(quick("late"), caller())).rejects.toMatchObject({
      code: "lane_stuck",
      status: 503,
      retryAfterS: expect.any(Number),
      message: "GPU 0 is stuck: set_power_limit has not returned for 6 s, and until it does nothing else can run",
    });
    expect(await outcome(lane.run(quick("late, no caller")))).toBe("lane_stuck");
    expect(log.lines).toEqual([
      "error GPU 0 is stuck: set_power_limit has not returned for 4 s; commands are refused until it does",
      "warn Dropped commands for GPU 0 that had been accepted, 1 of them: GPU 0 is stuck: set_power_limit has not returned for 4 s, and until it does nothing else can run",
    ]);
    work.end();
    expect(await outcomes[0]).toBe("done");
    expect(begun).toEqual(["set_power_limit"]);
  });

  it("lets the lane work again when it does, and the log says after how long, and how it ended", async () => {
    const works = [held("first"), held("second")];
    for (const [index, work] of works.entries()) {
      const run = outcome(lane.run(work));
      await clock.advance(60_000);
      expect(lane.refusal()?.code).toBe("lane_stuck");
      if (index === 0) work.end();
      else work.fail(new ZeusdError("gpu_lost", "NVML error: lost"));
      expect(await run).toBe(index === 0 ? "done" : "gpu_lost");
      expect(lane.refusal()).toBeUndefined();
      expect(await outcome(lane.run(quick("next"), caller()))).toBe("done");
    }
    expect(log.lines.filter((line) => line.startsWith("warn"))).toEqual([
      "warn GPU 0 works again: first on GPU 0 returned after 60.0 s, with success",
      "warn second on GPU 0 returned after 60.0 s, and failed: NVML error: lost",
    ]);
  });

  it("is told to the log once, however many are refused", async () => {
    void lane.run(held("set_power_limit"));
    await clock.advance(timeoutMs);
    for (let count = 0; count < 100; count += 1) await outcome(lane.run(quick("late"), caller()));
    await clock.advance(600_000);
    expect(log.lines).toHaveLength(1);
  });

  it("is one that has run for long, not one that has waited for long", async () => {
    void lane.run(lasting("first", 3_999));
    const second = outcome(lane.run(lasting("second", 3_999)));
    await clock.advance(7_998);
    expect(await second).toBe("done");
    expect(log.lines).toEqual([]);
  });
});

describe("a full lane", () => {
  it("refuses what comes with `queue_full`, and takes more as soon as it has room (13.2 #7)", async () => {
    const first = held("running");
    const outcomes = [outcome(lane.run(first))];
    for (let count = 0; count < capacity; count += 1) outcomes.push(outcome(lane.run(quick(`call ${count}`))));
    await expect(lane.run(quick("too many"), caller())).rejects.toMatchObject({
      code: "queue_full",
      status: 503,
      retryAfterS: 1,
      message: `${capacity} commands are waiting for GPU 0; try again later`,
    });
    expect(await outcome(lane.run(quick("too many, no caller")))).toBe("queue_full");
    expect(lane.refusal()?.code).toBe("queue_full");
    first.end();
    await Promise.all(outcomes);
    expect(await outcome(lane.run(quick("last"), caller()))).toBe("done");
    expect(begun).toEqual(["running", ...Array.from({ length: capacity }, (_, count) => `call ${count}`), "last"]);
  });

  it("holds 1024 commands", () => {
    expect(capacity).toBe(1024);
  });
});

describe("a client that goes away", () => {
  it("has its command dropped when its turn comes, with a reason of its own (13.2 #9)", async () => {
    let gone = false;
    const first = held("first");
    void lane.run(first);
    const second = outcome(lane.run(quick("second"), caller({ gone: () => gone })));
    const third = outcome(lane.run(quick("third"), caller()));
    gone = true;
    first.end();
    expect(await third).toBe("done");
    expect(await second).toBe("client_gone");
    expect(begun).toEqual(["first", "third"]);
  });

  it("changes nothing for a call that runs already", async () => {
    let gone = false;
    const first = held("first");
    const run = outcome(lane.run(first, caller({ gone: () => gone })));
    gone = true;
    first.end();
    expect(await run).toBe("done");
    expect(log.lines).toEqual([]);
  });

  it("leaves the lane idle when it was the last that waited", async () => {
    const first = held("first");
    void lane.run(first);
    const second = outcome(lane.run(quick("second"), caller({ gone: () => true })));
    first.end();
    await Promise.all([second, lane.idle()]);
    expect(await outcome(lane.run(quick("third")))).toBe("done");
  });
});

describe("a lane that is told to refuse", () => {
  const reason = new ZeusdError("stopping", "enough");

  it("what waits, drops it; what runs is still answered", async () => {
    const first = held("first");
    const runs = [lane.run(first, caller()), lane.run(quick("second"), caller()), lane.run(quick("third"))].map(
      outcome,
    );
    lane.refuseWaiting(reason);
    expect(await Promise.all(runs.slice(1))).toEqual(["stopping", "done"]);
    first.end();
    expect(await runs[0]).toBe("done");
    expect(begun).toEqual(["first"]);
    expect(log.lines).toEqual(["warn Dropped commands for GPU 0 that had been accepted, 1 of them: enough"]);
  });

  it("all, answers whoever waits for the running call too, which goes on", async () => {
    const first = held("first");
    const run = lane.run(first, caller());
    const runs = [run, lane.run(quick("second"), caller())].map(outcome);
    const told = expect(run).rejects.toThrow("first on GPU 0 has not returned so far; it may still take effect");
    lane.refuseAll(reason);
    await told;
    expect(await Promise.all(runs)).toEqual(["deadline", "stopping"]);
    expect(lane.running()).toMatch(/^first on GPU 0/);
    first.end();
    await lane.idle();
    expect(log.lines).toEqual(["warn first on GPU 0 returned after 0.0 s, with success"]);
  });

  it("all, leaves a running call alone that nobody waits for", async () => {
    const first = held("first");
    const run = outcome(lane.run(first));
    lane.refuseAll(reason);
    first.end();
    expect(await run).toBe("done");
    expect(log.lines).toEqual([]);
  });

  it("tells once what became of all that had been accepted", async () => {
    const first = held("first");
    const runs = [lane.run(first), ...["a", "b", "c"].map((name) => lane.run(quick(name)))];
    lane.refuseAll(reason);
    first.end();
    expect(await Promise.all(runs)).toEqual([{}, {}, {}, {}]);
    expect(begun).toEqual(["first"]);
    expect(log.lines).toEqual(["warn Dropped commands for GPU 0 that had been accepted, 3 of them: enough"]);
  });
});

describe("with more asked than the device can do", () => {
  const names = Array.from({ length: 20 }, (_, index) => `call ${index}`);

  it("no call is run in vain while others wait: what could not return in time is dropped", async () => {
    const outcomes = names.map((name) => outcome(lane.run({ ...lasting(name, 900), name: "set" }, caller())));
    await clock.advance(timeoutMs);
    expect(await Promise.all(outcomes)).toEqual(names.map((_, index) => (index < 4 ? "done" : "deadline")));
    // The last makes nobody late.
    expect(begun).toEqual([...names.slice(0, 4), "call 19"]);
    await clock.advance(1_000);
    expect(await outcome(lane.run(quick("later"), caller()))).toBe("done");
  });

  it("it does as much as it can, for as long as that lasts", async () => {
    const outcomes: Promise<string>[] = [];
    for (let count = 0; count < 600; count += 1) {
      outcomes.push(outcome(lane.run({ ...lasting(String(count), 900), name: "set" }, caller())));
      await clock.advance(100);
    }
    const beforeEnd = begun.slice(0, -6);
    expect(beforeEnd.length).toBeGreaterThan(60_000 / 900 - 10);
    const results = await Promise.all(beforeEnd.map((index) => outcomes[Number(index)]));
    expect(results).toEqual(beforeEnd.map(() => "done"));
  });

  it("an operation that is quick has its turn behind slow ones as long as it has time", async () => {
    const slow = (index: number): Work => ({ ...lasting(`slow ${index}`, 1_900), name: "set" });
    const [first, second, third] = [1, 2, 3].map((index) => outcome(lane.run(slow(index), caller())));
    const [read, other] = ["read", "other"].map((name) => outcome(lane.run(quick(name), caller())));
    await clock.advance(3_900);
    expect(await Promise.all([first, second, third, read, other])).toEqual([
      "done",
      "done",
      "deadline",
      "done",
      "done",
    ]);
    expect(begun).toEqual(["slow 1", "slow 2", "read", "other"]);
  });

  it("what nobody waits for is run all the same", async () => {
    for (let count = 0; count < 10; count += 1) void lane.run({ ...lasting(`call ${count}`, 3_000), name: "set" });
    await clock.advance(30_000);
    expect(begun).toHaveLength(10);
  });
});

describe("a process that was stopped for a while", () => {
  it("finds a call that has returned meanwhile before it judges it", async () => {
    const work = held("set_power_limit");
    const run = outcome(lane.run(work, caller()));
    // The timer of the lane comes first, then the news, as in Node's event loop.
    clock.after(timeoutMs, () => work.end());
    clock.skip(60_000);
    await clock.advance(0);
    expect(await run).toBe("done");
    expect(lane.refusal()).toBeUndefined();
    await clock.advance(60_000);
    expect(log.lines).toEqual([]);
  });

  it("finds the lane stuck all the same when the call has not returned", async () => {
    const work = held("set_power_limit");
    const run = outcome(lane.run(work, caller()));
    clock.skip(60_000);
    await clock.advance(0);
    expect(await run).toBe("deadline");
    expect(lane.refusal()?.code).toBe("lane_stuck");
    work.end();
    await lane.idle();
  });
});

describe("what a lane says of its calls, so that the loop may stay awake,", () => {
  it("leaves out the time of a stuck call: it counts as ended, and nothing is learnt from it", async () => {
    const said: (number | undefined | "ended")[] = [];
    const wakefulness = { began: (usualMs?: number) => void said.push(usualMs), ended: () => void said.push("ended") };
    const subject = new Lane({ name: "GPU 0", clock, log, timeoutMs, wakefulness });
    const slow = held("set");
    const run = outcome(subject.run(slow));
    await clock.advance(timeoutMs);
    expect(said).toEqual([undefined, "ended"]);
    slow.end();
    await run;
    await clock.advance(0);
    const second = subject.run(lasting("set", 10));
    await clock.advance(10);
    await second;
    await subject.run(quick("set"));
    expect(said).toEqual([undefined, "ended", undefined, "ended", 10, "ended"]);
  });
});

interface Plan {
  /** When it is asked for, and how long its call takes, in ms. */
  readonly atMs: number;
  readonly takesMs: number;
  readonly fails: boolean;
  /** Whether somebody waits for it, and when that client goes away. */
  readonly waits: boolean;
  readonly goneAtMs: number;
}

interface Course {
  beganMs?: number;
  endedMs?: number;
  settledMs?: number;
  outcome?: string;
}

/** Times on a coarse grid, so that many of them coincide. */
const tens = (most: number): fc.Arbitrary<number> => fc.nat(most / 10).map((count) => 10 * count);

const plans = fc.array(
  fc.record<Plan>({
    atMs: tens(300),
    takesMs: tens(80),
    fails: fc.boolean(),
    waits: fc.boolean(),
    goneAtMs: fc.oneof(tens(300), fc.constant(Infinity)),
  }),
  { maxLength: 25 },
);

it("keeps all of that for any mixture of calls, durations, deadlines and clients that leave", async () => {
  const patienceMs = 50;
  await fc.assert(
    fc.asyncProperty(plans, async (unsorted) => {
      const works = unsorted.toSorted((one, other) => one.atMs - other.atMs);
      const time = createFakeClock();
      let awake = 0;
      const wakefulness = { began: () => void (awake += 1), ended: () => void (awake -= 1) };
      const subject = new Lane({ name: "GPU 0", clock: time, log, timeoutMs: patienceMs, wakefulness });
      const courses = works.map((): Course => ({}));
      const order: number[] = [];
      let running = 0;
      const submit = ({ atMs, takesMs, fails, waits, goneAtMs }: Plan, index: number): void => {
        const course = courses[index] ?? {};
        const call = (): Promise<Values> => {
          order.push(index);
          running += 1;
          expect(running).toBe(1);
          expect(course).toEqual({});
          course.beganMs = time.monotonicMs();
          return new Promise((resolve, reject) => {
            time.after(takesMs, () => {
              running -= 1;
              course.endedMs = time.monotonicMs();
              if (fails) reject(new ZeusdError("driver_error", "no"));
              else resolve({});
            });
          });
        };
        const who = { arrivedMs: atMs, gone: () => goneAtMs <= time.monotonicMs() };
        void outcome(subject.run({ name: "call", call }, waits ? who : undefined)).then((text) => {
          expect(course.settledMs).toBeUndefined();
          course.settledMs = time.monotonicMs();
          course.outcome = text;
        });
      };
      works.forEach((plan, index) => time.after(plan.atMs, () => submit(plan, index)));
      await time.advance(10_000);

      expect(order).toEqual(order.toSorted((one, other) => one - other));
      const isStuckAt = (ms: number): boolean =>
        courses.some(({ beganMs = Infinity, endedMs = Infinity }) => beganMs + patienceMs <= ms && ms <= endedMs);
      works.forEach((plan, index) => expectCourse(plan, courses[index] ?? {}, patienceMs, isStuckAt));
      await subject.idle();
      expect(awake).toBe(0);
      expect(await outcome(subject.run({ name: "last", call: async () => ({}) }))).toBe("done");
    }),
    { numRuns: 200 },
  );
});

function expectCourse(
  { atMs, waits, fails, goneAtMs }: Plan,
  course: Course,
  patienceMs: number,
  isStuckAt: (ms: number) => boolean,
): void {
  const { beganMs = Infinity, endedMs = Infinity, settledMs = Infinity, outcome: text } = course;
  expect(text).toBeDefined();
  if (waits) {
    expect(settledMs).toBeLessThanOrEqual(atMs + patienceMs);
    if (beganMs < Infinity) expect(beganMs).toBeLessThan(Math.min(atMs + patienceMs, goneAtMs));
  }
  const own = fails ? "driver_error" : "done";
  // What was accepted is dropped quietly, and only when its lane gets stuck.
  if (!waits && beganMs === Infinity) expect([text, isStuckAt(settledMs)]).toEqual([expect.any(String), true]);
  else if (text === own) expect(settledMs).toBe(endedMs);
  // Answered early, or never begun; nobody waits for less than its outcome without a caller.
  else if (beganMs < Infinity) expect([text, waits]).toEqual(["deadline", true]);
  else expect(["deadline", "lane_stuck", "client_gone"]).toContain(text);
  if (!waits) expect([own, "done", "lane_stuck"]).toContain(text);
}
