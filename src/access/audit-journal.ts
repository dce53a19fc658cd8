// The audit in the system's journal: `journalctl -t zeusd-audit -o cat` shows its lines.
import type { Clock } from "../contract/clock.ts";
import type { AuditSink } from "./audit.ts";

/** The journal's socket. */
export interface Journal {
  /** Throws an Error with a `code`: EAGAIN while the journal has not taken what came before. */
  send(fields: Readonly<Record<string, string>>): void;
  close(): void;
}

/** The journal takes some dozen entries at once, and a burst of writes is more: so many lines wait for it. */
const most = 4096;
/** How long to wait before it is tried again, in ms. */
const pauseMs = 20;

/** How long the end waits for the journal, in ms, and how often. */
const napMs = 5;
const mostNaps = 40;

export class JournalSink implements AuditSink {
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #waiting: string[] = [];
  #isTriedLater = false;
  /** Why the first line that waits could not be sent, if it was not for want of room. */
  #failure: unknown;

  constructor(journal: Journal, clock: Clock) {
    this.#journal = journal;
    this.#clock = clock;
  }

  get held(): number {
    return this.#waiting.length;
  }

  append(lines: readonly string[]): void {
    if (!this.#sendWaiting() && this.#failure !== undefined) throw this.#failure;
    if (this.#waiting.length + lines.length > most) throw new Error("the journal does not take what it is sent");
    for (const [index, line] of lines.entries()) {
      if (this.#waiting.length > 0) this.#waiting.push(line);
      else if (!this.#trySend(line, index > 0)) this.#waiting.push(line);
    }
    if (this.#waiting.length > 0) this.#tryLater();
  }

  reopen(): void {}

  close(): void {
    // The process is about to end, so nobody else is held up.
    const nap = new Int32Array(new SharedArrayBuffer(4));
    for (let naps = 0; naps < mostNaps && !this.#sendWaiting() && this.#failure === undefined; naps += 1) {
      Atomics.wait(nap, 0, 0, napMs);
    }
    this.#journal.close();
  }

  #tryLater(): void {
    if (this.#isTriedLater) return;
    this.#isTriedLater = true;
    this.#clock.after(pauseMs, () => {
      this.#isTriedLater = false;
      if (!this.#sendWaiting()) this.#tryLater();
    });
  }

  /** Whether nothing waits any more. */
  #sendWaiting(): boolean {
    while (this.#waiting[0] !== undefined && this.#trySend(this.#waiting[0], true)) this.#waiting.shift();
    return this.#waiting.length === 0;
  }

  /** False if there is no room, or, where the line is one that can wait, if the journal has gone; else throws that. */
  #trySend(line: string, canWait: boolean): boolean {
    try {
      this.#journal.send({ SYSLOG_IDENTIFIER: "zeusd-audit", PRIORITY: "6", MESSAGE: line });
      this.#failure = undefined;
      return true;
    } catch (error) {
      const isFull = error instanceof Error && "code" in error && error.code === "EAGAIN";
      if (!isFull && !canWait) throw error;
      this.#failure = isFull ? undefined : error;
      return false;
    }
  }
}
