// CPU power from two readings of the energy counters and the time that really passed between them.
import type { Cpu } from "../contract/cpu.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { ValuesOf } from "../contract/field.ts";
import type { cpuOperations } from "../contract/operations.ts";

export interface PowerMeter {
  /** Takes the baseline. Fails if the package cannot be read; memory that cannot be read is left out until the next start. */
  start(): Promise<void>;
  /**
   * Mean power since the reading before, in mW, cut off to a whole number; the memory's is null where it has none or its
   * baseline failed. If a reading fails the one before stays, and the next power covers the time since then.
   */
  sample(): Promise<ValuesOf<typeof cpuOperations.getPower.result>>;
}

interface Reading {
  readonly energy_uj: number;
  readonly at_ms: number;
}

/** `now` in ms, monotonic. The energy comes from the Cpu itself, which already knows of wraps. */
export function createPowerMeter(cpu: Cpu, now: () => number): PowerMeter {
  let before: { readonly cpu: Reading; readonly dram: Reading | null } | undefined;
  return {
    async start() {
      before = undefined;
      const dram = cpu.dram_available ? readDram(cpu, now).catch(() => null) : null;
      before = { cpu: await readPackage(cpu, now), dram: await dram };
    },
    async sample() {
      if (!before) throw new ZeusdError("internal", `The power meter of CPU ${cpu.id} was not started.`);
      const last = before;
      const [package_, dram] = await Promise.all([readPackage(cpu, now), last.dram && readDram(cpu, now)]);
      before = { cpu: package_, dram };
      return {
        cpu_mw: meanPower(last.cpu, package_),
        dram_mw: last.dram && dram && meanPower(last.dram, dram),
      };
    },
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
