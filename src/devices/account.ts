// The account of one write on one device, as its witness hears it: what was there before, how it ended, what is there now.
import type { Ending, Known, Witness } from "../contract/command.ts";
import type { Row } from "../contract/operations.ts";
import type { Target } from "../contract/target.ts";
import type { ReadBacks } from "./read-back.ts";

export interface AccountParts {
  readonly target: Target;
  readonly row: Row;
  readonly witness: Witness;
  readonly readBacks: ReadBacks;
  readonly nowMs: () => number;
}

export class Account {
  readonly #parts: AccountParts;
  #before: Known = {};
  /** Whether it has been told that nothing more is waited for. */
  #givenUp = false;
  #settled = false;

  constructor(parts: AccountParts) {
    this.#parts = parts;
  }

  /** The driver is about to be called. */
  begin(before: Known): void {
    this.#before = before;
  }

  /** The driver's call has returned. */
  succeeded(): void {
    this.#settled = true;
    const { row, readBacks, witness } = this.#parts;
    const ending = this.#ending();
    readBacks.after(row, (readBack) => witness.ended({ ...ending, readBack }));
  }

  failed(error: unknown): void {
    this.#settled = true;
    this.#parts.witness.ended({ ...this.#ending(), error });
  }

  /** It was dropped before its call began, or is not waited for any longer. Says nothing of a call that has returned. */
  givenUp(error: unknown): void {
    if (this.#settled || this.#givenUp) return;
    const ending = this.#ending();
    this.#givenUp = true;
    this.#parts.witness.ended({ ...ending, error });
  }

  #ending(): Omit<Ending, "error" | "readBack"> {
    const { target, nowMs } = this.#parts;
    return { target, before: this.#before, endedMs: nowMs(), late: this.#givenUp };
  }
}
