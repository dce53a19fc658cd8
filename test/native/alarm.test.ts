// Alarms of the operating system, finer than Node's timers.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";
import { createAlarm } from "../../src/native/alarm.ts";

/** When an alarm rings, in ms from now. */
function rings(count: number, set: (alarm: ReturnType<typeof createAlarm>) => void): Promise<readonly number[]> {
  const began = performance.now();
  const times: number[] = [];
  return new Promise((resolve) => {
    const alarm = createAlarm(() => {
      times.push(performance.now() - began);
      if (times.length === count) resolve(times);
      else set(alarm);
    });
    set(alarm);
  });
}

it("ring once each time they are set, and not before", async () => {
  const times = await rings(20, (alarm) => alarm.set(1.5));
  times.forEach((time, index) => expect(time).toBeGreaterThanOrEqual(1.5 * (index + 1)));
});

it("are finer than a millisecond", async () => {
  const times = await rings(50, (alarm) => alarm.set(0.1));
  const gaps = times.map((time, index) => time - (times[index - 1] ?? 0));
  expect(Math.min(...gaps)).toBeLessThan(0.9);
});

it("ring at the last time that they were set to", async () => {
  const [time = 0] = await rings(1, (alarm) => {
    alarm.set(5_000);
    alarm.set(2_500_000);
    alarm.set(3);
  });
  expect(time).toBeGreaterThanOrEqual(3);
  expect(time).toBeLessThan(2_000);
});

it("that are set anew when they are due, but have not rung yet, ring once, at their new time", async () => {
  let setMs: number | undefined;
  const times: number[] = [];
  const alarms: ReturnType<typeof createAlarm>[] = [];
  await new Promise<void>((resolve) => {
    const ring = (other: number): void => {
      if (setMs === undefined) {
        // The other one is due in the same turn of the loop.
        setMs = performance.now();
        alarms[other]?.set(50);
        return;
      }
      times.push(performance.now() - setMs);
      alarms[2]?.set(20);
    };
    alarms.push(
      createAlarm(() => ring(1)),
      createAlarm(() => ring(0)),
      createAlarm(() => resolve()),
    );
    for (const alarm of alarms.slice(0, 2)) alarm.set(0.1);
    const began = performance.now();
    while (performance.now() - began < 1);
  });
  expect(times).toHaveLength(1);
  expect(times[0]).toBeGreaterThanOrEqual(50);
});

it("that are set anew when they have just rung ring again", async () => {
  const times = await rings(2, (alarm) => {
    alarm.set(0.1);
    const began = performance.now();
    while (performance.now() - began < 1);
    alarm.set(5);
  });
  expect(times[0]).toBeGreaterThanOrEqual(5);
  expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(5);
});

it("keep no process alive", () => {
  const alarm = join(import.meta.dirname, "../../dist/native/alarm.js");
  const script = `import { createAlarm } from ${JSON.stringify(alarm)}; createAlarm(() => {}).set(60_000);`;
  const { status } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { timeout: 20_000 });
  expect(status).toBe(0);
});
