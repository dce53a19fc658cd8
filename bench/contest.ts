// Has the original and ours do the same work in alternating rounds.
import { startDaemon, type Daemon, type Which } from "./daemon.ts";
import { median, quotients } from "./statistics.ts";
import type { Bench, Effort, Result, Row, Work } from "./work.ts";

export interface Contest {
  readonly against: Exclude<Which, "ours">;
  readonly rows: readonly Row[];
  /** Settings of the stub. */
  readonly env?: Readonly<Record<string, string>>;
  /** One number for each row. */
  round(daemon: Daemon, effort: Effort): Promise<readonly number[]>;
}

export function contest(description: Contest): Work {
  return { rows: description.rows, measure: (bench) => hold(description, bench) };
}

async function hold({ against, rows, env = {}, round }: Contest, bench: Bench): Promise<readonly Result[]> {
  const { programs, effort } = bench;
  const ours = await startDaemon(programs, bench.freshFolder(), { which: "ours", env });
  const original = await startDaemon(programs, bench.freshFolder(), { which: against, env });
  const figures = { ours: [] as (readonly number[])[], original: [] as (readonly number[])[] };
  try {
    for (const daemon of [ours, original]) daemon.pause();
    for (let turn = 0; turn < effort.rounds; turn += 1) {
      const order = turn % 2 === 0 ? (["ours", "original"] as const) : (["original", "ours"] as const);
      for (const who of order) figures[who].push(await alone(who === "ours" ? ours : original, effort, round));
    }
  } finally {
    await Promise.all([ours.stop(), original.stop()]);
  }
  return rows.map((row, index) => resultOf(row, column(figures.ours, index), column(figures.original, index)));
}

async function alone(daemon: Daemon, effort: Effort, round: Contest["round"]): Promise<readonly number[]> {
  daemon.resume();
  const figures = await round(daemon, effort);
  daemon.pause();
  return figures;
}

function column(rounds: readonly (readonly number[])[], index: number): readonly number[] {
  return rounds.map((figures) => figures[index] ?? Number.NaN);
}

function resultOf(row: Row, ours: readonly number[], original: readonly number[]): Result {
  const medians = { ours: median(ours), original: median(original) };
  if (row.target.of === "ours") return { ...row, ...medians, rounds: ours };
  return { ...row, ...medians, ratio: medians.ours / medians.original, rounds: quotients(ours, original) };
}
