// The journal's records: to replay them twice is to replay them once, and a journal that is written anew says the same.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Lease } from "../../src/contract/lease.ts";
import { settings } from "../../src/contract/operations.ts";
import { winnerOf } from "../../src/settings/layers.ts";
import { recordsOf, replay, settledKnob, type JournalRecord, type Remembered } from "../../src/settings/records.ts";
import { anyRecord, gpuKeys, records } from "./arbitrary-records.ts";

const numRuns = 3_000;

/** All that what is remembered can do later; which places among the writes were taken once does not matter. */
function meaningOf({ leases, gpus, lastLease }: Remembered) {
  const knobs = [...gpus].flatMap(([gpu, all]) =>
    [...all].map(([setting, knob]) => [`${gpu} ${setting}`, { ...knob, winner: winnerOf(knob.layered) }] as const),
  );
  return { leases, lastLease, knobs: new Map(knobs) };
}

function compacted({ leases, gpus, lastLease }: Remembered): JournalRecord[] {
  return [...recordsOf({ leases: leases.values(), lastLease, gpus })];
}

function highestOrder({ gpus }: Remembered): number {
  const orders = [...gpus.values()].flatMap((knobs) =>
    [...knobs.values()].flatMap(({ layered: { base, layers } }) => [
      base?.order ?? 0,
      ...[...layers.values()].map(({ order }) => order),
    ]),
  );
  return Math.max(0, ...orders);
}

it("to replay them twice is to replay them once", () => {
  const holds = (all: readonly JournalRecord[]): void => {
    expect(replay([...all, ...all])).toEqual(replay(all));
  };
  fc.assert(fc.property(records, holds), { numRuns });
  fc.assert(fc.property(fc.array(anyRecord, { maxLength: 20 }), holds), { numRuns });
});

it("records that are written anew at any time, and those after them, add up to the same", () => {
  const holds = fc.property(records, fc.nat(40), (all, at) => {
    const anew = compacted(replay(all.slice(0, at)));
    const whole = replay(all);
    const other = replay([...anew, ...all.slice(at)]);
    expect(meaningOf(other)).toEqual(meaningOf(whole));
    expect(other.lastOrder).toBeLessThanOrEqual(whole.lastOrder);
    expect(other.lastOrder).toBeGreaterThanOrEqual(highestOrder(other));
  });
  fc.assert(holds, { numRuns });
});

it("to write them anew twice is to write them anew once, with the fewest records that do", () => {
  const holds = fc.property(records, (all) => {
    const anew = compacted(replay(all));
    expect(compacted(replay(anew))).toEqual(anew);
    for (let at = 0; at < anew.length; at += 1) {
      const { lastLease, ...without } = meaningOf(replay(anew.toSpliced(at, 1)));
      // The first alone may be for the number's sake only.
      if (at > 0) expect({ ...without, lastLease }).not.toEqual(meaningOf(replay(anew)));
    }
  });
  fc.assert(holds, { numRuns: 1_000 });
});

it("whatever crashes between, a layer that comes back to the top has its last value", () => {
  const write = fc.record({ lease: fc.integer({ min: 1, max: 3 }), crash: fc.boolean() });
  const holds = fc.property(
    fc.array(write, { minLength: 1, maxLength: 30 }),
    fc.shuffledSubarray([1, 2, 3]),
    (writes, ends) => {
      const of = { gpu: gpuKeys[0], setting: "power_limit" as const };
      const last = new Map<number, { readonly value: number; readonly order: number }>();
      let journal: JournalRecord[] = [{ record: "base", ...of, order: 0, value: { power_limit_mw: 9 } }];
      for (const [at, { lease, crash }] of writes.entries()) {
        const value = 1_000 + at;
        journal.push({ record: "layer", lease, ...of, order: at + 1, value: { power_limit_mw: value } });
        last.set(lease, { value, order: at + 1 });
        if (crash) journal = compacted(replay(journal));
      }
      for (const lease of ends) {
        journal.push({ record: "ended", lease });
        last.delete(lease);
        const knob = replay(journal).gpus.get(of.gpu)?.get(of.setting);
        const [newest] = [...last.values()].toSorted((one, other) => other.order - one.order);
        expect(knob && winnerOf(knob.layered)?.value).toEqual({ power_limit_mw: newest?.value ?? 9 });
        expect(knob?.touched).toBe(true);
      }
    },
  );
  fc.assert(holds, { numRuns });
});

