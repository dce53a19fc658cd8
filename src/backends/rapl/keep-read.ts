// Reads the energy counters now and then, so that none wraps twice between two readings.
import type { Clock } from "../../contract/clock.ts";
import { messageOf } from "../../contract/errors.ts";
import type { Log } from "../../contract/log.ts";
import { most_mw, type EnergyCounter } from "./energy-counter.ts";

const longest_ms = 30_000;
const shortest_ms = 100;
/** How long the log is left alone after it heard of a counter. */
const quiet_ms = 600_000;

/** Starts reading; the result stops it. Each counter by itself: one that hangs costs one thread, and holds up no other. */
export function keepRead(
  counters: readonly EnergyCounter[],
  clock: Pick<Clock, "after" | "monotonicMs">,
  log: Pick<Log, "warn">,
): () => void {
  const stops = counters.map((counter) => keepReadOne(counter, clock, log));
  return () => {
    for (const stop of stops) stop();
  };
}

function keepReadOne(
  counter: EnergyCounter,
  clock: Pick<Clock, "after" | "monotonicMs">,
  log: Pick<Log, "warn">,
): () => void {
  const period_ms = periodFor(counter.range_uj);
  let stopped = false;
  let told_ms: number | undefined;

  /** The log hears of a failure once, and of a counter that fails now and then every ten minutes at most. */
  const read = async (): Promise<void> => {
    try {
      await counter.read();
      if (told_ms !== undefined && clock.monotonicMs() - told_ms >= quiet_ms) told_ms = undefined;
    } catch (error) {
      if (told_ms === undefined) log.warn(`RAPL zone ${counter.folder} cannot be read: ${messageOf(error)}`);
      told_ms ??= clock.monotonicMs();
    }
    if (!stopped) cancel = clock.after(period_ms, () => void read());
  };
  let cancel = clock.after(period_ms, () => void read());
  return () => {
    stopped = true;
    cancel();
  };
}

/** Half the time in which a counter can wrap at the soonest, in ms, from 100 to 30,000. */
function periodFor(range_uj: number): number {
  return Math.min(longest_ms, Math.max(shortest_ms, range_uj / most_mw / 2));
}
