// The audit's file: appended to, only whole lines, and opened anew when it was moved away.
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { messageOf } from "../contract/errors.ts";
import { osErrorText } from "../contract/os-error.ts";
import type { AuditSink } from "./audit.ts";
import { requireTrusted } from "./trusted-file.ts";

/** It is also read, to see how it ends. */
const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** An open file, and whether its last line has no end: a daemon may have been killed in the middle of one. */
interface OpenFile {
  readonly descriptor: number;
  torn: boolean;
}

/**
 * Throws an Error with the system's words, or with what is wrong with the file: others than root and `euid` must not be able
 * to write to it. One that is made here can be read by its owner and group alone.
 */
export function openAuditFile(path: string, euid: number): AuditSink {
  let file = openFile(path, euid);
  const reopen = (): void => {
    const before = file;
    file = openFile(path, euid);
    closeSync(before.descriptor);
  };
  return {
    append(lines) {
      // Somebody may have deleted it, and what is written to it then is lost.
      if (fstatSync(file.descriptor).nlink === 0) reopen();
      append(file, lines);
    },
    reopen,
    close: () => closeSync(file.descriptor),
  };
}

function append(file: OpenFile, lines: readonly string[]): void {
  const text = `${file.torn ? "\n" : ""}${lines.join("\n")}\n`;
  const { size } = fstatSync(file.descriptor);
  const written = inItsWords(() => writeSync(file.descriptor, text));
  if (written === Buffer.byteLength(text)) {
    file.torn = false;
    return;
  }
  takeBack(file, size, written);
  throw new Error("there is room for a part of it only");
}

/** Half a line would keep others from reading the file. If somebody else has written to it since, it is ended later. */
function takeBack(file: OpenFile, size: number, written: number): void {
  try {
    if (fstatSync(file.descriptor).size !== size + written) throw new Error("it is not the end of the file");
    ftruncateSync(file.descriptor, size);
  } catch {
    file.torn ||= written > 0;
  }
}

function openFile(path: string, euid: number): OpenFile {
  const descriptor = inItsWords(() => openSync(path, flags, 0o640));
  try {
    const found = fstatSync(descriptor);
    requireTrusted(found, euid);
    if (found.nlink > 1) throw new Error("it has other names as well (hard links); give one that has none");
    return { descriptor, torn: found.size > 0 && !endsLine(descriptor, found.size) };
  } catch (error) {
    closeSync(descriptor);
    throw new Error(messageOf(error), { cause: error });
  }
}

function endsLine(descriptor: number, size: number): boolean {
  const last = Buffer.alloc(1);
  readSync(descriptor, last, 0, 1, size - 1);
  return last.toString() === "\n";
}

function inItsWords<Result>(call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    throw new Error(osErrorText(error), { cause: error });
  }
}
