// A simulated CPU package with its memory.
import type { Cpu } from "../../contract/cpu.ts";
import type { Load } from "./load.ts";
import { createMeter } from "./meter.ts";

const package_w = { idle: 60, busy: 270 };
const dram_w = { idle: 8, busy: 32 };

interface SimulatedCpu {
  readonly id: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly load: Load;
}

/** Energy in µJ, from zero at the start, without wrapping. */
export function simulatedCpu({ id, now, load }: SimulatedCpu): Cpu {
  const meterOf = ({ idle, busy }: typeof package_w) => createMeter(now, load, (share) => idle + share * (busy - idle));
  const meters = { cpu: meterOf(package_w), dram: meterOf(dram_w) };
  const energy_uj = (domain: keyof typeof meters): number => Math.floor(meters[domain].read().energy_j * 1_000_000);
  return {
    id,
    dram_available: true,
    getCumulativeEnergy: async ({ cpu, dram }) => ({
      cpu_energy_uj: cpu ? energy_uj("cpu") : null,
      dram_energy_uj: dram ? energy_uj("dram") : null,
    }),
    supportsDramEnergy: async () => ({ dram_available: true }),
  };
}
