// Reading counters in the background: each by itself, until told to stop, and without filling the log.
import { expect, test } from "vitest";
import type { EnergyCounter } from "../../src/backends/rapl/energy-counter.ts";
import { keepRead } from "../../src/backends/rapl/keep-read.ts";
import { createFakeClock } from "../fake-clock.ts";

/** A counter that is read every 30 s, and how often it was. */
function counter(read: () => Promise<number>): EnergyCounter & { reads: number } {
  const counted = {
    folder: "intel-rapl:0",
    range_uj: 262_143_328_850,
    reads: 0,
    read: () => (counted.reads++, read()),
  };
  return counted;
}

function start(...counters: readonly EnergyCounter[]) {
  const clock = createFakeClock();
  const lines: string[] = [];
  const stop = keepRead(counters, clock, { warn: (text) => void lines.push(text) });
  return { clock, lines, stop };
}

test("one counter does not wait for another that never answers, which is asked once", async () => {
  const [hung, other] = [counter(() => new Promise(() => {})), counter(async () => 1)];
  const { clock } = start(hung, other);
  await clock.advance(300_000);
  expect([hung.reads, other.reads]).toEqual([1, 10]);
});

test("a counter that fails now and then is told of every ten minutes at most", async () => {
  let reads = 0;
  const flapping = counter(async () => {
    if (reads++ % 2 === 0) throw new Error("gone");
    return 1;
  });
  const { clock, lines } = start(flapping);
  await clock.advance(25 * 60_000);
  expect(lines).toEqual(Array.from({ length: 3 }, () => "RAPL zone intel-rapl:0 cannot be read: gone"));
});

test("a counter that fails for good is told of once", async () => {
  const { clock, lines } = start(counter(() => Promise.reject(new Error("gone"))));
  await clock.advance(24 * 3_600_000);
  expect(lines).toHaveLength(1);
});

test("a reading that is under way at the end is the last", async () => {
  const answers: ((energy_uj: number) => void)[] = [];
  const slow = counter(() => new Promise((resolve) => answers.push(resolve)));
  const { clock, stop } = start(slow);
  await clock.advance(30_000);
  stop();
  answers[0]?.(1);
  await clock.advance(300_000);
  expect(slow.reads).toBe(1);
  expect(clock.pending).toBe(0);
});
