// A log that remembers what it was told, for tests that look at it.
import type { Log } from "../src/contract/log.ts";

export function createQuietLog(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  const keep = (level: string) => (text: string) => void lines.push(`${level} ${text}`);
  return { lines, debug: keep("debug"), info: keep("info"), warn: keep("warn"), error: keep("error") };
}
