// The numbers of the cases of a run: from 0 on until the time is up, or one alone.

export interface Run {
  /** Any text; a case depends on it and on the case's number, and on nothing else. */
  readonly seed: string;
  /** When to stop, in the milliseconds of `performance.now`. */
  readonly untilMs: number;
  /** Runs this case alone. */
  readonly only?: number | undefined;
}

export function* caseNumbers({ untilMs, only }: Run): Generator<number> {
  if (only !== undefined) {
    yield only;
    return;
  }
  for (let number = 0; performance.now() < untilMs; number += 1) yield number;
}
