// What something costs that ours does for each request: two daemons, one with it, are asked in turn.
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { withDaemons } from "./own.ts";
import { runLoad } from "./programs.ts";
import { setLimit } from "./rows.ts";
import { readSamples } from "./samples.ts";
import { median } from "./statistics.ts";
import type { Bench, Result, Row } from "./work.ts";

interface Pairs {
  readonly differences: readonly number[];
  /** Processor time for a request in microseconds, of the first daemon and the second. */
  readonly processor: readonly [number, number];
}

/** How the second daemon is asked, or all. */
interface Asking {
  /** A header for the second daemon. */
  readonly header?: string | undefined;
  readonly requests?: readonly string[];
  /** Whether the daemons may use all processors, as they do: what a driver's thread does beside them costs nothing then. */
  readonly free?: boolean;
}

/**
 * What is asked for is smaller than what a processor more or less does: hence both daemons share one, and the load has
 * another. They are fresh each time, since two processes of the same program differ by some microseconds.
 */
async function comparePairs(bench: Bench, count: number, args: readonly string[], asking: Asking): Promise<Pairs> {
  const several = availableParallelism() > 1;
  const pinned = several && !asking.free ? { processor: 1 } : {};
  const samples = join(bench.freshFolder(), "samples");
  return withDaemons(bench, [pinned, { ...pinned, args }], async (daemons) => {
    const [one, other] = daemons;
    if (!one || !other) throw new Error("two daemons are needed");
    const { header, requests: lines = [setLimit("0", true)] } = asking;
    const more = header === undefined ? {} : { "pair-header": header };
    const run = (requests: number): Promise<unknown> =>
      runLoad(one.socket, {
        requests: lines,
        options: { "warm-up": 0, requests, pair: other.socket, samples, ...more },
        ...(several && { processor: 0 }),
      });
    await run(Math.ceil(5000 * bench.effort.share)); // young programs are slow, and not equally so
    const before = daemons.map((daemon) => daemon.processorSeconds());
    await run(count);
    const spent = daemons.map((daemon, index) => daemon.processorSeconds() - (before[index] ?? Number.NaN));
    const [first = Number.NaN, second = Number.NaN] = spent.map((seconds) => (seconds * 1e6) / count);
    return { differences: readSamples(samples), processor: [first, second] };
  });
}

/** Pairs of a daemon with something and one without, and pairs of two without for comparison, in turn. */
export async function measurePaired(
  bench: Bench,
  row: Row,
  args: () => readonly string[],
  asking: Asking = {},
): Promise<Result> {
  const audited: Pairs[] = [];
  const control: Pairs[] = [];
  const { rounds: count, share } = bench.effort;
  const pairs = Math.ceil((50_000 * share) / count);
  for (let round = 0; round < count; round += 1) {
    const measures = [
      async () => audited.push(await comparePairs(bench, pairs, args(), asking)),
      async () => control.push(await comparePairs(bench, Math.ceil(pairs / 3), [], { ...asking, header: undefined })),
    ];
    for (const measure of round % 2 === 0 ? measures : measures.toReversed()) await measure();
  }
  const all = audited.flatMap(({ differences }) => differences);
  const noise = median(control.flatMap(({ differences }) => differences));
  const more = audited.map(({ processor: [without, spent] }) => spent - without);
  const without = median(audited.map(({ processor }) => processor[0]));
  const note =
    `median of ${all.length} paired differences; two daemons without it differ by ${noise.toFixed(1)} µs; ` +
    `processor time per request: ${median(more).toFixed(1)} µs more than the ${without.toFixed(0)} µs without`;
  const rounds = audited.map(({ differences }) => median(differences));
  return { ...row, ours: median(all), rounds, note };
}
