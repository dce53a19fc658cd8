// Waiting for a driver that may hang: only for so long, and in one thread however often it is asked.
import type { Clock } from "../../contract/clock.ts";
import { ZeusdError } from "../../contract/errors.ts";

/** Throws a `driver_error` when `work` takes longer than `ms`; the work goes on. */
export function within<Result>(ms: number, clock: Clock, who: string, work: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const late = new ZeusdError("driver_error", `${who} has not answered for ${ms / 1000} s`);
    const cancel = clock.after(ms, () => reject(late));
    work.then(resolve, reject).finally(cancel);
  });
}

/** Does `work` anew each time, but never twice at once: who comes meanwhile gets the result of the one that runs. */
export function joined<Result>(work: () => Promise<Result>): () => Promise<Result> {
  let running: Promise<Result> | undefined;
  return () => {
    running ??= work().finally(() => {
      running = undefined;
    });
    return running;
  };
}

/** Does `work` once for each call, one after the other. */
export function inTurn<Args extends readonly unknown[], Result>(
  work: (...args: Args) => Promise<Result>,
): (...args: Args) => Promise<Result> {
  let last: Promise<unknown> = Promise.resolve();
  return (...args) => {
    const turn = last.then(
      () => work(...args),
      () => work(...args),
    );
    last = turn;
    return turn;
  };
}
