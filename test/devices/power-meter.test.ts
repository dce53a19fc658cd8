// CPU power between two readings: how it is measured, and what a failed reading does to it.
import { describe, expect, test } from "vitest";
import type { Cpu } from "../../src/contract/cpu.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import { createPowerMeter } from "../../src/devices/power-meter.ts";

function value(counter: number | Error | null): number | null {
  if (counter instanceof Error) throw counter;
  return counter;
}

/** A CPU whose counters and clock the test sets; a counter may fail, or be missing from the answer. */
function bench({ dram_available = true } = {}) {
  const state = {
    ms: 5000,
    cpu_uj: 1_000_000 as number | Error | null,
    dram_uj: 400_000 as number | Error | null,
  };
  const cpu: Cpu = {
    id: 3,
    dram_available,
    getCumulativeEnergy: async (wanted) => ({
      cpu_energy_uj: wanted.cpu ? value(state.cpu_uj) : null,
      dram_energy_uj: wanted.dram && dram_available ? value(state.dram_uj) : null,
    }),
    supportsDramEnergy: async () => ({ dram_available }),
  };
  return { state, meter: createPowerMeter(cpu, () => state.ms) };
}

const failure = new ZeusdError("io_error", "IOError: No such file or directory (os error 2)");

describe("the power of a CPU", () => {
  test("is the energy over the time that really passed, not the nominal period (13.2 #14)", async () => {
    const { state, meter } = bench();
    await meter.start();
    Object.assign(state, { ms: 5100, cpu_uj: 11_000_000, dram_uj: 1_400_000 });
    expect(await meter.sample()).toEqual({ cpu_mw: 100_000, dram_mw: 10_000 });
    Object.assign(state, { ms: 5350, cpu_uj: 36_000_000, dram_uj: 1_900_000 });
    expect(await meter.sample()).toEqual({ cpu_mw: 100_000, dram_mw: 2000 });
  });

  test("is cut off to whole mW", async () => {
    const { state, meter } = bench();
    await meter.start();
    Object.assign(state, { ms: 5003, cpu_uj: 1_000_005, dram_uj: 400_002 });
    expect(await meter.sample()).toEqual({ cpu_mw: 1, dram_mw: 0 });
  });

  test("is 0 when no energy was drawn or no time has passed", async () => {
    const { state, meter } = bench();
    await meter.start();
    expect(await meter.sample()).toEqual({ cpu_mw: 0, dram_mw: 0 });
    state.ms += 100;
    expect(await meter.sample()).toEqual({ cpu_mw: 0, dram_mw: 0 });
  });

  test("has null for a memory that is not measured", async () => {
    const { state, meter } = bench({ dram_available: false });
    await meter.start();
    Object.assign(state, { ms: 5010, cpu_uj: 1_500_000 });
    expect(await meter.sample()).toEqual({ cpu_mw: 50_000, dram_mw: null });
  });

  test("has null for a memory whose baseline failed, until it was read twice", async () => {
    const { state, meter } = bench();
    state.dram_uj = failure;
    await meter.start();
    Object.assign(state, { ms: 5010, cpu_uj: 1_500_000, dram_uj: 500_000 });
    expect(await meter.sample()).toEqual({ cpu_mw: 50_000, dram_mw: null });
    Object.assign(state, { ms: 5020, cpu_uj: 2_000_000, dram_uj: 600_000 });
    expect(await meter.sample()).toEqual({ cpu_mw: 50_000, dram_mw: 10_000 });
  });

  test("goes on without a memory that cannot be read, whose next power covers the time since it could", async () => {
    const { state, meter } = bench();
    await meter.start();
    Object.assign(state, { ms: 5100, cpu_uj: 11_000_000, dram_uj: failure });
    expect(await meter.sample()).toEqual({ cpu_mw: 100_000, dram_mw: null });
    Object.assign(state, { ms: 5200, cpu_uj: 31_000_000 });
    expect(await meter.sample()).toEqual({ cpu_mw: 200_000, dram_mw: null });
    Object.assign(state, { ms: 5300, cpu_uj: 41_000_000, dram_uj: 6_400_000 });
    expect(await meter.sample()).toEqual({ cpu_mw: 100_000, dram_mw: 20_000 });
  });

  test("cannot be measured before a baseline was taken, nor after one that failed", async () => {
    const { state, meter } = bench();
    await expect(meter.sample()).rejects.toThrow("was not started");
    state.cpu_uj = failure;
    await expect(meter.start()).rejects.toBe(failure);
    await expect(meter.sample()).rejects.toThrow("was not started");
  });

  test("covers the whole time since the last good reading when one of the package fails", async () => {
    const { state, meter } = bench();
    await meter.start();
    Object.assign(state, { ms: 5100, cpu_uj: failure, dram_uj: 9_000_000 });
    await expect(meter.sample()).rejects.toBe(failure);
    Object.assign(state, { ms: 5200, cpu_uj: 21_000_000, dram_uj: 4_400_000 });
    expect(await meter.sample()).toEqual({ cpu_mw: 100_000, dram_mw: 20_000 });
  });

  test("fails in the original's words when the CPU answers without its energy", async () => {
    const { state, meter } = bench();
    state.cpu_uj = null;
    await expect(meter.start()).rejects.toMatchObject({
      status: 500,
      message: "CPU 3 did not return the energy data required for power measurement.",
    });
  });
});
