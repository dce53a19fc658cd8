// Files that decide who may do what. One that somebody else can write to would let them decide it.
import { constants, type Stats } from "node:fs";
import { open } from "node:fs/promises";
import { messageOf } from "../contract/errors.ts";
import { osErrorText } from "../contract/os-error.ts";

/** The most that such a file may hold, in bytes. */
const mostBytes = 1024 * 1024;

/**
 * The text of a file that belongs to root or to `euid`, and that not everyone can write to. Throws an Error that says what is
 * wrong with it.
 */
export async function readTrustedFile(path: string, euid: number): Promise<string> {
  // A pipe would be waited for.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw new Error(osErrorText(error), { cause: error });
  });
  try {
    const found = await file.stat();
    requireTrusted(found, euid);
    if (found.size > mostBytes) throw new Error(`it holds ${found.size} bytes; ${mostBytes} are the most`);
    return new TextDecoder("utf-8", { fatal: true }).decode(await file.readFile());
  } catch (error) {
    if (error instanceof TypeError) throw new Error("it is no UTF-8 text", { cause: error });
    throw new Error(messageOf(error), { cause: error });
  } finally {
    await file.close();
  }
}

/** Throws if somebody else than root and `euid` could write to a file, or if it is none. */
export function requireTrusted(found: Stats, euid: number): void {
  if (!found.isFile()) throw new Error("it is no regular file");
  if (found.uid !== 0 && found.uid !== euid) {
    throw new Error(`it belongs to uid ${found.uid}, who could change it; make root its owner`);
  }
  if (found.mode & 0o002) throw new Error("everyone can write to it; chmod o-w it");
}
