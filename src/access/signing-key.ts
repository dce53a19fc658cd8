// The signing key: all bytes of its file, verbatim, so that tokens are interchangeable with the original's.
import { readFile, stat } from "node:fs/promises";
import { StartError } from "../contract/errors.ts";
import type { Log } from "../contract/log.ts";
import { osErrorText } from "../contract/os-error.ts";

/** The least that HS256 asks for, in bytes (RFC 7518, section 3.2). */
const shortest = 32;

/** Throws a StartError if the file cannot be read, is empty, or holds a short key that was not allowed. */
export async function readSigningKey(path: string, log: Log, allowShort: boolean): Promise<Uint8Array> {
  const key = await readFile(path).catch((error: unknown) => {
    const text = `Failed to read signing key from '${path}': ${osErrorText(error)}; give --signing-key-path a readable file`;
    throw new StartError(text, { cause: error });
  });
  if (key.length === 0)
    throw new StartError(`Signing key file '${path}' is empty; write at least ${shortest} random bytes to it`);
  if (key.length < shortest) {
    const found = `Signing key file '${path}' holds ${key.length} bytes; a key under ${shortest} bytes can be guessed`;
    if (!allowShort)
      throw new StartError(`${found}: write a longer one, or give --allow-short-signing-key to use it all the same`);
    log.warn(found);
  }
  const { mode } = await stat(path);
  if (mode & 0o066) {
    const verb = mode & 0o044 ? "read" : "written";
    log.warn(`Signing key file '${path}' can be ${verb} by others: chmod 600 it, or they can issue tokens`);
  }
  return key;
}
