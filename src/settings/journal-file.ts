// The journal's file: a record a line, each with its checksum, appended whole or not at all; what cannot be trusted is set aside.
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { Log } from "../contract/log.ts";
import { osErrorText } from "../contract/os-error.ts";
import { headerOf, readContent, refusalOf, type Content, type Unused } from "./journal-content.ts";
import { LineWriter, type WriteCall } from "./journal-lines.ts";
import { setAside } from "./set-aside.ts";

/** What a journal holds is for its owner to read: here records are any JSON objects. */
export interface JournalFile {
  /** Appends one record, whole or not at all, before it returns. Throws an Error with the system's words. */
  append(record: object): void;
  /** Replaces everything by these records: writes a new file beside it and renames it over. Throws, and then goes on with the old one. */
  rewrite(records: Iterable<object>): void;
  /** How large the file is, in bytes. */
  readonly bytes: number;
  /** Whether it is still where the next daemon looks for it. If not, nothing is appended until it was written anew. */
  look(): boolean;
  close(): void;
}

export interface OpenedJournal {
  readonly file: JournalFile;
  /** As they were read, without the header. */
  readonly records: readonly unknown[];
  /** Whether there was one that could not be used. */
  readonly setAside: boolean;
}

/** The system's calls of which a test may want another answer. */
export interface FileCalls {
  readonly writeSync: WriteCall;
  ftruncateSync(descriptor: number, bytes: number): void;
  renameSync(from: string, to: string): void;
}

export interface JournalFileParts {
  readonly directory: string;
  readonly bootId: string;
  readonly log: Log;
  readonly epochMs: () => number;
  /** Who else than root may own the file. */
  readonly euid?: number;
  readonly calls?: FileCalls;
}

const fileName = "leases.journal";

/** libuv adds O_CLOEXEC to every file that it opens. */
const flags = constants.O_RDWR | constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Throws an Error that says what is wrong when the file cannot be used at all. */
export function openJournalFile(parts: JournalFileParts): OpenedJournal {
  const path = join(parts.directory, fileName);
  try {
    removeIfThere(`${path}.new`);
    const found = find(path, parts);
    if (found.kind === "read")
      return { file: new OpenJournal(path, parts, found), records: found.records, setAside: false };
    if ("reason" in found) setAside(path, found, parts.epochMs(), parts.log);
    else if (found.kind === "other_boot") {
      parts.log.info(
        `Dropped the journal of leases '${path}': the machine has started anew since, which reset the GPUs`,
      );
    }
    const file = new OpenJournal(path, parts);
    file.rewrite([]);
    return { file, records: [], setAside: "reason" in found };
  } catch (error) {
    throw new Error(`the journal of leases '${path}' cannot be used: ${osErrorText(error)}`, { cause: error });
  }
}

interface Used extends Content {
  readonly descriptor: number;
}

function find(path: string, { bootId, log, euid = process.geteuid?.() ?? 0 }: JournalFileParts): Used | Unused {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (!there) return { kind: "absent" };
  // To open a pipe or a device has effects of its own.
  const refusal = refusalOf(there, euid);
  if (refusal) return refusal;
  const descriptor = openSync(path, flags);
  let used = false;
  try {
    // What counts is the open file, whatever had its name before.
    const content = refusalOf(fstatSync(descriptor), euid) ?? readContent(readFileSync(descriptor), bootId);
    if (content.kind !== "read") return content;
    if (content.unfinished) {
      // The next record would go on in its line.
      ftruncateSync(descriptor, content.bytes);
      const text = `The last record in the journal of leases '${path}', line ${content.records.length + 2}, was never finished and is left out: what it announces was not begun`;
      log.info(text);
    }
    used = true;
    return { ...content, descriptor };
  } finally {
    if (!used) closeSync(descriptor);
  }
}

class OpenJournal implements JournalFile {
  readonly #path: string;
  readonly #bootId: string;
  readonly #calls: FileCalls;
  readonly #writer: LineWriter;
  #descriptor: number | undefined;
  #bytes: number;
  /** Why nothing can be appended, until it is written anew. */
  #broken: string | undefined;
  #closed = false;

  constructor(
    path: string,
    { bootId, calls = { writeSync, ftruncateSync, renameSync } }: JournalFileParts,
    used?: Used,
  ) {
    this.#path = path;
    this.#bootId = bootId;
    this.#calls = calls;
    this.#writer = new LineWriter(calls.writeSync);
    this.#descriptor = used?.descriptor;
    this.#bytes = used?.bytes ?? 0;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Without fsync: neither the file's last lines nor a GPU's setting outlive the kernel. */
  append(record: object): void {
    if (this.#descriptor === undefined) throw new Error("it is closed");
    if (this.#broken !== undefined) throw new Error(this.#broken);
    try {
      this.#bytes = this.#writer.write(this.#descriptor, record, this.#bytes);
    } catch (error) {
      this.#takeBack(this.#descriptor);
      throw new Error(osErrorText(error), { cause: error });
    }
  }

  look(): boolean {
    if (this.#descriptor === undefined) return false;
    const [there, open] = [lstatSync(this.#path, { throwIfNoEntry: false }), fstatSync(this.#descriptor)];
    if (there?.ino === open.ino && there.dev === open.dev) return true;
    this.#broken = "somebody has moved or removed it";
    return false;
  }

  /** What comes after half a line would make damage of it. */
  #takeBack(descriptor: number): void {
    try {
      const { size } = fstatSync(descriptor);
      if (size === this.#bytes) return;
      if (size < this.#bytes) throw new Error("somebody else has cut the file");
      this.#calls.ftruncateSync(descriptor, this.#bytes);
    } catch (error) {
      this.#broken = `half a record at its end could not be taken back: ${osErrorText(error)}`;
    }
  }

  rewrite(records: Iterable<object>): void {
    if (this.#closed) throw new Error("it is closed");
    const before = this.#descriptor;
    try {
      this.#replace(records);
    } catch (error) {
      throw new Error(osErrorText(error), { cause: error });
    }
    this.#broken = undefined;
    if (before !== undefined) closeSync(before);
  }

  #replace(records: Iterable<object>): void {
    const beside = `${this.#path}.new`;
    removeIfThere(beside);
    const descriptor = openSync(beside, flags | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      let bytes = this.#writer.write(descriptor, headerOf(this.#bootId), 0);
      for (const record of records) bytes = this.#writer.write(descriptor, record, bytes);
      this.#calls.renameSync(beside, this.#path);
      this.#descriptor = descriptor;
      this.#bytes = bytes;
    } catch (error) {
      closeSync(descriptor);
      removeIfThere(beside);
      throw error;
    }
  }

  close(): void {
    this.#closed = true;
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}

function removeIfThere(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })) unlinkSync(path);
}
