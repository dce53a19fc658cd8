// Probing: asks a backend for its GPUs at the start, and again with back-off while something is missing.
import type { Clock } from "../contract/clock.ts";
import { ZeusdError, messageOf } from "../contract/errors.ts";
import type { AwayGpu, Gpu, GpuBackend } from "../contract/gpu.ts";
import type { Log } from "../contract/log.ts";

export interface ProbingParts {
  readonly backend: GpuBackend;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether there is no starting without the driver. */
  readonly required: boolean;
  /** The GPUs that were driven and have gone since. */
  readonly lost: () => ReadonlySet<number>;
  /** Takes in what was found, every time. */
  readonly adopt: (found: readonly (Gpu | AwayGpu)[]) => void;
  /** Looking again is of no use: nothing but a new process can. */
  readonly fatal: (error: ZeusdError) => void;
}

const firstWaitMs = 1_000;
const longestWaitMs = 60_000;

interface Outcome {
  readonly complete: boolean;
  /** What is missing, in words; logged when it changes. */
  readonly missing: string;
  readonly error?: unknown;
}

export class Probing {
  readonly #parts: ProbingParts;
  #waitMs = firstWaitMs;
  /** When nothing was missing any more, in ms. */
  #completeAtMs = -Infinity;
  #told = "";
  #running = false;
  /** Whether a look is to come. */
  #waiting = false;
  #cancel = (): void => {};

  constructor(parts: ProbingParts) {
    this.#parts = parts;
  }

  /**
   * Settles after the first probe. What was missing is looked for again for as long as the daemon runs, so that a driver
   * loaded later needs no restart. Throws the reason if the driver as a whole is missing and required, or was replaced.
   */
  async start(): Promise<void> {
    const first = await this.#probe();
    if (first.error !== undefined && (this.#parts.required || isMismatch(first.error))) throw first.error;
    if (!first.complete) this.#again(first.missing);
  }

  /**
   * Something that was there is missing now: it is looked for soon, whatever the back-off has come to, unless all has been
   * there for a short while only: a GPU that comes back and goes again is looked for less and less often.
   */
  hasten(): void {
    const { clock } = this.#parts;
    if (clock.monotonicMs() - this.#completeAtMs >= longestWaitMs) this.#waitMs = firstWaitMs;
    // GPUs that go together are looked for together: not each of them shall make the wait longer.
    else if (this.#waiting) return;
    if (!this.#running) this.#schedule();
  }

  async #probe(): Promise<Outcome> {
    const { backend, adopt, lost } = this.#parts;
    this.#running = true;
    try {
      const found = await backend.probe(lost());
      adopt(found);
      return outcomeOf(found);
    } catch (error) {
      const missing = [...lost()].map((id) => `GPU ${id}`).join(", ") || "No GPUs";
      return { complete: false, missing: `${missing}: ${messageOf(error)}`, error };
    } finally {
      this.#running = false;
    }
  }

  #again(missing: string): void {
    const { log } = this.#parts;
    if (missing !== "" && missing !== this.#told)
      log.warn(`${missing} (going on looking, at least every ${longestWaitMs / 1000} s)`);
    this.#told = missing;
    this.#schedule();
  }

  #schedule(): void {
    this.#cancel();
    const waitMs = this.#waitMs;
    this.#waitMs = Math.min(2 * waitMs, longestWaitMs);
    this.#waiting = true;
    this.#cancel = this.#parts.clock.after(waitMs, () => void this.#look());
  }

  async #look(): Promise<void> {
    this.#waiting = false;
    const { log, lost, fatal } = this.#parts;
    const { complete, missing, error } = await this.#probe();
    if (isMismatch(error)) {
      fatal(error);
    } else if (!complete || lost().size > 0) {
      this.#again(missing);
    } else {
      this.#completeAtMs = this.#parts.clock.monotonicMs();
      this.#told = "";
      log.info("All GPUs are there now");
    }
  }
}

function outcomeOf(found: readonly (Gpu | AwayGpu)[]): Outcome {
  // A driver without GPUs may get some; a machine without any is asked once a minute.
  if (found.length === 0) return { complete: false, missing: "The driver has no GPUs" };
  const away = found.filter((gpu) => "away" in gpu);
  const missing = away.map(({ id, away: reason }) => `GPU ${id} cannot be opened: ${reason.message}`).join("; ");
  return { complete: away.length === 0, missing };
}

function isMismatch(error: unknown): error is ZeusdError {
  return error instanceof ZeusdError && error.code === "driver_mismatch";
}
