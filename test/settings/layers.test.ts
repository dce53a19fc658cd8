// Layers: whatever is written and ended in whatever order, the newest write that lives wins, and at the end it is as it was.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { untouched, winnerOf, withWrite, writeOf, type Layered } from "../../src/settings/layers.ts";

const numRuns = 5_000;

/** A lease's write or one without a lease, or the end of a lease. */
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("write" as const), lease: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("write" as const), lease: fc.constant(undefined) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("end" as const), lease: fc.integer({ min: 1, max: 5 }) }) },
);

/** What somebody who only keeps a list of what happened would say: from the newest back, the first whose lease lives. */
class Chronicle {
  readonly #writes: { readonly value: number; readonly lease: number | undefined }[];

  constructor(first: number) {
    this.#writes = [{ value: first, lease: undefined }];
  }

  add(value: number, lease: number | undefined): void {
    this.#writes.push({ value, lease });
  }

  end(lease: number): void {
    for (let at = this.#writes.length - 1; at >= 0; at -= 1)
      if (this.#writes[at]?.lease === lease) this.#writes.splice(at, 1);
  }

  get newest(): { readonly value: number; readonly lease: number | undefined } {
    return this.#writes.at(-1) ?? { value: NaN, lease: undefined };
  }
}

function valueOf(layered: Layered): unknown {
  return winnerOf(layered)?.value["power_limit_mw"];
}

it("the newest write that lives wins after any writes and ends, and after the last end what was there without leases", () => {
  const holds = fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const chronicle = new Chronicle(0);
    let layered = withWrite(untouched, undefined, { value: { power_limit_mw: 0 }, order: 0 });
    let unleased = 0;
    let order = 0;
    for (const { kind, lease } of steps) {
      if (kind === "end") {
        chronicle.end(lease);
        layered = withWrite(layered, lease, undefined);
      } else {
        order += 1;
        if (lease === undefined) unleased = order;
        chronicle.add(order, lease);
        layered = withWrite(layered, lease, { value: { power_limit_mw: order }, order });
      }
      expect(valueOf(layered)).toBe(chronicle.newest.value);
      expect(winnerOf(layered)?.lease).toBe(chronicle.newest.lease);
    }
    for (const lease of [3, 1, 5, 2, 4]) layered = withWrite(layered, lease, undefined);
    expect(valueOf(layered)).toBe(unleased);
    expect(layered.layers.size).toBe(0);
  });
  fc.assert(holds, { numRuns });
});

it("in which order leases end makes no difference", () => {
  const holds = fc.property(
    fc.array(step, { maxLength: 30 }),
    fc.shuffledSubarray([1, 2, 3, 4, 5]),
    fc.nat(),
    (steps, ends, salt) => {
      let layered: Layered = untouched;
      for (const [at, { lease }] of steps.entries()) {
        layered = withWrite(layered, lease, { value: { power_limit_mw: at }, order: at + 1 });
      }
      const after = (order: readonly number[]): Layered =>
        order.reduce((left, lease) => withWrite(left, lease, undefined), layered);
      const other = ends.toSorted((one, two) => ((one * 7 + salt) % 5) - ((two * 7 + salt) % 5));
      expect(after(ends)).toEqual(after(other));
    },
  );
  fc.assert(holds, { numRuns });
});

describe("a write", () => {
  const base = { value: { power_limit_mw: 1 }, order: 1 };
  const layer = { value: { power_limit_mw: 2 }, order: 2 };

  it("of a lease leaves the base and what was there before as they are", () => {
    const before = withWrite(untouched, undefined, base);
    const after = withWrite(before, 7, layer);
    expect(before).toEqual({ base, layers: new Map() });
    expect(after).toEqual({ base, layers: new Map([[7, layer]]) });
    expect(untouched.layers.size).toBe(0);
  });

  it("without a lease wins over older layers, and newer ones over it", () => {
    const layered = withWrite(withWrite(untouched, 7, layer), undefined, { ...base, order: 3 });
    expect(winnerOf(layered)).toEqual({ ...base, order: 3 });
    expect(winnerOf(withWrite(layered, 8, { ...layer, order: 4 }))).toEqual({ ...layer, order: 4, lease: 8 });
  });

  it("is found again by its lease, and the base without one", () => {
    const layered = withWrite(withWrite(untouched, 7, layer), undefined, base);
    expect(writeOf(layered, 7)).toBe(layer);
    expect(writeOf(layered, 8)).toBeUndefined();
    expect(writeOf(layered, undefined)).toBe(base);
  });

  it("can be taken away again, and without any nothing is wanted", () => {
    const layered = withWrite(withWrite(untouched, 7, layer), undefined, base);
    expect(withWrite(layered, undefined, undefined)).toEqual({ layers: new Map([[7, layer]]) });
    expect(winnerOf(withWrite(withWrite(layered, 7, undefined), undefined, undefined))).toBeUndefined();
  });
});
