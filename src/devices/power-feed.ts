// A device's power feed: reads its power again and again while someone listens, and only then. It is a lane of its own.
import type { Clock } from "../contract/clock.ts";
import type { Caller, Sample } from "../contract/command.ts";
import { ZeusdError, messageOf } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Log } from "../contract/log.ts";
import { capacity } from "./lane.ts";
import { afterNews } from "./watch.ts";

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
  /** How long a reading may take before the feed counts as stuck, and how long who asks for one waits, in ms. */
  readonly timeoutMs: number;
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
  /** Ends the watch over its deadline. */
  readonly endWatch: () => void;
}

/** How long the log is left alone after it heard of a failure, in milliseconds. */
const quietMs = 10_000;

export class PowerFeed {
  readonly #parts: PowerFeedParts;
  readonly #listeners = new Set<Listener>();
  readonly #waiters = new Set<Waiter>();
  #polling = false;
  /** When the reading began that has not returned in time, in ms. */
  #stuckSinceMs: number | undefined;
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

  /**
   * The next reading; rejects with its error if it fails, with `deadline` when the caller has waited for long enough, and
   * with `lane_stuck` at once while a reading does not return, or `queue_full`. Without a caller there is no deadline.
   */
  next(caller?: Caller): Promise<Values> {
    if (this.#stuckSinceMs !== undefined) return Promise.reject(this.#stuckError(this.#stuckSinceMs));
    if (this.#waiters.size >= capacity) return Promise.reject(this.#fullError());
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { resolve, reject, endWatch: this.#watch(caller, () => this.#giveUp(waiter)) };
      this.#waiters.add(waiter);
      this.#wake();
    });
  }

  /** Rejects whoever waits for a reading. */
  refuseWaiting(error: unknown): void {
    for (const { reject } of this.#takeWaiters()) reject(error);
  }

  get #wanted(): boolean {
    return this.#listeners.size > 0 || this.#waiters.size > 0;
  }

  /** A mean over a period needs that period; a momentary reading can be had at once. */
  #wake(): void {
    if (!this.#polling) void this.#poll();
    else if (!this.#parts.sampler.start) this.#endPause();
  }

  async #poll(): Promise<void> {
    const { sampler, clock, periodMs } = this.#parts;
    this.#polling = true;
    let started = !sampler.start;
    // A timer may be early by a part of a millisecond.
    const slackMs = Math.min(1, periodMs / 4);
    let dueMs = -Infinity;
    while (this.#wanted) {
      const beganMs = clock.monotonicMs();
      const due = beganMs + slackMs >= dueMs;
      try {
        const values = await this.#timed(beganMs, async () => {
          if (started) return sampler.sample();
          await sampler.start?.();
          return undefined;
        });
        started = true;
        if (values) this.#publish(values, due);
      } catch (error) {
        this.#fail(error);
      }
      // A mean covers what time has passed, so that its readings come whole periods after its baseline. All momentary ones
      // are due at the same moments, so that a stream of several devices is written to once.
      if (due) dueMs = sampler.start ? beganMs + periodMs : (Math.floor((beganMs + slackMs) / periodMs) + 1) * periodMs;
      if (this.#wanted) await this.#pause(dueMs - clock.monotonicMs());
    }
    this.#polling = false;
  }

  /** A reading that does not return in time cannot be ended, but nobody is left waiting for it. */
  async #timed<Result>(beganMs: number, read: () => Promise<Result>): Promise<Result> {
    const { name, clock, log, timeoutMs } = this.#parts;
    const endWatch = afterNews(clock, timeoutMs, () => {
      this.#stuckSinceMs = beganMs;
      log.error(`Reading the power of ${name} has not returned for ${timeoutMs / 1000} s; its streams stand still`);
      this.refuseWaiting(this.#stuckError(beganMs));
    });
    try {
      return await read();
    } finally {
      endWatch();
      if (this.#stuckSinceMs !== undefined) {
        const tookS = ((clock.monotonicMs() - beganMs) / 1000).toFixed(1);
        log.warn(`Reading the power of ${name} returned after ${tookS} s`);
      }
      this.#stuckSinceMs = undefined;
    }
  }

  /** A reading that is not due yet was made for whoever has just come; the others need not be told so often. */
  #publish(values: Values, due: boolean): void {
    const { name, clock, log } = this.#parts;
    if (this.#told) log.info(`The power of ${name} can be read again`);
    this.#told = false;
    for (const { resolve } of this.#takeWaiters()) resolve(values);
    const sample = { timestamp_ms: clock.epochMs(), values };
    for (const listener of this.#listeners) {
      if (listener.last && (!due || same(listener.last, values))) continue;
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
    this.refuseWaiting(error);
  }

  #watch(caller: Caller | undefined, late: () => void): () => void {
    if (!caller) return () => {};
    const { clock, timeoutMs } = this.#parts;
    return afterNews(clock, caller.arrivedMs + timeoutMs - clock.monotonicMs(), late);
  }

  #giveUp(waiter: Waiter): void {
    const { name, timeoutMs } = this.#parts;
    this.#waiters.delete(waiter);
    waiter.reject(new ZeusdError("deadline", `The power of ${name} could not be read within ${timeoutMs / 1000} s`));
    if (!this.#wanted) this.#endPause();
  }

  #takeWaiters(): readonly Waiter[] {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const { endWatch } of waiters) endWatch();
    return waiters;
  }

  #fullError(): ZeusdError {
    return new ZeusdError(
      "queue_full",
      `${capacity} requests are waiting for the power of ${this.#parts.name}; try again later`,
    );
  }

  #stuckError(sinceMs: number): ZeusdError {
    const { name, clock } = this.#parts;
    const sinceS = Math.floor((clock.monotonicMs() - sinceMs) / 1000);
    return new ZeusdError("lane_stuck", `Reading the power of ${name} has not returned for ${sinceS} s`);
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
