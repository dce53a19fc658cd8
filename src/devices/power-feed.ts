// A device's power feed: reads its power again and again while someone listens, and only then.
import type { Clock } from "../contract/clock.ts";
import type { Sample } from "../contract/command.ts";
import { messageOf } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Log } from "../contract/log.ts";

/** Where the readings come from. With `start`, a reading is a mean since the one before, and needs a baseline first. */
export interface Sampler {
  start?(): Promise<void>;
  sample(): Promise<Values>;
}

export interface PowerFeedParts {
  /** Names the device in the log, for example `GPU 0`. */
  readonly name: string;
  readonly sampler: Sampler;
  readonly periodMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

interface Listener {
  last?: Values;
  readonly changed: (sample: Sample) => void;
}

interface Waiter {
  readonly resolve: (values: Values) => void;
  readonly reject: (error: unknown) => void;
}

/** How long the log is left alone after it heard of a failure, in milliseconds. */
const quietMs = 10_000;

export class PowerFeed {
  readonly #parts: PowerFeedParts;
  readonly #listeners = new Set<Listener>();
  #waiters: Waiter[] = [];
  #polling = false;
  /** Whether the log knows of a failure that is not over. */
  #told = false;
  #toldAtMs = -Infinity;
  #endPause = (): void => {};

  constructor(parts: PowerFeedParts) {
    this.#parts = parts;
  }

  /** Whether the device is being read; false as soon as nobody listens. */
  get active(): boolean {
    return this.#polling;
  }

  /**
   * Calls `changed` with a fresh reading first, then whenever the reading differs from the last one that this listener
   * got. The result ends it.
   */
  subscribe(changed: (sample: Sample) => void): () => void {
    const listener: Listener = { changed };
    this.#listeners.add(listener);
    this.#wake();
    return () => {
      this.#listeners.delete(listener);
      if (!this.#wanted) this.#endPause();
    };
  }

  /** The next reading; rejects with its error if it fails. */
  next(): Promise<Values> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#wake();
    });
  }

  get #wanted(): boolean {
    return this.#listeners.size > 0 || this.#waiters.length > 0;
  }

  /** A mean over a period needs that period; a momentary reading can be had at once. */
  #wake(): void {
    if (!this.#polling) void this.#poll();
    else if (!this.#parts.sampler.start) this.#endPause();
  }

  async #poll(): Promise<void> {
    const { sampler } = this.#parts;
    this.#polling = true;
    let started = !sampler.start;
    while (this.#wanted) {
      const began = this.#parts.clock.monotonicMs();
      let values: Values | undefined;
      try {
        if (started) values = await sampler.sample();
        else await sampler.start?.();
        started = true;
      } catch (error) {
        this.#fail(error);
      }
      if (values) this.#publish(values);
      if (this.#wanted) await this.#pause(this.#parts.periodMs - (this.#parts.clock.monotonicMs() - began));
    }
    this.#polling = false;
  }

  #publish(values: Values): void {
    const { name, clock, log } = this.#parts;
    if (this.#told) log.info(`The power of ${name} can be read again`);
    this.#told = false;
    for (const { resolve } of this.#waiters.splice(0)) resolve(values);
    const sample = { timestamp_ms: clock.epochMs(), values };
    for (const listener of this.#listeners) {
      if (listener.last && same(listener.last, values)) continue;
      listener.last = values;
      listener.changed(sample);
    }
  }

  /**
   * A failing GPU is read many times a second: the log hears of it once, and once more when it is over; of one that fails now
   * and then it hears every 10 s at most.
   */
  #fail(error: unknown): void {
    const { name, clock, log } = this.#parts;
    const now = clock.monotonicMs();
    if (!this.#told && now - this.#toldAtMs >= quietMs) {
      log.warn(`Reading the power of ${name} fails: ${messageOf(error)}`);
      this.#toldAtMs = now;
      this.#told = true;
    }
    for (const { reject } of this.#waiters.splice(0)) reject(error);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#parts.clock.after(Math.max(0, ms), resolve);
      this.#endPause = () => {
        cancel();
        resolve();
      };
    });
  }
}

function same(one: Values, other: Values): boolean {
  return Object.keys(other).every((name) => one[name] === other[name]);
}
