// A journal in memory: it gives back what a file would, fails when a test says so, and can be where a daemon is killed.
import type { JournalFile } from "../../src/settings/journal-file.ts";

export interface MemoryJournal extends JournalFile {
  /** What whoever opens it next is given. */
  readonly records: unknown[];
  /** Whether nothing can be written. */
  fails: boolean;
  /** How often it was written anew. */
  readonly rewrites: number;
  readonly isClosed: boolean;
  /** Whether the next daemon would find something else in its place. */
  isGone: boolean;
  /** The daemon is killed at the `writes`-th write from now, before or after it. */
  killAt(writes: number, when: "before" | "after", kill: () => void): void;
  /** Whoever writes to it is no more. */
  abandon(): void;
}

export function createMemoryJournal(left: readonly unknown[] = []): MemoryJournal {
  const records = [...left];
  let trap: { left: number; readonly when: "before" | "after"; readonly kill: () => void } | undefined;
  let isDead = false;
  let rewrites = 0;
  let isClosed = false;
  let bytes = 0;

  /** Whatever is written comes back as JSON. */
  function keep(record: object): void {
    const text = JSON.stringify(record);
    bytes += text.length;
    records.push(JSON.parse(text));
  }

  function write(how: () => void): void {
    if (isDead) return;
    if (journal.fails) throw new Error("no space left on device");
    if (trap) trap.left -= 1;
    const isTrap = trap?.left === 0;
    if (!isTrap || trap?.when === "after") how();
    if (isTrap) trap?.kill();
  }

  const journal = {
    records,
    fails: false,
    isGone: false,
    look: () => !journal.isGone,
    append: (record: object) => write(() => keep(record)),
    rewrite(anew: Iterable<object>) {
      const all = [...anew];
      write(() => {
        records.length = 0;
        journal.isGone = false;
        bytes = 0;
        for (const record of all) keep(record);
        rewrites += 1;
      });
    },
    get bytes() {
      return bytes;
    },
    get rewrites() {
      return rewrites;
    },
    get isClosed() {
      return isClosed;
    },
    close: () => void (isClosed = true),
    killAt(writes: number, when: "before" | "after", kill: () => void) {
      trap = { left: writes, when, kill };
    },
    abandon: () => void (isDead = true),
  };
  return journal;
}
