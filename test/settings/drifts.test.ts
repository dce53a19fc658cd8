// Drift: what is not as it should be is told of once, and put right where that is wanted.
import { describe, expect, it } from "vitest";
import { rowOf } from "./fake-gpu.ts";
import { createSubject, watts } from "./one-gpu.ts";

describe("drift", () => {
  const getPower = rowOf("getPowerLimit");

  it("is told of, counted and over when it is", async () => {
    const { gpu, power, acquire, member, named, daemon, clock, written } = createSubject();
    const lease = acquire();
    await power(200, lease);
    const { drifts } = member.settings;
    await member.read(getPower);
    expect(drifts.of("power_limit")).toBeUndefined();
    gpu.set.set("power_limit", watts(280));
    await member.read(getPower);
    await member.read(getPower);
    expect(drifts.of("power_limit")).toEqual(watts(280));
    expect(drifts.count("power_limit")).toBe(1);
    expect(named("drift")).toEqual([
      { event: "drift", gpu: 0, setting: "power_limit", expected: watts(200), found: watts(280) },
    ]);
    gpu.set.set("power_limit", watts(290));
    await member.read(getPower);
    expect(drifts.count("power_limit")).toBe(2);
    expect(drifts.count("gpu_clocks")).toBe(0);
    gpu.set.set("power_limit", watts(200));
    await member.read(getPower);
    await member.read(getPower);
    expect(drifts.of("power_limit")).toBeUndefined();
    expect(named("drift_over")).toEqual([{ event: "drift_over", gpu: 0, setting: "power_limit", value: watts(200) }]);
    expect(daemon.log.lines.filter((line) => line.startsWith("warn"))).toHaveLength(2);
    await clock.advance(60_000);
    // Nobody has asked for it to be put right.
    expect(written()).toEqual([watts(200)]);
  });

  it("is over when something else is written", async () => {
    const { gpu, power, acquire, member, named, release } = createSubject();
    const lease = acquire();
    await power(200, lease);
    gpu.set.set("power_limit", watts(280));
    await member.read(getPower);
    await power(210, lease);
    expect(member.settings.drifts.of("power_limit")).toBeUndefined();
    expect(named("drift_over")).toEqual([{ event: "drift_over", gpu: 0, setting: "power_limit", value: watts(210) }]);
    gpu.set.set("power_limit", watts(280));
    await member.read(getPower);
    expect(member.settings.drifts.count("power_limit")).toBe(2);
    // Or put back.
    await release(lease);
    expect(member.settings.drifts.of("power_limit")).toBeUndefined();
    expect(named("drift_over").at(-1)).toMatchObject({ value: watts(300) });
  });

  it("is over when the lease ends that wanted something else, though what is there is what was before", async () => {
    const { gpu, power, acquire, member, named, release, written } = createSubject();
    const lease = acquire();
    await power(200, lease);
    gpu.set.set("power_limit", watts(300));
    await member.read(getPower);
    written();
    await release(lease);
    expect(written()).toEqual([]);
    expect(member.settings.drifts.of("power_limit")).toBeUndefined();
    expect(named("drift_over")).toMatchObject([{ value: watts(300) }]);
  });

  it("is not put right by a write that the driver refuses, if nobody wants that", async () => {
    const { gpu, power, acquire, member, clock } = createSubject();
    const lease = acquire();
    await power(200, lease);
    gpu.set.set("power_limit", watts(280));
    await member.read(getPower);
    gpu.outcomes.push("refused");
    await expect(power(1, lease)).rejects.toMatchObject({ code: "invalid_argument" });
    await clock.advance(0);
    expect(gpu.set.get("power_limit")).toEqual(watts(280));
  });

  it("is of what was set without a lease as well, and not of what nobody has set", async () => {
    const { gpu, power, member, named } = createSubject();
    await member.read(getPower);
    gpu.set.set("power_limit", watts(280));
    await member.read(getPower);
    expect(named("drift")).toEqual([]);
    await power(200);
    gpu.set.set("power_limit", watts(280));
    await member.read(getPower);
    expect(named("drift")).toMatchObject([{ expected: watts(200), found: watts(280) }]);
  });

  it("is not of what was merely found when a lease wanted to write, and could not", async () => {
    const { gpu, power, acquire, member, named, journal } = createSubject({ reassert: true });
    const lease = acquire();
    journal.fails = true;
    await expect(power(200, lease)).rejects.toMatchObject({ code: "journal_unavailable" });
    gpu.set.set("power_limit", watts(280));
    await member.read(getPower);
    expect(named("drift")).toEqual([]);
    expect(member.settings.owes).toBe(false);
  });

  it("is not of what is about to be put back", async () => {
    const { gpu, power, acquire, release, member, named } = createSubject();
    await power(290);
    const lease = acquire();
    await power(200, lease);
    gpu.outcomes.push("lost");
    await release(lease);
    await member.read(getPower);
    expect(named("drift")).toEqual([]);
  });

  it("that was put right is put right when it comes again, without anybody having looked in between", async () => {
    const { gpu, power, acquire, member, clock, written, named } = createSubject({ reassert: true });
    await power(200, acquire());
    written();
    for (let round = 1; round <= 3; round += 1) {
      gpu.set.set("power_limit", watts(280));
      await member.read(getPower);
      await clock.advance(0);
      expect(written()).toEqual([watts(200)]);
      expect(named("drift")).toHaveLength(round);
      expect(named("drift_over")).toHaveLength(round);
    }
  });

  it("is put right where that is wanted, once each time it is found, and never the lease's base", async () => {
    const { gpu, power, acquire, release, member, clock, written, named } = createSubject({ reassert: true });
    const lease = acquire();
    await power(200, lease);
    gpu.set.set("power_limit", watts(280));
    written();
    await member.read(getPower);
    await clock.advance(0);
    expect(written()).toEqual([watts(200)]);
    expect(named("restored")).toMatchObject([{ value: watts(200) }]);
    await member.read(getPower);
    expect(named("drift_over")).toHaveLength(1);
    // A driver that takes a value and does not apply it is not asked again and again.
    gpu.set.set("power_limit", watts(280));
    await member.read(getPower);
    gpu.set.set("power_limit", watts(280));
    await clock.advance(0);
    gpu.set.set("power_limit", watts(280));
    written();
    for (const _ of [1, 2, 3]) await member.read(getPower);
    await clock.advance(60_000);
    expect(written()).toEqual([]);
    await release(lease);
    expect(gpu.set.get("power_limit")).toEqual(watts(300));
  });
});
