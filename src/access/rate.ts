// Rates: how often each actor may do something. One number for each is kept, the time until which its share is used up.
import type { Clock } from "../contract/clock.ts";
import type { Rate } from "./policy.ts";

/** From how many actors on those whose share is whole again are forgotten, at the least. */
const many = 1024;

/** What a sum of fractions may be off by, in ms. */
const roundingMs = 1e-3;

export class RateLimiter {
  readonly #clock: Clock;
  /** When each share is whole again, in ms. */
  readonly #wholeMs = new Map<string, number>();
  #crowd = many;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How long it takes until `count` more are within the rate, in ms; 0 is now, and Infinity never. */
  waitMs(key: string, count: number, { writesPerSecond, burst }: Rate): number {
    if (count > burst) return Infinity;
    const eachMs = 1000 / writesPerSecond;
    const nowMs = this.#clock.monotonicMs();
    const wholeMs = Math.max(this.#wholeMs.get(key) ?? nowMs, nowMs);
    const waitMs = wholeMs + (count - burst) * eachMs - nowMs;
    return waitMs > roundingMs ? waitMs : 0;
  }

  /** Uses up the share of `count` more. */
  take(key: string, count: number, { writesPerSecond }: Rate): void {
    const nowMs = this.#clock.monotonicMs();
    const wholeMs = Math.max(this.#wholeMs.get(key) ?? nowMs, nowMs);
    if (this.#wholeMs.size >= this.#crowd) this.#forget(nowMs);
    this.#wholeMs.set(key, wholeMs + (count * 1000) / writesPerSecond);
  }

  #forget(nowMs: number): void {
    for (const [key, wholeMs] of this.#wholeMs) if (wholeMs <= nowMs) this.#wholeMs.delete(key);
    // To look at all of them at each write would take long where they are many.
    this.#crowd = Math.max(many, 2 * this.#wholeMs.size);
  }
}
