// What /proc says of a process by its number. Source: proc(5).
import { readFileSync } from "node:fs";

/** A process, which no later one of the same number is taken for. */
export interface ProcessId {
  readonly pid: number;
  /** When it began, in clock ticks since the machine started. */
  readonly started: number;
}

export interface ProcessStat extends ProcessId {
  /** Its parent's number; 0 if that is outside of this pid namespace, or there is none. */
  readonly parent: number;
}

/** More than any real chain has: a process has to reach its holder, and nobody may keep us reading. */
const longestLineage = 64;

/** What a process calls itself: 15 bytes at most. Undefined if there is no such process, or /proc hides it. */
export function programOf(pid: number): string | undefined {
  const text = read(`/proc/${pid}/comm`);
  // A process may name itself anything. What would break a line or turn a terminal's text around is shown as unknown.
  return text?.replace(/\n$/, "").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "\u{fffd}");
}

/** The ids that a process acts under, which are the ones a socket's peer is known by. Undefined as above. */
export function effectiveIdsOf(pid: number): { readonly uid: number; readonly gid: number } | undefined {
  // Its name comes first, but with line breaks escaped.
  const match = read(`/proc/${pid}/status`)?.match(/^Uid:\t\d+\t(\d+).*\nGid:\t\d+\t(\d+)/m);
  return match ? { uid: Number(match[1]), gid: Number(match[2]) } : undefined;
}

/** When a process began, and whose child it is. Undefined as above. */
export function statOf(pid: number): ProcessStat | undefined {
  const text = read(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // Its name, in parentheses, may have spaces, parentheses and line breaks. What follows has none, and begins with field 3.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const parent = Number(fields[4 - 3]);
  const started = Number(fields[22 - 3]);
  return Number.isSafeInteger(parent) && Number.isSafeInteger(started) ? { pid, started, parent } : undefined;
}

/** A process and those that it descends from, nearest first, as far as that can be said for sure. */
export function lineageOf(pid: number, readStat = statOf): readonly ProcessId[] {
  const lineage: ProcessId[] = [];
  let link = readStat(pid);
  while (link !== undefined) {
    lineage.push({ pid: link.pid, started: link.started });
    if (link.parent === 0 || lineage.length === longestLineage) break;
    const parent = readStat(link.parent);
    // Who began after its child is not its parent, but has taken the number of one that ended as we read.
    link = parent && parent.started <= link.started ? parent : undefined;
  }
  return lineage;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
