// Reads the energy counters now and then, so that none wraps twice between two readings.
import type { Clock } from "../../contract/clock.ts";
import { messageOf } from "../../contract/errors.ts";
import type { Log } from "../../contract/log.ts";
import type { EnergyCounter } from "./energy-counter.ts";

const longest_ms = 30_000;
const shortest_ms = 100;
// No package draws more. In mW, which is also µJ per ms.
const most_mw = 1_000_000;

/** Starts reading; the result stops it. */
export function keepRead(
  counters: readonly EnergyCounter[],
  clock: Pick<Clock, "after">,
  log: Pick<Log, "warn">,
): () => void {
  if (counters.length === 0) return () => {};
  const period_ms = periodFor(Math.min(...counters.map(({ range_uj }) => range_uj)));
  const failing = new Set<EnergyCounter>();
  let stopped = false;

  const readAll = async (): Promise<void> => {
    await Promise.all(counters.map((counter) => readOne(counter, failing, log)));
    if (!stopped) cancel = clock.after(period_ms, () => void readAll());
  };
  let cancel = clock.after(period_ms, () => void readAll());
  return () => {
    stopped = true;
    cancel();
  };
}

/** Half the time in which the counter can wrap at the soonest, in ms, from 100 to 30,000. */
function periodFor(range_uj: number): number {
  return Math.min(longest_ms, Math.max(shortest_ms, range_uj / most_mw / 2));
}

/** The log hears of a failure once, not every 30 seconds. */
async function readOne(counter: EnergyCounter, failing: Set<EnergyCounter>, log: Pick<Log, "warn">): Promise<void> {
  try {
    await counter.read();
    failing.delete(counter);
  } catch (error) {
    if (!failing.has(counter)) log.warn(`RAPL zone ${counter.folder} cannot be read: ${messageOf(error)}`);
    failing.add(counter);
  }
}
