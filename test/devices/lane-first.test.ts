// Lanes and leases: what goes before all that waits, what is dropped with its lease, and who hears that a lane is stuck.
import { beforeEach, describe, expect, it } from "vitest";
import type { Caller } from "../../src/contract/command.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import type { Lease } from "../../src/contract/lease.ts";
import { capacity, Lane } from "../../src/devices/lane.ts";
import { drowsy } from "../../src/devices/wakefulness.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";
import { createWorks, outcome } from "./lane-works.ts";

const timeoutMs = 4_000;
const { begun, quick, held } = createWorks();

let clock: FakeClock;
let log: ReturnType<typeof createQuietLog>;
let lane: Lane;
/** What the hooks have heard. */
let heard: string[];

beforeEach(() => {
  clock = createFakeClock();
  log = createQuietLog();
  begun.length = 0;
  heard = [];
  lane = new Lane({
    name: "GPU 0",
    clock,
    log,
    timeoutMs,
    wakefulness: drowsy,
    stuck: (operation) => heard.push(`stuck ${operation}`),
    back: (operation) => heard.push(`back ${operation}`),
  });
});

function caller(): Caller {
  return { arrivedMs: clock.monotonicMs(), gone: () => false };
}

function lease(number: number): Lease {
  return { number, id: `${number}`, implicit: false, exclusive: false, sinceMs: 0, owner: {}, gpus: [] };
}

const over = new ZeusdError("no_such_lease", "it is over");

describe("what is to run first", () => {
  it("runs at once in an idle lane, and its outcome is passed on", async () => {
    expect(await lane.runFirst({ name: "a", call: async () => ({ power_mw: 1 }) })).toEqual({ power_mw: 1 });
    await expect(lane.runFirst({ name: "b", call: () => Promise.reject(new Error("no")) })).rejects.toThrow("no");
    expect(lane.isIdle).toBe(true);
  });

  it("runs after the call that runs, and before all that waits", async () => {
    const running = held("running");
    const all = [lane.run(running, caller()), lane.run(quick("waiting"), caller()), lane.run(quick("unwaited"))];
    all.push(lane.runFirst(quick("first")));
    expect(begun).toEqual(["running"]);
    running.end();
    await Promise.all(all);
    expect(begun).toEqual(["running", "first", "waiting", "unwaited"]);
  });

  it("of two the later one is first", async () => {
    const running = held("running");
    const all = [lane.run(running, caller()), lane.runFirst(quick("one")), lane.runFirst(quick("other"))];
    running.end();
    await Promise.all(all);
    expect(begun).toEqual(["running", "other", "one"]);
  });

  it("is taken by a lane that is full", async () => {
    const running = held("running");
    const all = [lane.run(running, caller())];
    for (let count = 0; count < capacity; count += 1) all.push(lane.run(quick("waiting")));
    expect(await outcome(lane.run(quick("one more")))).toBe("queue_full");
    all.push(lane.runFirst(quick("first")));
    expect(lane.refusal()?.code).toBe("queue_full");
    running.end();
    await Promise.all(all);
    expect(begun.slice(0, 3)).toEqual(["running", "first", "waiting"]);
    expect(begun).toHaveLength(capacity + 2);
  });

  it("has no deadline of its own while it waits", async () => {
    const running = held("running");
    const run = lane.run(running, caller());
    await clock.advance(3_000);
    const first = lane.runFirst(held("first"));
    running.end();
    await run;
    await clock.advance(3_999);
    expect(heard).toEqual([]);
    void outcome(first);
    await clock.advance(1);
    expect(heard).toEqual(["stuck first"]);
  });

  it("is refused by a lane that is stuck, and taken again as soon as that is back", async () => {
    const running = held("running");
    const run = outcome(lane.run(running, caller()));
    await clock.advance(timeoutMs);
    expect(await run).toBe("deadline");
    expect(await outcome(lane.runFirst(quick("first")))).toBe("lane_stuck");
    expect(begun).toEqual(["running"]);
    running.end();
    await clock.advance(0);
    expect(await outcome(lane.runFirst(quick("first")))).toBe("done");
  });

  it("that waits when the lane becomes stuck is told so", async () => {
    const running = held("running");
    void outcome(lane.run(running, caller()));
    const told: string[] = [];
    void lane.runFirst(quick("first", { abandoned: ({ code }) => told.push(code) }));
    await clock.advance(timeoutMs);
    expect(told).toEqual(["lane_stuck"]);
    expect(begun).toEqual(["running"]);
  });

  it("keeps the lane from being idle", async () => {
    const first = held("first");
    const run = lane.runFirst(first);
    let idle = false;
    void lane.idle().then(() => (idle = true));
    await clock.advance(0);
    expect([lane.isIdle, idle]).toEqual([false, false]);
    first.end();
    await run;
    await clock.advance(0);
    expect(idle).toBe(true);
  });
});

