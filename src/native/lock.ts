// A file that only one process has at a time, and that nobody has when that process has ended, however it ended.
import { closeSync, constants, existsSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { constants as system } from "node:os";
import { lastErrno, openLibrary, systemError } from "./koffi.ts";

/** Source: flock(2). */
const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Takes the lock without waiting, and makes the file if there is none. The result lets go of it. Undefined if somebody has
 * it, be it another part of this program. Throws an Error like Node's for anything else.
 */
export function lockFile(path: string): (() => void) | undefined {
  // Node adds O_CLOEXEC: a child that had the descriptor would have the lock, too, and keep it after our end.
  const descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  const errno = lock(descriptor);
  if (errno !== 0) {
    closeSync(descriptor);
    if (errno === system.errno.EWOULDBLOCK) return undefined;
    throw systemError(errno, `flock '${path}'`);
  }
  sign(descriptor);
  return createRelease(descriptor);
}

/** Who has the lock, by what it wrote: for messages only. Undefined if nobody says so, or whoever did has ended. */
export function lockHolder(path: string): number | undefined {
  try {
    const [pid] = readFileSync(path, "latin1").match(/^[1-9]\d{0,9}(?=\n$)/) ?? [];
    return pid !== undefined && existsSync(`/proc/${pid}`) ? Number(pid) : undefined;
  } catch {
    return undefined;
  }
}

/** The errno, 0 for success. */
function lock(descriptor: number): number {
  const flock = openLibrary(null).func("int flock(int fd, int operation)");
  return flock(descriptor, LOCK_EX | LOCK_NB) === 0 ? 0 : lastErrno();
}

function sign(descriptor: number): void {
  try {
    ftruncateSync(descriptor);
    writeSync(descriptor, `${process.pid}\n`, 0);
  } catch {
    // A full disk costs a message its number, and not the program its start.
  }
}

/** The file stays: were it removed, one process could have the lock of the old file, and another that of a new one. */
function createRelease(descriptor: number): () => void {
  let open: number | undefined = descriptor;
  return () => {
    const closing = open;
    open = undefined;
    if (closing === undefined) return;
    try {
      ftruncateSync(closing);
    } finally {
      closeSync(closing);
    }
  };
}
