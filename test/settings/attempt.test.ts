// All or nothing: what is done of a command that fails elsewhere is put back, whenever it is done.
import { describe, expect, it } from "vitest";
import { Attempt } from "../../src/settings/attempt.ts";
import { clocks, createSubject, watts } from "./one-gpu.ts";

describe("all or nothing: an attempt that is called off", () => {
  it("puts back what was done, within a lease", async () => {
    const { power, lock, acquire, gpu, clock, member } = createSubject();
    const lease = acquire();
    await lock(500, lease);
    const attempt = new Attempt();
    await power(200, lease, attempt);
    await lock(600, lease, attempt);
    attempt.callOff();
    await clock.advance(0);
    expect([gpu.set.get("power_limit"), gpu.set.get("gpu_clocks")]).toEqual([watts(300), clocks(500)]);
    expect(member.settings.winner("gpu_clocks")).toMatchObject({ value: clocks(500), lease: lease.number });
    expect(member.settings.winner("power_limit")?.lease).toBeUndefined();
    expect(member.settings.owes).toBe(false);
  });

  it("puts back what was done without a lease, to what was there or had been set before", async () => {
    const { power, lock, gpu, clock, member } = createSubject();
    const attempt = new Attempt();
    await power(200, undefined, attempt);
    expect(gpu.reads).toEqual(["power_limit"]);
    await lock(600, undefined, attempt);
    attempt.callOff();
    await clock.advance(0);
    expect([gpu.set.get("power_limit"), gpu.set.get("gpu_clocks")]).toEqual([watts(300), {}]);
    await power(250);
    await lock(700);
    const again = new Attempt();
    await power(200, undefined, again);
    await lock(600, undefined, again);
    again.callOff();
    await clock.advance(0);
    expect([gpu.set.get("power_limit"), gpu.set.get("gpu_clocks")]).toEqual([watts(250), clocks(700)]);
    expect(member.settings.winner("power_limit")).toMatchObject({ value: watts(250), order: 3 });
    expect(member.settings.owes).toBe(false);
  });

  it("puts back what is done later all the same, and not what is refused later", async () => {
    const { power, gpu, clock, written } = createSubject();
    for (const [outcome, writes] of [
      ["done", [watts(200), watts(300)]],
      ["refused", [watts(200)]],
    ] as const) {
      gpu.outcomes.push("hangs");
      const attempt = new Attempt();
      const writing = power(200, undefined, attempt);
      await clock.advance(0);
      expect(gpu.isHanging).toBe(true);
      attempt.callOff();
      gpu.release(outcome);
      await Promise.allSettled([writing]);
      await clock.advance(0);
      expect(written()).toEqual(writes);
      expect(gpu.set.get("power_limit")).toEqual(watts(300));
    }
  });

  it("leaves alone what has been written since, and a lease that has ended", async () => {
    const { power, acquire, release, gpu, clock, written, member } = createSubject();
    const [one, other] = [acquire(), acquire()];
    const attempt = new Attempt();
    await power(200, one, attempt);
    await power(210, one);
    written();
    attempt.callOff();
    await clock.advance(0);
    expect(written()).toEqual([]);
    expect(member.settings.winner("power_limit")).toMatchObject({ value: watts(210) });
    const later = new Attempt();
    await power(220, other, later);
    await release(other);
    expect(gpu.set.get("power_limit")).toEqual(watts(210));
    later.callOff();
    await clock.advance(0);
    expect(gpu.set.get("power_limit")).toEqual(watts(210));
  });

  it("undoes the last first, each once, and what comes after at once", () => {
    const attempt = new Attempt();
    const undone: number[] = [];
    for (const part of [1, 2, 3]) attempt.did(() => void undone.push(part));
    expect(undone).toEqual([]);
    attempt.callOff();
    expect(undone).toEqual([3, 2, 1]);
    attempt.did(() => void undone.push(4));
    attempt.callOff();
    expect(undone).toEqual([3, 2, 1, 4]);
  });
});
