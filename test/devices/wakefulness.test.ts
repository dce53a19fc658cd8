// Wakefulness: the loop polls for a bounded time around driver calls, and sleeps through long ones but for their end.
import { beforeEach, describe, expect, it } from "vitest";
import { createWakefulness, type Wakefulness } from "../../src/devices/wakefulness.ts";

let now: number;
let turn: (() => void) | undefined;
let yields: number;
let alarms: number[];
let ring: () => void;

beforeEach(() => {
  now = 0;
  turn = undefined;
  yields = 0;
  alarms = [];
});

/** Stays awake for so many ms after each event. */
function create(lastingMs: number): Wakefulness {
  return createWakefulness(lastingMs * 1000, {
    nowMs: () => now,
    nextTurn(callback) {
      expect(turn).toBeUndefined();
      turn = callback;
    },
    createAlarm(callback) {
      ring = callback;
      return { set: (ms) => void alarms.push(ms) };
    },
    yieldProcessor: () => void (yields += 1),
  });
}

/** Lets the loop turn every 0.01 ms until it sleeps; gives the time at which it does. */
function asleepAtMs(): number {
  while (turn) {
    now = Math.round((now + 0.01) * 100) / 100;
    const callback = turn;
    turn = undefined;
    callback();
  }
  return now;
}

describe("the loop", () => {
  it("is awake for its time after a call begins, and again after it ends, and sleeps then", () => {
    const wakefulness = create(0.2);
    wakefulness.began(undefined);
    expect(asleepAtMs()).toBeCloseTo(0.2);
    now = 5;
    wakefulness.ended();
    expect(asleepAtMs()).toBeCloseTo(5.2);
  });

  it("lets others have the processor at every turn", () => {
    create(0.2).began(undefined);
    asleepAtMs();
    expect(yields).toBeGreaterThanOrEqual(18);
  });

  it("polls once however many calls begin and end", () => {
    const wakefulness = create(0.2);
    for (let count = 0; count < 5; count += 1) wakefulness.began(undefined);
    for (let count = 0; count < 5; count += 1) wakefulness.ended();
    expect(asleepAtMs()).toBeCloseTo(0.2);
  });
});

describe("an alarm", () => {
  it("is set to shortly before the usual end of a call that takes longer than the loop stays awake", () => {
    create(0.2).began(10);
    expect(alarms).toEqual([9.8]);
  });

  it("is not set for a short call, for the first of its kind, and while another call is in flight", () => {
    const wakefulness = create(0.2);
    wakefulness.began(0.1);
    wakefulness.ended();
    wakefulness.began(undefined);
    wakefulness.began(10);
    expect(alarms).toEqual([]);
  });

  it("keeps the loop awake from then on until its time after the usual end", () => {
    create(0.2).began(10);
    asleepAtMs();
    now = 9.8;
    ring();
    expect(asleepAtMs()).toBeCloseTo(10.2, 1);
  });

  it("that rings for a call which is over wakes nobody", () => {
    const wakefulness = create(0.2);
    wakefulness.began(10);
    wakefulness.ended();
    asleepAtMs();
    ring();
    expect(turn).toBeUndefined();
  });

  it("asks for a longer stay than an event does, and no event shortens it", () => {
    const wakefulness = create(0.05);
    wakefulness.began(10);
    asleepAtMs();
    now = 9.8;
    ring();
    wakefulness.ended();
    expect(asleepAtMs()).toBeCloseTo(10.05);
  });
});
