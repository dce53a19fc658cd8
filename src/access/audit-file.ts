// The audit's file: appended to, one write for each line, and opened anew when it was moved away.
import { closeSync, constants, fstatSync, openSync, writeSync } from "node:fs";
import { osErrorText } from "../contract/os-error.ts";
import type { AuditSink } from "./audit.ts";

const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Throws an Error with the system's words. A file that is made here can be read by its owner and group alone. */
export function openAuditFile(path: string): AuditSink {
  let file = openFile(path);
  /** Whether the last line came to its end: a disk may be full in the middle of one. */
  let torn = false;
  return {
    append(line) {
      const text = torn ? `\n${line}\n` : `${line}\n`;
      const written = write(file, text);
      torn = written < Buffer.byteLength(text) && (torn || written > 0);
      if (written < Buffer.byteLength(text)) throw new Error("only a part of the line could be written");
    },
    reopen() {
      const before = file;
      file = openFile(path);
      torn = false;
      closeSync(before);
    },
  };
}

function openFile(path: string): number {
  try {
    const file = openSync(path, flags, 0o640);
    if (fstatSync(file).isFile()) return file;
    closeSync(file);
  } catch (error) {
    throw new Error(osErrorText(error), { cause: error });
  }
  throw new Error("it is no regular file");
}

/** The kernel takes it before the reply is sent: what was answered is written down even if the daemon is killed. */
function write(file: number, text: string): number {
  try {
    return writeSync(file, text);
  } catch (error) {
    throw new Error(osErrorText(error), { cause: error });
  }
}
