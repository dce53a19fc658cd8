// The limit on open files: each connection is one, and the counters and the driver need some as well.
import { readFile } from "node:fs/promises";
import type { Log } from "../contract/log.ts";

/** How many open files are left to everything but connections. */
const reserve = 128;

/**
 * As many connections as are wanted, or, with a warning, as many as the process's limits have room for, each with
 * `filesEach` open files.
 */
export async function fittingConnections(wanted: number, filesEach: number, log: Log): Promise<number> {
  return fitting(wanted, filesEach, await readFile("/proc/self/limits", "utf8").catch(() => ""), log);
}

/** The same for the text of a /proc/PID/limits. */
export function fitting(wanted: number, filesEach: number, limits: string, log: Pick<Log, "warn">): number {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(limits) ?? [];
  if (soft === undefined) return wanted;
  const room = Math.max(1, Math.floor((Number(soft) - reserve) / filesEach));
  if (room >= wanted) return wanted;
  log.warn(
    `Only ${room} connections fit the limit of ${soft} open files: raise it (ulimit -n) or lower --max-connections`,
  );
  return room;
}
