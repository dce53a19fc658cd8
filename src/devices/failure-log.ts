// Tells the log of commands that failed, without letting a client fill it.
import type { Clock } from "../contract/clock.ts";
import { messageOf, ZeusdError, type ErrorCode } from "../contract/errors.ts";
import type { Log } from "../contract/log.ts";

/** How long the same failure is counted instead of told again, in milliseconds. */
const quietMs = 10_000;

export class FailureLog {
  readonly #clock: Clock;
  readonly #log: Log;
  /** How often each failure has come since it was told, for those told not long ago. */
  readonly #counts = new Map<string, number>();

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** `what` names the operation and the device, and what is special about it. */
  tell(what: string, error: unknown): void {
    const text = `${what}: ${messageOf(error)}`;
    const count = this.#counts.get(text);
    if (count !== undefined) {
      this.#counts.set(text, count + 1);
      return;
    }
    this.#log.warn(text);
    this.#counts.set(text, 0);
    this.#clock.after(quietMs, () => this.#sum(text));
  }

  #sum(text: string): void {
    const count = this.#counts.get(text);
    this.#counts.delete(text);
    if (count) this.#log.warn(`${text} (${count} more times in ${quietMs / 1000} s)`);
  }
}

/** What says something of the device, which an operator should hear of, and not of what was asked. */
const news: ReadonlySet<ErrorCode> = new Set([
  "driver_error",
  "io_error",
  "gpu_lost",
  "driver_mismatch",
  "deadline",
  "queue_full",
  "client_gone",
]);

export function isNews(error: unknown): boolean {
  return error instanceof ZeusdError && news.has(error.code);
}
