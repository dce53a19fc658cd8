// Probing: asks a backend for its GPUs at the start, and again with back-off while something is missing.
import type { Clock } from "../contract/clock.ts";
import { messageOf } from "../contract/errors.ts";
import type { AwayGpu, Gpu, GpuBackend } from "../contract/gpu.ts";
import type { Log } from "../contract/log.ts";

export interface ProbingParts {
  readonly backend: GpuBackend;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether there is no starting without the driver. */
  readonly required: boolean;
  /** Takes in what was found, every time. */
  readonly adopt: (found: readonly (Gpu | AwayGpu)[]) => void;
}

const firstWaitMs = 5_000;
const longestWaitMs = 60_000;

/**
 * Settles after the first probe. What was missing is looked for again for as long as the daemon runs, so that a driver
 * loaded later needs no restart. Throws the reason if the driver as a whole is missing and required.
 */
export async function keepProbing(parts: ProbingParts): Promise<void> {
  const first = await probe(parts);
  if (first.error !== undefined && parts.required) throw first.error;
  if (!first.complete) again(parts, firstWaitMs, first.missing);
}

interface Outcome {
  readonly complete: boolean;
  /** What is missing, in words; logged when it changes. */
  readonly missing: string;
  readonly error?: unknown;
}

async function probe({ backend, adopt }: ProbingParts): Promise<Outcome> {
  try {
    const found = await backend.probe();
    adopt(found);
    const away = found.filter((gpu) => "away" in gpu);
    const missing = away.map(({ id, away: reason }) => `GPU ${id} cannot be opened: ${reason.message}`).join("; ");
    // A driver without GPUs may get some; a machine without any is asked once a minute.
    if (found.length === 0) return { complete: false, missing: "The driver has no GPUs" };
    return { complete: away.length === 0, missing };
  } catch (error) {
    return { complete: false, missing: `No GPUs: ${messageOf(error)}`, error };
  }
}

function again(parts: ProbingParts, waitMs: number, missing: string, told?: string): void {
  if (missing !== told) parts.log.warn(`${missing} (going on looking, at most every ${longestWaitMs / 1000} s)`);
  parts.clock.after(waitMs, () => {
    void probe(parts).then((outcome) => {
      if (outcome.complete) parts.log.info("All GPUs are there now");
      else again(parts, Math.min(2 * waitMs, longestWaitMs), outcome.missing, missing);
    });
  });
}
