// The audit in the system's journal: `journalctl -t zeusd-audit -o cat` shows its lines.
import type { Clock } from "../contract/clock.ts";
import type { AuditSink } from "./audit.ts";

/** The journal's socket. */
export interface Journal {
  /** Throws an Error with a `code`: EAGAIN while the journal has not taken what came before. */
  send(fields: Readonly<Record<string, string>>): void;
}

/** The journal takes some dozen entries at once, and a burst of writes is more: so many lines wait for it. */
const most = 4096;
/** How long to wait before it is tried again, in ms. */
const pauseMs = 20;

/** How long the end waits for the journal, in ms, and how often. */
const napMs = 5;
const mostNaps = 40;

export function createJournalSink(journal: Journal, clock: Clock): AuditSink {
  const waiting: string[] = [];
  /** What went wrong while nobody was there to be told. */
  let failure: unknown;
  const send = (line: string): boolean => {
    try {
      journal.send({ SYSLOG_IDENTIFIER: "zeusd-audit", PRIORITY: "6", MESSAGE: line });
      return true;
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EAGAIN") return false;
      throw error;
    }
  };
  /** Whether nothing waits any more. */
  const sendWaiting = (): boolean => {
    try {
      while (waiting[0] !== undefined && send(waiting[0])) waiting.shift();
    } catch (error) {
      failure = error;
    }
    return waiting.length === 0;
  };
  const later = (): void => {
    clock.after(pauseMs, () => {
      if (!sendWaiting()) later();
    });
  };
  return {
    append(lines) {
      const before = failure;
      failure = undefined;
      if (before !== undefined) throw before;
      if (waiting.length + lines.length > most) throw new Error("the journal does not take what it is sent");
      const wasWaiting = waiting.length > 0;
      for (const line of lines) if (waiting.length > 0 || !send(line)) waiting.push(line);
      if (waiting.length > 0 && !wasWaiting) later();
    },
    reopen() {},
    close() {
      // The process is about to end, so nobody else is held up.
      const nap = new Int32Array(new SharedArrayBuffer(4));
      for (let naps = 0; naps < mostNaps && !sendWaiting(); naps += 1) Atomics.wait(nap, 0, 0, napMs);
    },
  };
}
