// The account of one write on one device, as its witness hears it: what was there before, how it ended, what is there now.
import type { Clock } from "../contract/clock.ts";
import type { Ending, Known, Witness } from "../contract/command.ts";
import type { Row } from "../contract/operations.ts";
import type { Target } from "../contract/target.ts";
import type { ReadBacks } from "./read-back.ts";

export interface AccountParts {
  readonly target: Target;
  readonly row: Row;
  readonly witness: Witness;
  readonly readBacks: ReadBacks;
  readonly clock: Clock;
}

export class Account {
  readonly #parts: AccountParts;
  #before: Known = {};
  /** Whether it was said that nobody waits for it any longer. */
  #givenUp = false;
  #settled = false;

  constructor(parts: AccountParts) {
    this.#parts = parts;
  }

  /** The driver is called. */
  begun(before: Known): void {
    this.#before = before;
  }

  /** The driver's call has returned, with an error or without. */
  ended(error?: unknown): void {
    this.#settled = true;
    const { row, readBacks, witness } = this.#parts;
    const ending = this.#ending(error);
    readBacks.after(row, (readBack) => witness.ended(ending, readBack));
  }

  /** It was dropped before its call began, or is not waited for any longer. Says nothing of a call that has returned. */
  givenUp(error: unknown): void {
    if (this.#settled || this.#givenUp) return;
    const ending = this.#ending(error);
    this.#givenUp = true;
    this.#parts.witness.ended(ending);
  }

  #ending(error: unknown): Ending {
    const { target, clock } = this.#parts;
    return { target, before: this.#before, endedMs: clock.monotonicMs(), late: this.#givenUp, error };
  }
}
