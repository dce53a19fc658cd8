// The journal: what leases have changed, so that it can be put back after the daemon was killed.
import type { Clock } from "../contract/clock.ts";
import { messageOf, ZeusdError } from "../contract/errors.ts";
import type { Health } from "../contract/health.ts";
import type { Log } from "../contract/log.ts";
import type { JournalFile } from "./journal-file.ts";
import type { JournalRecord } from "./records.ts";

export interface JournalParts {
  /** Absent where nothing is remembered over restarts. */
  readonly file?: JournalFile | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly health: Health;
}

/** The size from which a journal may be worth writing anew, in bytes. */
const tidyBytes = 64 * 1024;
/** How much larger than when it was last written anew it has to be. */
const tidyFactor = 4;
/** How long it is left to grow before that, in ms: this is for moments in which nobody waits. */
const tidyMs = 1_000;

export class Journal {
  readonly #parts: JournalParts;
  /** The fewest records that say the same. */
  #now: () => Iterable<JournalRecord> = () => [];
  #limitBytes = tidyBytes;
  #tidying = false;
  #broken = false;
  #isClosed = false;

  constructor(parts: JournalParts) {
    this.#parts = parts;
  }

  /** Whether anything is remembered over restarts. */
  get isKept(): boolean {
    return this.#parts.file !== undefined;
  }

  /** Whether the last record could be written. */
  get isWell(): boolean {
    return !this.#broken;
  }

  /** `now` gives the fewest records that say the same as all that were appended. */
  startWith(now: () => Iterable<JournalRecord>): void {
    this.#now = now;
    this.tidy();
  }

  /** Writes down what is about to be done, before it is done. Throws `journal_unavailable` if that cannot be. */
  append(record: JournalRecord): void {
    const { file } = this.#parts;
    if (!file) return;
    // What could not be appended before is missing in it.
    if (this.#broken) this.tidy();
    try {
      if (this.#broken) throw new Error("it could not be written anew");
      file.append(record);
    } catch (error) {
      this.#fail(error);
      const text = "The journal of leases cannot be written, and nothing may be changed that could not be put back.";
      throw new ZeusdError("journal_unavailable", text, { cause: error });
    }
    if (file.bytes > this.#limitBytes) this.#tidySoon();
  }

  /** The same for what has been done, or must be done all the same. */
  note(record: JournalRecord): void {
    try {
      this.append(record);
    } catch {
      // What is missing in it now is there again once it is written anew.
    }
  }

  /** Writes it anew, with nothing that is over. */
  tidy(): void {
    const { file, health } = this.#parts;
    if (!file) return;
    try {
      file.rewrite(this.#now());
      this.#limitBytes = Math.max(tidyBytes, tidyFactor * file.bytes);
      this.#broken = false;
      health.report("journal");
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Somebody may have removed it, or the directory that it is in. */
  look(): void {
    const { file, log } = this.#parts;
    if (!file || file.look()) return;
    log.error("The journal of leases was moved or removed while it was in use; writing it anew");
    this.tidy();
  }

  close(): void {
    this.#isClosed = true;
    this.#parts.file?.close();
  }

  #tidySoon(): void {
    if (this.#tidying) return;
    this.#tidying = true;
    this.#parts.clock.after(tidyMs, () => {
      this.#tidying = false;
      if (!this.#isClosed) this.tidy();
    });
  }

  #fail(error: unknown): void {
    const { log, health } = this.#parts;
    if (!this.#broken) log.error(`The journal of leases cannot be written: ${messageOf(error)}`);
    this.#broken = true;
    health.report("journal", "The journal of leases cannot be written.");
    this.#tidySoon();
  }
}
