// A lane: runs one device's driver calls one at a time, in the order in which they came.

export class Lane {
  readonly #waiting: (() => void)[] = [];
  #busy = false;
  #whenIdle: (() => void)[] = [];

  /** Runs `work` when everything before it has ended, and passes its outcome on. */
  run<Result>(work: () => Promise<Result>): Promise<Result> {
    return new Promise((resolve, reject) => {
      const start = (): void => {
        work()
          .then(resolve, reject)
          .finally(() => this.#next());
      };
      if (this.#busy) {
        this.#waiting.push(start);
        return;
      }
      this.#busy = true;
      start();
    });
  }

  /** Settles when nothing runs and nothing waits. */
  idle(): Promise<void> {
    if (!this.#busy) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  #next(): void {
    const start = this.#waiting.shift();
    if (start) {
      start();
      return;
    }
    this.#busy = false;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}