describe("when a lease is over", () => {
  it("what waits to be done within it is refused, and all else is done in its order", async () => {
    const running = held("running");
    const all = [
      lane.run(running, caller()),
      lane.run(quick("of 1", { lease: lease(1) }), caller()),
      lane.run(quick("of 2", { lease: lease(2) }), caller()),
      lane.run(quick("of none"), caller()),
      lane.run(quick("of 1 as well", { lease: lease(1) }), caller()),
      lane.run(quick("last"), caller()),
    ].map(outcome);
    lane.refuseOf(lease(1), over);
    expect(await Promise.all([all[1], all[4]])).toEqual(["no_such_lease", "no_such_lease"]);
    running.end();
    expect(await Promise.all(all)).toEqual(["done", "no_such_lease", "done", "done", "no_such_lease", "done"]);
    expect(begun).toEqual(["running", "of 2", "of none", "last"]);
  });

  it("the call that runs goes on, and its caller gets its outcome", async () => {
    const running = held("running");
    const run = outcome(lane.run({ ...running, lease: lease(1) }, caller()));
    lane.refuseOf(lease(1), over);
    running.end();
    expect(await run).toBe("done");
  });

  it("whoever waits for what is dropped is told, and for what nobody waits the log says it, once", async () => {
    const running = held("running");
    void lane.run(running, caller());
    const told: string[] = [];
    const abandoned = ({ code }: ZeusdError): number => told.push(code);
    void outcome(lane.run(quick("a", { lease: lease(1), abandoned }), caller()));
    void lane.run(quick("b", { lease: lease(1), abandoned }));
    void lane.run(quick("c", { lease: lease(1), abandoned }));
    void lane.run(quick("d", { lease: lease(2), abandoned }));
    lane.refuseOf(lease(1), over);
    expect(told).toEqual(["no_such_lease", "no_such_lease", "no_such_lease"]);
    expect(log.lines).toEqual(["warn Dropped commands for GPU 0 that had been accepted, 2 of them: it is over"]);
    running.end();
    await lane.idle();
  });

  it("what is tried again is dropped without a word in the log", async () => {
    const running = held("running");
    void lane.run(running, caller());
    const told: string[] = [];
    void lane.runFirst(quick("first", { comesAgain: true, abandoned: ({ code }) => told.push(code) }));
    lane.refuseWaiting(over);
    expect([told, log.lines]).toEqual([["no_such_lease"], []]);
    running.end();
    await lane.idle();
  });

  it("nothing is said where nothing waits for it", async () => {
    lane.refuseOf(lease(1), over);
    const running = held("running");
    const run = lane.run(running, caller());
    lane.refuseOf(lease(1), over);
    expect(log.lines).toEqual([]);
    running.end();
    await run;
  });
});

describe("that a lane is stuck", () => {
  it("is told once, when its call has run for as long as it may, whoever waits", async () => {
    const running = held("running");
    void outcome(lane.run(running));
    await clock.advance(timeoutMs - 1);
    expect(heard).toEqual([]);
    await clock.advance(1);
    expect(heard).toEqual(["stuck running"]);
    await clock.advance(60_000);
    expect(heard).toEqual(["stuck running"]);
  });

  it("and that it is back is told when the call returns, be it with an error", async () => {
    for (const end of ["end", "fail"] as const) {
      heard.length = 0;
      const running = held(end);
      void outcome(lane.run(running, caller()));
      await clock.advance(timeoutMs);
      running[end](new Error("no"));
      await clock.advance(0);
      expect(heard).toEqual([`stuck ${end}`, `back ${end}`]);
    }
  });

  it("is not told of a call that returns in time, though its caller was answered before", async () => {
    const first = held("first");
    const second = held("second");
    const all = [lane.run(first, caller()), lane.run(second, caller())].map(outcome);
    await clock.advance(3_000);
    first.end();
    await clock.advance(1_000);
    expect(await Promise.all(all)).toEqual(["done", "deadline"]);
    second.end();
    await clock.advance(10_000);
    expect(heard).toEqual([]);
  });

  it("whoever hears that it is back finds it taking calls", async () => {
    const found: (string | undefined)[] = [];
    const other = new Lane({
      name: "GPU 1",
      clock,
      log,
      timeoutMs,
      wakefulness: drowsy,
      back: () => void found.push(other.refusal()?.code, String(other.isIdle)),
    });
    const running = held("running");
    void outcome(other.run(running, caller()));
    await clock.advance(timeoutMs);
    expect(other.refusal()?.code).toBe("lane_stuck");
    running.end();
    await clock.advance(0);
    expect(found).toEqual([undefined, "true"]);
  });
});
