// What a journal's file holds: its header and its records, or why it cannot be used.
import type { Stats } from "node:fs";
import { mostBytes, newline, readLine, type Json } from "./journal-lines.ts";
import type { SetAside } from "./set-aside.ts";

const journalName = "zeusd leases";
const version = 1;

/** The first line of a journal. */
export function headerOf(bootId: string): Json {
  return { journal: journalName, version, boot_id: bootId };
}

/** Why there is nothing to go on with. */
export type Unused = SetAside | { readonly kind: "absent" | "other_boot" };

export interface Content {
  readonly kind: "read";
  readonly records: readonly unknown[];
  /** How many bytes the finished lines have. */
  readonly bytes: number;
  /** Whether half a line comes after them. */
  readonly unfinished: boolean;
}

/** Whoever can write to the file decides what root writes to a GPU. */
export function refusalOf(found: Stats, euid: number): SetAside | undefined {
  if (!found.isFile()) return damaged("it is no regular file");
  if (found.uid !== 0 && found.uid !== euid) {
    return { kind: "untrusted", reason: `it belongs to uid ${found.uid}, who could have changed it` };
  }
  if (found.mode & 0o022) {
    return { kind: "untrusted", reason: "others than its owner can write to it, and could have changed it" };
  }
  if (found.size > mostBytes) return damaged(`it has ${found.size} bytes; ${mostBytes} are the most`);
  return undefined;
}

const damaged = (reason: string): SetAside => ({ kind: "damaged", reason });

export function readContent(content: Buffer, bootId: string): Content | Unused {
  if (content.length === 0) return { kind: "absent" };
  const records: unknown[] = [];
  let start = 0;
  for (let line = 1; ; line += 1) {
    const end = content.indexOf(newline, start);
    if (end === -1) break;
    const record = readLine(content.subarray(start, end));
    if (typeof record === "string") return damaged(`line ${line} ${record}`);
    const other = line === 1 ? judgeHeader(record, bootId) : undefined;
    if (other) return other;
    if (line > 1) records.push(record);
    start = end + 1;
  }
  // The file gets its name when the header stands in it: one without was not left behind by a daemon that was killed.
  if (start === 0) return damaged("line 1, where its header should be, has no end");
  return { kind: "read", records, bytes: start, unfinished: start < content.length };
}

function judgeHeader({ journal, version: found, boot_id }: Json, bootId: string): Unused | undefined {
  if (journal === journalName && typeof found === "number" && found > version) {
    return { kind: "newer", reason: `line 1 says that it has version ${found}; this zeusd reads version ${version}` };
  }
  if (journal !== journalName || found !== version || typeof boot_id !== "string") {
    return damaged("line 1 is no header of a journal of leases");
  }
  return boot_id === bootId ? undefined : { kind: "other_boot" };
}
