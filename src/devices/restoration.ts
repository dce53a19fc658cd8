// Puts a GPU's settings where they should be: before everything else in its lane, and again until it has worked.
import type { Clock } from "../contract/clock.ts";
import { messageOf, ZeusdError, type ErrorCode } from "../contract/errors.ts";
import type { GpuSettings } from "../settings/gpu-settings.ts";
import type { Values } from "../contract/field.ts";
import type { Lane } from "./lane.ts";

/** How long to wait before a restoration that has failed is tried again, in ms: longer each time. */
const firstWaitMs = 1_000;
const longestWaitMs = 60_000;

export interface RestorationParts {
  readonly settings: GpuSettings;
  readonly lane: Lane;
  readonly clock: Clock;
  /** Why the GPU cannot be driven now, if it cannot. */
  readonly away: () => ZeusdError | undefined;
  /** Hears of what will be tried again; without an error that it has worked. */
  readonly failed: (error?: unknown) => void;
}

export class Restoration {
  readonly #parts: RestorationParts;
  #running: Promise<string | undefined> | undefined;
  #waitMs = firstWaitMs;
  /** How often it was asked to. */
  #asked = 0;
  #cancelRetry = (): void => {};

  constructor(parts: RestorationParts) {
    this.#parts = parts;
  }

  /** Settles with undefined when everything is where it should be, or with a sentence that says why that has to wait. */
  settle(): Promise<string | undefined> {
    const { settings, away } = this.#parts;
    this.#asked += 1;
    if (this.#running) return this.#running;
    if (!settings.owes) return done;
    const reason = away();
    // It is done when the GPU is there again.
    if (reason) return Promise.resolve(reason.message);
    this.#running = this.#settle();
    return this.#running;
  }

  async #settle(): Promise<string | undefined> {
    let asked = this.#asked;
    let waits = false;
    try {
      // What ends meanwhile may be owed as well.
      while (this.#parts.settings.owes) {
        asked = this.#asked;
        await this.#runFirst();
      }
      this.#cancelRetry();
      if (this.#waitMs > firstWaitMs) this.#parts.failed();
      this.#waitMs = firstWaitMs;
      return undefined;
    } catch (error) {
      waits = error instanceof ZeusdError && awaited.has(error.code);
      if (!waits) this.#again(error);
      return messageOf(error);
    } finally {
      this.#running = undefined;
      // A lane that has come back meanwhile must not have said so in vain.
      if (waits && asked !== this.#asked) void this.settle();
    }
  }

  #runFirst(): Promise<Values> {
    const { lane, settings } = this.#parts;
    return new Promise((resolve, reject) => {
      const work = { name: "restoration", comesAgain: true, call: () => settings.settle(), abandoned: reject };
      lane.runFirst(work).then(resolve, reject);
    });
  }

  #again(error: unknown): void {
    const { clock, failed } = this.#parts;
    failed(error);
    this.#cancelRetry();
    this.#cancelRetry = clock.after(this.#waitMs, () => void this.settle());
    this.#waitMs = Math.min(2 * this.#waitMs, longestWaitMs);
  }
}

const done: Promise<undefined> = Promise.resolve(undefined);

/** The lane says when it works again, and a GPU that is away says when it is back. */
const awaited: ReadonlySet<ErrorCode> = new Set(["deadline", "lane_stuck", "gpu_away", "gpu_lost", "stopping"]);
