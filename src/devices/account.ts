// The account of one write on one device, as its witness hears it: what was there before, how it ended, what is there now.
import type { Clock } from "../contract/clock.ts";
import type { Ending, Known, Witness } from "../contract/command.ts";
import { ZeusdError, type ErrorCode } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Lease } from "../contract/lease.ts";
import type { Row } from "../contract/operations.ts";
import type { Target } from "../contract/target.ts";
import type { Attempt } from "../settings/attempt.ts";
import type { Work } from "./lane.ts";
import type { LastKnown } from "./last-known.ts";
import type { ReadBacks } from "./read-back.ts";

/** What all writes on a device share. */
export interface AccountParts {
  readonly target: Target;
  readonly clock: Clock;
  readonly lastKnown: LastKnown;
  readonly readBacks: ReadBacks;
  readonly perform: (task: Task) => Promise<Values>;
}

/** A write on one device: what is to be done, and for whom. */
export interface Task {
  readonly row: Row;
  readonly parameters: Values;
  readonly lease?: Lease | undefined;
  readonly attempt?: Attempt | undefined;
}

/** The work of a write, of which the lane says how it goes. One object for all of it: this is on the way of every reply. */
export class AccountedWork implements Work {
  readonly name: string;
  readonly lease: Lease | undefined;
  readonly #parts: AccountParts;
  readonly #task: Task;
  readonly #witness: Witness;
  #before: Known = {};
  /** Whether it was said that nobody waits for it any longer. */
  #abandoned = false;

  constructor(parts: AccountParts, task: Task, witness: Witness) {
    this.name = task.row.name;
    this.lease = task.lease;
    this.#parts = parts;
    this.#task = task;
    this.#witness = witness;
  }

  call(): Promise<Values> {
    return this.#parts.perform(this.#task);
  }

  begun(): void {
    const { lastKnown, clock } = this.#parts;
    this.#before = lastKnown.of(this.#task.row, clock.monotonicMs());
  }

  ended(error?: unknown): void {
    const witness = this.#witness;
    const ending = this.#ending(error);
    if (mayHaveChanged(error))
      this.#parts.readBacks.after(this.#task.row, (readBack) => witness.ended(ending, readBack));
    else witness.ended(ending);
  }

  abandoned(error: ZeusdError): void {
    if (this.#abandoned) return;
    const ending = this.#ending(error);
    this.#abandoned = true;
    this.#witness.ended(ending);
  }

  #ending(error: unknown): Ending {
    const { target, clock } = this.#parts;
    return { target, before: this.#before, endedMs: clock.monotonicMs(), late: this.#abandoned, error };
  }
}

/** Errors that are thrown before the driver is called. */
const uncalled: ReadonlySet<ErrorCode> = new Set(["not_supported", "gpu_away", "no_such_lease", "journal_unavailable"]);

/** Whether a call that ended so may have changed something. */
function mayHaveChanged(error: unknown): boolean {
  return !(error instanceof ZeusdError && uncalled.has(error.code));
}
