// Wakefulness: the loop polls for a bounded time around driver calls, and sleeps through long ones but for their end.
import { beforeEach, expect, it, vi } from "vitest";
import { createWakefulness, type Wakefulness } from "../../src/devices/wakefulness.ts";

let turns: number;
let alarms: number[];
let ring: () => void;

/** Stays awake for so many ms after each event. */
function create(lastingMs: number): Wakefulness {
  return createWakefulness(lastingMs * 1000, {
    createAlarm(callback) {
      ring = callback;
      return { set: (ms) => void alarms.push(ms) };
    },
    yieldProcessor: () => void (turns += 1),
  });
}

const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
  });

/** Settles when the loop has not polled for a while. */
async function asleep(): Promise<void> {
  for (let before = -1; before !== turns; await pause(20)) before = turns;
}

beforeEach(() => {
  turns = 0;
  alarms = [];
});

it("polls when a call begins and when it ends, and stops by itself", async () => {
  const wakefulness = create(5);
  wakefulness.began(undefined);
  await asleep();
  const begun = turns;
  expect(begun).toBeGreaterThan(0);
  wakefulness.ended();
  await asleep();
  expect(turns).toBeGreaterThan(begun);
});

it("lets others have the processor at every turn", async () => {
  create(1_000).began(undefined);
  await vi.waitUntil(() => turns > 100);
});

it("sets an alarm to shortly before the usual end of a call that takes longer than it stays awake", () => {
  const wakefulness = create(0.2);
  wakefulness.began(10);
  expect(alarms).toHaveLength(1);
  expect(alarms[0]).toBeGreaterThan(9);
  expect(alarms[0]).toBeLessThan(10);
});

it("sets none for a short call, for the first of its kind, and while another call is in flight", () => {
  const wakefulness = create(0.2);
  wakefulness.began(0.1);
  wakefulness.ended();
  wakefulness.began(undefined);
  wakefulness.began(10);
  expect(alarms).toEqual([]);
});

it("polls when the alarm rings, but not for a call that is over", async () => {
  const wakefulness = create(0.2);
  wakefulness.began(10);
  await asleep();
  const before = turns;
  ring();
  await asleep();
  const rung = turns;
  expect(rung).toBeGreaterThan(before);
  wakefulness.ended();
  await asleep();
  const over = turns;
  ring();
  await asleep();
  expect(turns).toBe(over);
});
