// How long each operation of a lane usually takes, learnt from its calls.

export class UsualTimes {
  readonly #ms = new Map<string, number>();

  /** In ms; undefined before the first call. */
  of(operation: string): number | undefined {
    return this.#ms.get(operation);
  }

  /** A loop that slept too long makes a call look slow, and the next sleep longer: the quick ones tell the truth. */
  learn(operation: string, tookMs: number): void {
    const usualMs = this.#ms.get(operation) ?? tookMs;
    this.#ms.set(operation, usualMs + (tookMs - usualMs) / (tookMs < usualMs ? 2 : 16));
  }
}
