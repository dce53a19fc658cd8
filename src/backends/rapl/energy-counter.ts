// The energy counter of one RAPL domain, and the only place that knows of its wraps.
import { join } from "node:path";
import type { Clock } from "../../contract/clock.ts";
import type { Log } from "../../contract/log.ts";
import { readCounter } from "./sysfs.ts";

export interface EnergyCounter {
  readonly folder: string;
  /** The largest value of the hardware counter, in µJ. */
  readonly range_uj: number;
  /** Energy in µJ, wraps included; it never goes back. Reads may overlap. Throws `io_error` with the system's reason. */
  read(): Promise<number>;
}

interface EnergyCounterParts {
  readonly log: Pick<Log, "warn">;
  readonly clock: Pick<Clock, "monotonicMs">;
  /** Reads the whole number that a file holds. */
  readonly readFile?: (path: string) => Promise<number>;
}

/** No package draws more. In mW, which is also µJ per ms. */
export const most_mw = 1_000_000;

/** How often the hardware moves the counter on. */
const step_ms = 1;

/**
 * The counter in `folder`, which must be readable now. Every reader of a domain has to share one of these.
 * Assumes that it is read at least once per wrap. Source: `energy_uj` and `max_energy_range_uj`.
 */
export async function openEnergyCounter(
  folder: string,
  { log, clock, readFile = readCounter }: EnergyCounterParts,
): Promise<EnergyCounter> {
  const range_uj = await readFile(join(folder, "max_energy_range_uj"));
  const readRaw = () => readFile(join(folder, "energy_uj"));
  let newest = { began_ms: clock.monotonicMs(), raw_uj: await readRaw() };
  /** What the total is ahead of the counter. */
  let ahead_uj = 0;
  let rounded = false;

  /** The counter goes from its maximum to 0, which is one step more than its maximum. */
  function stepBack(raw_uj: number): void {
    const wrapped_uj = range_uj + 1 - newest.raw_uj + raw_uj;
    const longest_ms = clock.monotonicMs() - newest.began_ms + step_ms;
    // One that was set back, such as by a driver loaded anew, looks like one that wrapped, until one asks for the power.
    const wasSetBack = wrapped_uj / longest_ms > most_mw;
    ahead_uj += wasSetBack ? newest.raw_uj - raw_uj : range_uj + 1;
  }

  function tellRounding(): void {
    if (rounded || Number.isSafeInteger(ahead_uj + newest.raw_uj)) return;
    rounded = true;
    log.warn(`The energy of RAPL zone ${folder} has passed 2^53 µJ: from here on it is rounded to 2 µJ`);
  }

  return {
    folder,
    range_uj,
    async read() {
      const before = newest;
      const began_ms = clock.monotonicMs();
      const raw_uj = await readRaw();
      // A reading that overlaps a newer one may be the older of the two, and would then look like a wrap.
      if (newest === before) {
        if (raw_uj < before.raw_uj) stepBack(raw_uj);
        newest = { began_ms, raw_uj };
        tellRounding();
      }
      return ahead_uj + newest.raw_uj;
    },
  };
}
