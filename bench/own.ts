// What the measurements of ours alone share.
import { startDaemon, type Daemon, type Setup } from "./daemon.ts";
import type { Bench, Row, Target, Unit } from "./work.ts";

export const ours = (name: string, unit: Unit, value: number, of: Target["of"] = "ours"): Row => ({
  name,
  unit,
  target: { of, is: "at most", value },
});

/** Ends them in any case. */
export async function withDaemons<T>(bench: Bench, setups: readonly Omit<Setup, "which">[], use: Use<T>): Promise<T> {
  const daemons: Daemon[] = [];
  try {
    for (const setup of setups) {
      daemons.push(await startDaemon(bench.programs, bench.freshFolder(), { which: "ours", ...setup }));
    }
    return await use(daemons);
  } finally {
    await Promise.all(daemons.map((daemon) => daemon.stop()));
  }
}

type Use<T> = (daemons: readonly Daemon[]) => Promise<T>;
