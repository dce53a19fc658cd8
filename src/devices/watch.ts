// A watch: one timer for many deadlines. Nearly always none passes, and a timer for each request would cost more than its lane.
import type { Clock } from "../contract/clock.ts";

export class Watch {
  readonly #clock: Clock;
  readonly #expire: (nowMs: number) => void;
  #dueMs = Infinity;
  #cancel = (): void => {};

  /** `expire` hears when a deadline has passed, and asks for the next one itself. */
  constructor(clock: Clock, expire: (nowMs: number) => void) {
    this.#clock = clock;
    this.#expire = expire;
  }

  /** Watches until this time at the latest, in the milliseconds of `Clock.monotonicMs`. */
  until(dueMs: number): void {
    if (dueMs >= this.#dueMs) return;
    this.#cancel();
    this.#dueMs = dueMs;
    this.#cancel = afterNews(this.#clock, dueMs - this.#clock.monotonicMs(), () => {
      this.#dueMs = Infinity;
      this.#expire(Math.max(dueMs, this.#clock.monotonicMs()));
    });
  }
}

/**
 * Calls back after `ms`, and after what has happened meanwhile was taken in: a process that was stopped for a while finds its
 * timers due before the answers that have long been there.
 */
export function afterNews(clock: Clock, ms: number, callback: () => void): () => void {
  let cancel = clock.after(ms, () => {
    cancel = clock.after(0, callback);
  });
  return () => cancel();
}
