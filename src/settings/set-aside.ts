// What cannot be used of the journal is set aside, for people to read.
import { lstatSync, readdirSync, renameSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Log } from "../contract/log.ts";
import { osErrorText } from "../contract/os-error.ts";

export interface SetAside {
  readonly kind: "damaged" | "newer" | "untrusted";
  readonly reason: string;
}

/** Keeps it for people to read, under a name of its own. */
export function setAside(path: string, { kind, reason }: SetAside, nowMs: number, log: Log): void {
  const aside = freeName(`${path}.${kind}-`, nowMs);
  renameSync(path, aside);
  log.error(
    `Cannot use the journal of leases '${path}': ${reason}. It is now '${aside}'. Nothing was guessed from it: settings that leases had changed stay as they are`,
  );
  forgetOldest(dirname(path), aside, log);
}

function freeName(start: string, epochMs: number): string {
  for (let time = epochMs; ; time += 1) {
    const name = `${start}${new Date(time).toISOString().replaceAll(":", "")}`;
    if (!lstatSync(name, { throwIfNoEntry: false })) return name;
  }
}

/** How many are kept, the newest among them. */
const mostAside = 8;

function forgetOldest(directory: string, newest: string, log: Log): void {
  const older = readdirSync(directory)
    .filter((name) => asideTime(name) !== "" && join(directory, name) !== newest)
    .toSorted((one, other) => (asideTime(one) < asideTime(other) ? 1 : -1));
  for (const name of older.slice(mostAside - 1)) {
    try {
      unlinkSync(join(directory, name));
    } catch (error) {
      log.warn(`Cannot remove '${join(directory, name)}', which is old: ${osErrorText(error)}`);
    }
  }
}

/** Empty for other files. */
function asideTime(name: string): string {
  return /^leases\.journal\.(?:damaged|newer|untrusted)-(.+)$/.exec(name)?.[1] ?? "";
}
