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

export function createJournalSink(journal: Journal, clock: Clock): AuditSink {
  const waiting: string[] = [];
  const send = (line: string): boolean => {
    try {
      journal.send({ SYSLOG_IDENTIFIER: "zeusd-audit", PRIORITY: "6", MESSAGE: line });
      return true;
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EAGAIN") return false;
      throw error;
    }
  };
  const later = (): void => {
    clock.after(pauseMs, () => {
      try {
        while (waiting[0] !== undefined && send(waiting[0])) waiting.shift();
      } catch {
        // Whoever appends next is told.
      }
      if (waiting.length > 0) later();
    });
  };
  return {
    append(line) {
      if (waiting.length === 0 && send(line)) return;
      if (waiting.length >= most) throw new Error("the journal does not take what it is sent");
      waiting.push(line);
      if (waiting.length === 1) later();
    },
    reopen() {},
  };
}
