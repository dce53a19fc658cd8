// The kill -9 matrix: wherever a client, the daemon or both are killed, the GPUs end up as they should be.
import { expect, it } from "vitest";
import { Random } from "../fuzz/random.ts";
import { KillModel } from "./kill-model.ts";
import { createKillRig, gpuCount } from "./kill-rig.ts";
import { modes, points, Round, victims, type Cell } from "./kill-round.ts";
import type { LeaseRig } from "./lease-rig.ts";

/** The same seed gives the same rounds. */
const seed = process.env["ZEUSD_KILL_SEED"] ?? String(Date.now() % 1_000_000);
/** How often each cell of the matrix is played. */
const roundsEach = Number(process.env["ZEUSD_KILL_ROUNDS"] ?? "6");
/** Daemons at a time. */
const rigCount = 4;
/** With so many failures of one of them, the rest would only take time. */
const mostFailures = 3;
/** A machine that is too slow for all rounds of a victim shall say so, and leave no process behind. */
const mostMs = 20_000 * Math.max(6, roundsEach);

interface Played {
  readonly cell: Cell;
  readonly hit: boolean;
  readonly restoredMs: readonly number[];
  /** What is wrong, and how it came to that. */
  readonly failure?: string;
}

async function playAll(cells: readonly Cell[], name: string): Promise<readonly Played[]> {
  const random = new Random(`${seed}/${name}`);
  const order = cells.flatMap((cell) => Array.from({ length: roundsEach }, () => cell));
  for (let at = order.length - 1; at > 0; at -= 1) {
    const other = random.below(at + 1);
    [order[at], order[other]] = [order[other] as Cell, order[at] as Cell];
  }
  const endMs = performance.now() + mostMs;
  const lines = Array.from({ length: rigCount }, async (_, line) => {
    const mine = order.filter((_cell, index) => index % rigCount === line);
    return playLine(mine, `${seed}/${name}/${line}`, endMs);
  });
  return (await Promise.all(lines)).flat();
}

/** Plays rounds on one daemon and its GPUs, which remember the rounds before; a round that fails gets its successors others. */
async function playLine(cells: readonly Cell[], lineSeed: string, endMs: number): Promise<readonly Played[]> {
  const played: Played[] = [];
  let ground: { readonly rig: LeaseRig; readonly model: KillModel } | undefined;
  for (const [index, cell] of cells.entries()) {
    if (performance.now() > endMs) {
      played.push({ cell, hit: false, restoredMs: [], failure: `${lineSeed}/${index}: there was no time for it` });
      break;
    }
    ground ??= { rig: await createKillRig(), model: new KillModel(gpuCount) };
    const round = new Round(ground.rig, ground.model, cell, new Random(`${lineSeed}/${index}`));
    try {
      played.push({ cell, ...(await round.play()) });
    } catch (error) {
      const failure = report(ground.rig, round, `${error instanceof Error ? error.message : String(error)}`);
      played.push({ cell, hit: false, restoredMs: [], failure: `${lineSeed}/${index} ${words(cell)}: ${failure}` });
      ground.rig.daemon().signal("SIGKILL");
      ground = undefined;
      if (played.filter((one) => one.failure !== undefined).length === mostFailures) break;
    }
  }
  return played;
}

function report(rig: LeaseRig, round: Round, reason: string): string {
  const journal = rig.journal().map((line) => JSON.stringify(line));
  const log = rig.daemon().stderr().split("\n").slice(5).slice(-25);
  return [reason, ...round.story, "--- journal", ...journal, "--- log", ...log].join("\n  ");
}

function words({ victim, point, mode }: Cell): string {
  return `${victim} killed ${point}, ${mode}`;
}

function summary(played: readonly Played[]): string {
  const counts = new Map<string, number>();
  for (const { cell, hit } of played) counts.set(words(cell), (counts.get(words(cell)) ?? 0) + (hit ? 1 : 0));
  const cells = [...counts].toSorted().map(([cell, count]) => `  ${count} of ${roundsEach}: ${cell}`);
  return [`seed ${seed}: ${played.length} rounds; truly hit`, ...cells, times("all", played)].join("\n");
}

function times(what: string, played: readonly Played[]): string {
  const all = played.flatMap(({ restoredMs }) => restoredMs).toSorted((one, other) => one - other);
  const at = (share: number): string => (all[Math.ceil(share * all.length) - 1] ?? 0).toFixed(1);
  return `  ${what}: from death to restoration ${at(0.5)} ms in the median, ${at(0.95)} ms in 95 %, ${at(1)} ms at worst, of ${all.length} deaths`;
}

it.each(victims)(
  "wherever kill -9 hits (%s), each GPU is at its base in time, or at what somebody living has set",
  { timeout: mostMs + 30_000 },
  async (victim) => {
    const cells = points.flatMap((point) => modes.map((mode) => ({ victim, point, mode })));
    const played = await playAll(cells, victim);
    console.log(summary(played));
    expect(played.flatMap(({ failure }) => failure ?? [])).toEqual([]);
    expect(played.filter(({ hit }) => !hit).map(({ cell }) => words(cell))).toEqual([]);
  },
);
