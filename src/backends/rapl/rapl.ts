// CPU energy from RAPL, as the kernel's powercap tree gives it.
import { systemClock, type Clock } from "../../contract/clock.ts";
import type { Cpu } from "../../contract/cpu.ts";
import type { Log } from "../../contract/log.ts";
import { keepRead } from "./keep-read.ts";
import { findRoot } from "./root.ts";
import { findPackages, type CpuPackage } from "./zones.ts";

interface RaplOptions {
  /** The folder that holds `intel-rapl:N`, or one with such a folder named `intel-rapl`; by default the kernel's own. */
  readonly root?: string;
  readonly log: Pick<Log, "info" | "warn">;
  readonly clock?: Pick<Clock, "after" | "monotonicMs">;
}

interface Rapl {
  /** By ascending id. */
  readonly cpus: readonly Cpu[];
  /** Ends the reading in the background. */
  stop(): void;
}

/**
 * The CPU packages of this machine. None, with a line in the log, where there is no RAPL; a zone that cannot be read is left
 * out with a warning. Reads the counters in the background, so that no wrap is missed while nobody asks.
 * Source: `name`, `energy_uj` and `max_energy_range_uj` in /sys/class/powercap/intel-rapl/intel-rapl:N and its sub-zones.
 */
export async function raplCpus({ root, log, clock = systemClock }: RaplOptions): Promise<Rapl> {
  const folder = await findRoot(root);
  const packages = await findPackages(folder, { log, clock });
  if (packages.length === 0) log.info(`RAPL not available: no CPU package that can be read in ${folder}`);
  const counters = packages.flatMap(({ cpu, dram }) => (dram ? [cpu, dram] : [cpu]));
  return { cpus: packages.map(toCpu), stop: keepRead(counters, clock, log) };
}

/**
 * Energy in µJ since the counter was last at zero before this daemon started; it never goes back.
 * Throws `io_error` with the system's reason if a counter that is asked for cannot be read.
 */
function toCpu({ id, cpu, dram }: CpuPackage): Cpu {
  const dram_available = dram !== null;
  return {
    id,
    dram_available,
    // One after the other: a lane has one call in flight.
    getCumulativeEnergy: async (wanted) => ({
      cpu_energy_uj: wanted.cpu ? await cpu.read() : null,
      dram_energy_uj: wanted.dram && dram ? await dram.read() : null,
    }),
    supportsDramEnergy: async () => ({ dram_available }),
  };
}
