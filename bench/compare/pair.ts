// The original and ours side by side, started anew when an exchange has left one of them unlike the other.
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { startDaemon, type Daemon } from "./daemon.ts";
import type { Outcome } from "./difference.ts";
import type { Exchange } from "./exchange.ts";
import type { Suite } from "./suites.ts";

/** The words that start each of them. */
export interface Programs {
  readonly original: readonly string[];
  readonly ours: readonly string[];
}

export interface Pair {
  /** Asks both at once. */
  ask(exchange: Exchange, thorough: boolean): Promise<Outcomes>;
  stop(): Promise<void>;
}

interface Outcomes {
  readonly original: Outcome;
  readonly ours: Outcome;
}

/** Both get folders of their own in `folder`. */
export async function startPair(programs: Programs, folder: string, suite: Suite): Promise<Pair> {
  let daemons = await startBoth(programs, folder, suite);
  const stop = async (): Promise<void> => {
    await Promise.all(daemons.map((daemon) => daemon.stop()));
    daemons = [];
  };
  return {
    async ask(exchange, thorough) {
      const [original, ours] = await Promise.all(daemons.map((daemon) => daemon.ask(exchange, thorough)));
      if (!original || !ours) throw new Error("two daemons are needed");
      if (exchange.faults?.some((rule) => loss.test(rule))) {
        await stop();
        daemons = await startBoth(programs, folder, suite);
      }
      return { original, ours };
    },
    stop,
  };
}

/** After these codes of NVML ours gives the GPU up for a second at least, or ends; the original goes on as if nothing were. */
const loss = /=(.*,)?code:(1|9|15|16|18)(,|$)/;

async function startBoth(programs: Programs, folder: string, suite: Suite): Promise<readonly Daemon[]> {
  const place = mkdtempSync(join(folder, "suite-"));
  const started = await Promise.allSettled([
    startDaemon(programs.original, join(place, "original"), suite),
    startDaemon(programs.ours, join(place, "ours"), suite),
  ]);
  const daemons = started.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const failed = started.find((result) => result.status === "rejected");
  if (!failed) return daemons;
  await Promise.all(daemons.map((daemon) => daemon.stop()));
  throw failed.reason;
}
