// What is not as it should be although the daemon goes on; /healthz shows it.

export class Health {
  readonly #problems = new Map<string, string>();

  /** Says what is wrong with a part, in words that anyone may read; without text that it is well again. */
  report(part: string, text?: string): void {
    if (text === undefined) this.#problems.delete(part);
    else this.#problems.set(part, text);
  }

  /** What is wrong now, by part. */
  get problems(): ReadonlyMap<string, string> {
    return this.#problems;
  }
}