describe("the records", () => {
  const of = { gpu: "GPU-a", setting: "power_limit" } as const;
  const lease: Lease = {
    number: 4,
    id: "0".repeat(32),
    implicit: false,
    exclusive: false,
    sinceMs: 5,
    owner: { uid: 1000 },
    gpus: ["GPU-a"],
  };
  const base: JournalRecord = { record: "base", ...of, order: 0, value: { power_limit_mw: 1 } };
  const layer: JournalRecord = { record: "layer", lease: 4, ...of, order: 1, value: { power_limit_mw: 2 } };

  it("of nothing say nothing", () => {
    expect(replay([])).toEqual({ leases: new Map(), gpus: new Map(), lastOrder: 0, lastLease: 0 });
  });

  it("of a lease say what was last said of it, until it ends, and its number is not forgotten then", () => {
    const renewed = { ...lease, expiresMs: 7 };
    const all: JournalRecord[] = [
      { record: "lease", lease },
      { record: "lease", lease: renewed },
    ];
    expect(replay(all).leases).toEqual(new Map([[4, renewed]]));
    expect(replay([...all, { record: "ended", lease: 4 }])).toMatchObject({ leases: new Map(), lastLease: 4 });
    expect(replay([{ record: "ended", lease: 3 }, ...all]).lastLease).toBe(4);
    expect(replay([...all, { record: "ended", lease: 3 }]).lastLease).toBe(4);
  });

  it("of the end of a lease take away its layers on every GPU and leave the others'", () => {
    const other: JournalRecord = { ...layer, gpu: "GPU-b", setting: "persistence_mode", value: { enabled: true } };
    const theirs: JournalRecord = { ...layer, lease: 5 };
    const { gpus } = replay([base, layer, other, theirs, { record: "ended", lease: 4 }]);
    expect(gpus.get("GPU-a")?.get("power_limit")?.layered.layers.size).toBe(1);
    expect(gpus.get("GPU-a")?.get("power_limit")?.layered.layers.has(5)).toBe(true);
    expect(gpus.get("GPU-b")?.get("persistence_mode")).toEqual({ layered: { layers: new Map() }, touched: true });
  });

  it("of a base alone leave a setting as one that no lease has changed, and those of layers do not", () => {
    const touchedBy = (...all: readonly JournalRecord[]): unknown =>
      replay(all).gpus.get("GPU-a")?.get("power_limit")?.touched;
    expect(touchedBy(base)).toBe(false);
    expect(touchedBy(base, layer)).toBe(true);
    expect(touchedBy(base, layer, { record: "no_layer", lease: 4, ...of })).toBe(true);
    expect(touchedBy(base, layer, { record: "ended", lease: 4 })).toBe(true);
    expect(touchedBy(base, layer, { record: "ended", lease: 4 }, { record: "settled", ...of })).toBeUndefined();
  });

  it("of a setting that was written by a lease which is over say so in a journal that is written anew", () => {
    const remembered = replay([base, layer, { record: "ended", lease: 4 }]);
    expect(replay(compacted(remembered)).gpus).toEqual(remembered.gpus);
  });
});

describe("once a setting is as it should be", () => {
  const value = { min_clock_mhz: 1, max_clock_mhz: 2 };

  it("what the driver tells is not remembered", () => {
    for (const setting of ["power_limit", "persistence_mode"] as const) {
      expect(settledKnob(setting, { base: { value: {}, order: 3 }, layers: new Map() })).toBeUndefined();
    }
  });

  it("what no driver tells is remembered if somebody has set it", () => {
    for (const setting of ["gpu_clocks", "memory_clocks"] as const) {
      const base = { value, order: 3 };
      const layered = { base, layers: new Map([[4, { value: {}, order: 9 }]]) };
      expect(settledKnob(setting, layered)).toEqual({ layered: { base, layers: new Map() }, touched: false });
      expect(settledKnob(setting, { base: { value: {}, order: 0 }, layers: new Map() })).toBeUndefined();
    }
  });

  it("nothing is remembered of what nobody knows", () => {
    for (const setting of settings) expect(settledKnob(setting, { layers: new Map() })).toBeUndefined();
  });
});
