// Rates: how often each actor may do something. What each has used of a share is kept, and wears off with time.
import type { Clock } from "../contract/clock.ts";
import type { Rate } from "./policy.ts";

/** From how many actors on those whose share is whole again are forgotten, at the least. */
const many = 1024;

/** What a sum of fractions may be off by, in ms. */
const roundingMs = 1e-3;

/** How much of a share was used up at a moment. The rate by which it wears off may be another one by now. */
interface Used {
  readonly count: number;
  readonly atMs: number;
  readonly writesPerSecond: number;
}

export class RateLimiter {
  readonly #clock: Clock;
  readonly #used = new Map<string, Used>();
  #crowd = many;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How long it takes until `count` more are within the rate, in ms; 0 is now, and Infinity never. */
  waitMs(key: string, count: number, { writesPerSecond, burst }: Rate): number {
    if (count > burst) return Infinity;
    const over = left(this.#used.get(key), this.#clock.monotonicMs(), writesPerSecond) + count - burst;
    const waitMs = (over * 1000) / writesPerSecond;
    return waitMs > roundingMs ? waitMs : 0;
  }

  /** Uses up the share of `count` more. */
  take(key: string, count: number, { writesPerSecond }: Rate): void {
    const atMs = this.#clock.monotonicMs();
    if (this.#used.size >= this.#crowd) this.#forget(atMs);
    this.#used.set(key, { count: left(this.#used.get(key), atMs, writesPerSecond) + count, atMs, writesPerSecond });
  }

  #forget(nowMs: number): void {
    for (const [key, used] of this.#used) if (left(used, nowMs, used.writesPerSecond) === 0) this.#used.delete(key);
    // To look at all of them at each write would take long where they are many.
    this.#crowd = Math.max(many, 2 * this.#used.size);
  }
}

function left(used: Used | undefined, nowMs: number, writesPerSecond: number): number {
  return used ? Math.max(0, used.count - ((nowMs - used.atMs) * writesPerSecond) / 1000) : 0;
}
