// Errors of the operating system, in the words that the original's users know.
import { getSystemErrorMap } from "node:util";

/** Where the C library's words, which the original shows, differ from those that Node has. */
const otherWords: Readonly<Record<string, string>> = {
  EIO: "Input/output error",
  EISDIR: "Is a directory",
  ENOMEM: "Cannot allocate memory",
  ENFILE: "Too many open files in system",
};

/** For example `No such file or directory (os error 2)`; the plain message where it is no system error. */
export function osErrorText(error: unknown): string {
  const errno = error instanceof Error && "errno" in error ? error.errno : undefined;
  const known = typeof errno === "number" ? getSystemErrorMap().get(errno) : undefined;
  // libuv makes up numbers below -3000 for what is no error of the system.
  if (!known || typeof errno !== "number" || errno <= -3000)
    return error instanceof Error ? error.message : String(error);
  const [name, words] = known;
  return `${otherWords[name] ?? words.charAt(0).toUpperCase() + words.slice(1)} (os error ${-errno})`;
}
