// The energy counter of one RAPL domain, and the only place that knows of its wraps.
import { join } from "node:path";
import type { Log } from "../../contract/log.ts";
import { readCounter } from "./sysfs.ts";

export interface EnergyCounter {
  readonly folder: string;
  /** The largest value of the hardware counter, in µJ. */
  readonly range_uj: number;
  /** Energy in µJ, wraps included; it never goes back. Throws `io_error` with the system's reason. */
  read(): Promise<number>;
}

/**
 * The counter in `folder`, which must be readable now. Every reader of a domain has to share one of these.
 * Assumes that it is read at least once per wrap. Source: `energy_uj` and `max_energy_range_uj`.
 */
export async function openEnergyCounter(folder: string, log: Pick<Log, "warn">): Promise<EnergyCounter> {
  const range_uj = await readCounter(join(folder, "max_energy_range_uj"));
  let raw = await readCounter(join(folder, "energy_uj"));
  let wrapped_uj = 0;
  let rounded = false;

  const readNext = async (): Promise<number> => {
    const next = await readCounter(join(folder, "energy_uj"));
    // The counter goes from its maximum to 0, which is one step more than its maximum.
    if (next < raw) wrapped_uj += range_uj + 1;
    raw = next;
    const total = wrapped_uj + raw;
    if (!rounded && !Number.isSafeInteger(total)) {
      rounded = true;
      log.warn(`The energy of RAPL zone ${folder} has passed 2^53 µJ: from here on it is rounded to 2 µJ`);
    }
    return total;
  };
  return { folder, range_uj, read: inTurn(readNext) };
}

/** Two reads at once could end in the wrong order, and the older value would look like a wrap. */
function inTurn<T>(task: () => Promise<T>): () => Promise<T> {
  let previous: Promise<unknown> = Promise.resolve();
  return () => {
    const turn = previous.then(task, task);
    previous = turn;
    return turn;
  };
}
