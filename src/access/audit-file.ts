// The audit's file: appended to, only whole lines, and opened anew when it was moved away.
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { osErrorText } from "../contract/os-error.ts";
import type { AuditSink } from "./audit.ts";

/** It is also read, to see how it ends. */
const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** An open file, and whether its last line has no end: a disk may have been full in the middle of one. */
interface OpenFile {
  readonly descriptor: number;
  torn: boolean;
}

/** Throws an Error with the system's words. A file that is made here can be read by its owner and group alone. */
export function openAuditFile(path: string): AuditSink {
  let file = openFile(path);
  return {
    append(lines) {
      const text = `${file.torn ? "\n" : ""}${lines.join("\n")}\n`;
      const written = inItsWords(() => writeSync(file.descriptor, text));
      const isWhole = written === Buffer.byteLength(text);
      file.torn = !isWhole && (file.torn || written > 0);
      if (!isWhole) throw new Error("only a part could be written");
    },
    reopen() {
      const before = file;
      file = openFile(path);
      closeSync(before.descriptor);
    },
    close: () => closeSync(file.descriptor),
  };
}

function openFile(path: string): OpenFile {
  return inItsWords(() => {
    const descriptor = openSync(path, flags, 0o640);
    const found = fstatSync(descriptor);
    if (found.isFile()) return { descriptor, torn: found.size > 0 && !endsLine(descriptor, found.size) };
    closeSync(descriptor);
    throw new Error("it is no regular file");
  });
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
