// Records of the journal as a program might write them, for tests by properties.
import * as fc from "fast-check";
import type { Values } from "../../src/contract/field.ts";
import type { Lease } from "../../src/contract/lease.ts";
import { settings, type Setting } from "../../src/contract/operations.ts";
import type { JournalRecord } from "../../src/settings/records.ts";

const count = fc.oneof(fc.nat(9), fc.maxSafeNat());
const maybe = <Value>(arbitrary: fc.Arbitrary<Value>): fc.Arbitrary<Value | undefined> =>
  fc.option(arbitrary, { nil: undefined });

const clocks = fc.oneof(fc.constant({}), fc.record({ min_clock_mhz: fc.nat(3_000), max_clock_mhz: fc.nat(3_000) }));
const values: Readonly<Record<Setting, fc.Arbitrary<Values>>> = {
  power_limit: fc.record({ power_limit_mw: fc.nat(700_000) }),
  persistence_mode: fc.record({ enabled: fc.boolean() }),
  gpu_clocks: clocks,
  memory_clocks: clocks,
};

export const gpuKeys = ["GPU-a", "gpu 1"] as const;

const knob = { gpu: fc.constantFrom(...gpuKeys), setting: fc.constantFrom(...settings) };

function leaseOf(number: fc.Arbitrary<number>): fc.Arbitrary<Lease> {
  const holder = fc.record({ pid: count, started: count });
  // Something has to end it.
  const ends = fc.oneof(
    fc.record({ holder, ttlS: fc.constant(undefined), expiresMs: fc.constant(undefined) }),
    fc.record({ holder: maybe(holder), ttlS: count, expiresMs: count }),
  );
  const lease = fc.record({
    number,
    id: fc.stringMatching(/^[\da-f]{32}$/),
    implicit: fc.boolean(),
    exclusive: fc.boolean(),
    reason: maybe(fc.string({ unit: "binary" })),
    sinceMs: count,
    owner: fc.record({ uid: maybe(count), program: maybe(fc.string()), sub: maybe(fc.string()) }),
    gpus: fc.subarray([...gpuKeys]),
  });
  return fc.tuple(lease, ends).map(([one, end]) => ({ ...one, ...end }));
}

/** Any record, with leases of these numbers and writes of these orders. */
function recordOf(number: fc.Arbitrary<number>, order: fc.Arbitrary<number>): fc.Arbitrary<JournalRecord> {
  const written = fc.record({ ...knob, order }).chain((of) => values[of.setting].map((value) => ({ ...of, value })));
  return fc.oneof(
    leaseOf(number).map((lease) => ({ record: "lease" as const, lease })),
    number.map((lease) => ({ record: "ended" as const, lease })),
    written.map((of) => ({ record: "base" as const, ...of })),
    {
      weight: 2,
      arbitrary: fc.tuple(written, number).map(([of, lease]) => ({ record: "layer" as const, lease, ...of })),
    },
    fc.record({ record: fc.constant("no_layer" as const), lease: number, ...knob }),
    fc.record({ record: fc.constant("settled" as const), ...knob }),
  );
}

/** Any records at all. */
export const anyRecord: fc.Arbitrary<JournalRecord> = recordOf(count, count);

/** Records of few leases, whose writes come in the order of their numbers, or older than all for what was found. */
export const records: fc.Arbitrary<readonly JournalRecord[]> = fc
  .array(fc.tuple(recordOf(fc.integer({ min: 1, max: 4 }), fc.constant(0)), fc.boolean()), { maxLength: 40 })
  .map((all) =>
    all.map(([record, isFound], at) =>
      "order" in record ? { ...record, order: record.record === "base" && isFound ? 0 : at + 1 } : record,
    ),
  );
