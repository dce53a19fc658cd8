// One energy counter: what readings that overlap, wraps and set-backs make of its total.
import { basename } from "node:path";
import { describe, expect, test } from "vitest";
import { openEnergyCounter } from "../../src/backends/rapl/energy-counter.ts";

const range_uj = 262_143_328_850;

/** A counter at `raw_uj`, whose time and whose every reading the test decides. */
async function counterAt(raw_uj: number) {
  const clock = { ms: 0, monotonicMs: () => clock.ms };
  const reads: ((raw_uj: number) => void)[] = [];
  const lines: string[] = [];
  const first = (file: string) => Promise.resolve(basename(file) === "energy_uj" ? raw_uj : range_uj);
  const later = () => new Promise<number>((end) => void reads.push(end));
  let opened = false;
  const counter = await openEnergyCounter("intel-rapl:0", {
    log: { warn: (text) => void lines.push(text) },
    clock,
    readFile: (file) => (opened ? later() : first(file)),
  });
  opened = true;
  /** A reading that nothing overlaps. */
  const read = (next_uj: number): Promise<number> => {
    const reading = counter.read();
    reads.at(-1)?.(next_uj);
    return reading;
  };
  return { counter, clock, reads, read };
}

describe("readings that overlap", () => {
  test("are no wrap when the older one ends last", async () => {
    const { counter, reads, read } = await counterAt(1000);
    const [older, newer] = [counter.read(), counter.read()];
    reads[1]?.(1200);
    expect(await newer).toBe(1200);
    reads[0]?.(1100);
    expect(await older).toBe(1200);
    expect(await read(1300)).toBe(1300);
  });

  test("are no wrap when the older one ends first", async () => {
    const { counter, reads, read } = await counterAt(1000);
    const [older, newer] = [counter.read(), counter.read()];
    reads[0]?.(1200);
    expect(await older).toBe(1200);
    reads[1]?.(1100);
    expect(await newer).toBe(1200);
    expect(await read(1300)).toBe(1300);
  });

  test("count a wrap between them once, in whichever order they end", async () => {
    for (const [first, last] of [
      [0, 1],
      [1, 0],
    ] as const) {
      const { counter, clock, reads, read } = await counterAt(range_uj - 5);
      clock.ms = 1_000_000;
      const readings = [counter.read(), counter.read()];
      // The older one was read before the wrap, the newer one after it.
      const raw = [range_uj, 3];
      reads[first]?.(raw[first] ?? 0);
      const total = await readings[first];
      reads[last]?.(raw[last] ?? 0);
      expect(await readings[last]).toBe(total);
      expect(await read(10)).toBe(range_uj + 11);
    }
  });

  test("do not wait for one that never ends", async () => {
    const { counter, reads, read } = await counterAt(1000);
    void counter.read();
    expect(await read(1100)).toBe(1100);
    expect(await read(1200)).toBe(1200);
    reads[0]?.(1001);
    expect(await read(1300)).toBe(1300);
  });
});

describe("a counter that comes back lower", () => {
  test("has wrapped when a package can have drawn that much since the last reading", async () => {
    const { clock, read } = await counterAt(range_uj - 1_000_000);
    clock.ms = 100;
    expect(await read(2_000_000)).toBe(range_uj + 1 + 2_000_000);
    clock.ms = 200;
    expect(await read(3_000_000)).toBe(range_uj + 1 + 3_000_000);
  });

  test("was set back when no package can, and goes on from the last total", async () => {
    const { clock, read } = await counterAt(130_000_000_000);
    clock.ms = 30_000;
    expect(await read(130_001_000_000)).toBe(130_001_000_000);
    clock.ms = 60_000;
    expect(await read(5000)).toBe(130_001_000_000);
    clock.ms = 60_100;
    expect(await read(8000)).toBe(130_001_003_000);
  });

  test("has wrapped also when it was set back before", async () => {
    const { clock, read } = await counterAt(130_000_000_000);
    expect(await read(1000)).toBe(130_000_000_000);
    clock.ms = 1_000_000;
    expect(await read(range_uj)).toBe(130_000_000_000 - 1000 + range_uj);
    clock.ms = 1_000_100;
    expect(await read(0)).toBe(130_000_000_000 - 1000 + range_uj + 1);
  });
});
