// Errors of the operating system, in the words that the original's users know.
import { getSystemErrorMap } from "node:util";

/** For example `No such file or directory (os error 2)`; the plain message where it is no system error. */
export function osErrorText(error: unknown): string {
  const errno = error instanceof Error && "errno" in error ? error.errno : undefined;
  const known = typeof errno === "number" ? getSystemErrorMap().get(errno)?.[1] : undefined;
  if (!known || typeof errno !== "number") return error instanceof Error ? error.message : String(error);
  return `${known.charAt(0).toUpperCase()}${known.slice(1)} (os error ${-errno})`;
}
