// CPU power from two readings of the energy counters and the time that really passed between them.
import type { Cpu } from "../contract/cpu.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { ValuesOf } from "../contract/field.ts";
import type { cpuOperations } from "../contract/operations.ts";

export interface PowerMeter {
  /** Takes the baseline. Fails if the package cannot be read. */
  start(): Promise<void>;
  /**
   * Mean power since the last good reading, in mW, cut off to a whole number. Fails if the package cannot be read. The memory's
   * is null for as long as it cannot be read or has no baseline, which its first good reading becomes.
   */
  sample(): Promise<ValuesOf<typeof cpuOperations.getPower.result>>;
}

interface Reading {
  readonly energy_uj: number;
  readonly at_ms: number;
}

interface Readings {
  readonly cpu: Reading;
  readonly dram: Reading | null;
}

/** `now` in ms, monotonic. The energy comes from the Cpu itself, which already knows of wraps. */
export function createPowerMeter(cpu: Cpu, now: () => number): PowerMeter {
  let before: Readings | undefined;
  return {
    async start() {
      before = undefined;
      before = await readBoth(cpu, now);
    },
    async sample() {
      if (!before) throw new ZeusdError("internal", `The power meter of CPU ${cpu.id} was not started.`);
      const last = before;
      const next = await readBoth(cpu, now);
      before = { cpu: next.cpu, dram: next.dram ?? last.dram };
      return {
        cpu_mw: meanPower(last.cpu, next.cpu),
        dram_mw: last.dram && next.dram && meanPower(last.dram, next.dram),
      };
    },
  };
}

async function readBoth(cpu: Cpu, now: () => number): Promise<Readings> {
  return {
    cpu: await readPackage(cpu, now),
    dram: cpu.dram_available ? await readDram(cpu, now).catch(() => null) : null,
  };
}

async function readPackage(cpu: Cpu, now: () => number): Promise<Reading> {
  const { cpu_energy_uj } = await cpu.getCumulativeEnergy({ cpu: true, dram: false });
  return toReading(cpu, cpu_energy_uj, now);
}

async function readDram(cpu: Cpu, now: () => number): Promise<Reading> {
  const { dram_energy_uj } = await cpu.getCumulativeEnergy({ cpu: false, dram: true });
  return toReading(cpu, dram_energy_uj, now);
}

function toReading(cpu: Cpu, energy_uj: number | null, now: () => number): Reading {
  if (energy_uj === null) {
    throw new ZeusdError(
      "driver_error",
      `CPU ${cpu.id} did not return the energy data required for power measurement.`,
    );
  }
  return { energy_uj, at_ms: now() };
}

/** µJ per ms are mW. Two readings of the same instant tell nothing: 0. */
function meanPower(from: Reading, to: Reading): number {
  const elapsed_ms = to.at_ms - from.at_ms;
  return elapsed_ms > 0 ? Math.trunc((to.energy_uj - from.energy_uj) / elapsed_ms) : 0;
}
