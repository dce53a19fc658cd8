// What a journal gives back: a record that can be carried out, or nothing, whatever stands there.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { settings } from "../../src/contract/operations.ts";
import { setterOf } from "../../src/settings/knobs.ts";
import { winnerOf } from "../../src/settings/layers.ts";
import { readRecord } from "../../src/settings/read-record.ts";
import { recordsOf, replay, type JournalRecord } from "../../src/settings/records.ts";
import { anyRecord } from "./arbitrary-records.ts";

const numRuns = 3_000;

function throughJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value)) as unknown;
}

/** What can be told apart in JSON. */
function asJson(value: unknown): string {
  return JSON.stringify(value, (_, one: unknown) => (one instanceof Map ? [...one] : one));
}

/** Throws if a record cannot be used for what records are for. */
function use(record: JournalRecord): void {
  const { leases, gpus, lastLease, lastOrder } = replay([record]);
  expect(Number.isSafeInteger(lastLease) && Number.isSafeInteger(lastOrder)).toBe(true);
  for (const [gpu, knobs] of gpus) {
    expect(gpu).toBeTypeOf("string");
    for (const [setting, { layered }] of knobs) {
      expect(settings).toContain(setting);
      const winner = winnerOf(layered);
      if (winner) expect(setterOf(setting, winner.value).settings).toEqual([setting]);
    }
  }
  const anew = [...recordsOf({ leases: leases.values(), lastLease, gpus })];
  for (const one of anew) expect(readRecord(throughJson(one))).toEqual(throughJson(one));
}

/** Something in place of something in a record, wherever it stands. */
function mutate(value: unknown, path: readonly number[], to: unknown): unknown {
  const [first, ...rest] = path;
  if (first === undefined || typeof value !== "object" || value === null) return to;
  const names = Object.keys(value);
  const name = names[first % Math.max(1, names.length)];
  if (name === undefined) return to;
  const entries: Record<string, unknown> = Object.fromEntries(Object.entries(value));
  const changed = { ...entries, [name]: mutate(entries[name], rest, to) };
  return Array.isArray(value) ? Object.values(changed) : changed;
}

it("every record that is written is read back as it was", () => {
  const holds = fc.property(anyRecord, (record) => {
    const found = readRecord(throughJson(record));
    expect(asJson(found)).toBe(asJson(record));
    if (found) use(found);
  });
  fc.assert(holds, { numRuns });
});

it("whatever JSON stands there is a record that can be used, or nothing", () => {
  const holds = fc.property(fc.jsonValue(), (found) => {
    const record = readRecord(found);
    if (record) use(record);
  });
  fc.assert(holds, { numRuns });
});

it("whatever is changed in a record, it can be used or is none", () => {
  const other = fc.oneof(
    fc.jsonValue(),
    fc.nat(),
    fc.constantFrom(-1, 0.5, 1e300, null, "", {}, [], true, "power_limit", "__proto__"),
  );
  let read = 0;
  const holds = fc.property(anyRecord, fc.array(fc.nat(12), { maxLength: 3 }), other, (record, path, to) => {
    const found = readRecord(throughJson(mutate(throughJson(record), path, to)));
    if (!found) return;
    read += 1;
    use(found);
  });
  fc.assert(holds, { numRuns: 3 * numRuns });
  // What is changed is mostly none, but not always.
  expect(read).toBeGreaterThan(100);
});

describe("no record", () => {
  const of = { gpu: "GPU-a", setting: "power_limit" };
  const base = { record: "base", ...of, order: 1, value: { power_limit_mw: 5 } };
  const lease = {
    number: 1,
    id: "0123456789abcdef0123456789abcdef",
    implicit: false,
    exclusive: true,
    reason: "night run",
    sinceMs: 1,
    ttlS: 2,
    expiresMs: 3,
    owner: { uid: 0, program: "python", sub: "me" },
    holder: { pid: 1, started: 2 },
    gpus: ["GPU-a"],
  };

  it("is what these are without the one thing that is wrong", () => {
    expect(readRecord(base)).toBe(base);
    expect(readRecord({ record: "lease", lease })).toBeDefined();
    expect(
      readRecord({ record: "lease", lease: { ...lease, reason: undefined, holder: undefined, owner: {} } }),
    ).toBeDefined();
    expect(readRecord({ ...base, record: "layer", lease: 1 })).toBeDefined();
    expect(readRecord({ ...base, setting: "persistence_mode", value: { enabled: true } })).toBeDefined();
    expect(readRecord({ ...base, setting: "gpu_clocks", value: {} })).toBeDefined();
  });

  it.each([
    undefined,
    null,
    1,
    "base",
    [],
    [base],
    {},
    { record: "toString" },
    { record: "constructor" },
    { record: "__proto__" },
    { record: ["base"], ...of, order: 1, value: { power_limit_mw: 5 } },
    { ...of, order: 1, value: { power_limit_mw: 5 } },
  ])("is %j", (found) => {
    expect(readRecord(found)).toBeUndefined();
  });

  it.each([
    { gpu: 1 },
    { gpu: undefined },
    { setting: "fan" },
    { setting: undefined },
    { order: -1 },
    { order: 0.5 },
    { order: "1" },
    { order: 2 ** 53 },
    { order: undefined },
    { value: undefined },
    { value: null },
    { value: 5 },
    { value: [] },
    { value: {} },
    { value: { power_limit_mw: "5" } },
    { value: { power_limit_mw: -5 } },
    { value: { power_limit_mw: 0.5 } },
    { value: { power_limit_mw: true } },
    { value: { power_limit_mw: null } },
    { value: { power_limit_mw: 5, more: 1 } },
    { value: { enabled: true } },
    { setting: "persistence_mode", value: { enabled: 1 } },
    { setting: "persistence_mode", value: {} },
    { setting: "gpu_clocks", value: { min_clock_mhz: 1 } },
    { setting: "gpu_clocks", value: { min_clock_mhz: 1, max_clock_mhz: "2" } },
  ])("is a base with %j", (wrong) => {
    expect(readRecord({ ...base, ...wrong })).toBeUndefined();
    expect(readRecord({ ...base, record: "layer", lease: 1, ...wrong })).toBeUndefined();
  });

  it.each([undefined, null, -1, "1", {}])("is a layer, or no layer, or an end, of lease %j", (number) => {
    expect(readRecord({ ...base, record: "layer", lease: number })).toBeUndefined();
    expect(readRecord({ record: "no_layer", ...of, lease: number })).toBeUndefined();
    expect(readRecord({ record: "ended", lease: number })).toBeUndefined();
  });

  it.each([{ gpu: 1 }, { setting: "fan" }])("is what has settled or has no layer, with %j", (wrong) => {
    expect(readRecord({ record: "settled", ...of, ...wrong })).toBeUndefined();
    expect(readRecord({ record: "no_layer", lease: 1, ...of, ...wrong })).toBeUndefined();
    expect(readRecord({ record: "settled", ...of })).toBeDefined();
    expect(readRecord({ record: "no_layer", lease: 1, ...of })).toBeDefined();
  });

  it.each([
    { number: undefined },
    { number: -1 },
    { id: "0123" },
    { id: lease.id.toUpperCase() },
    { id: `${lease.id}0` },
    { id: 1 },
    { implicit: "no" },
    { exclusive: undefined },
    { reason: 1 },
    { reason: null },
    { sinceMs: undefined },
    { sinceMs: -1 },
    { ttlS: "1" },
    { ttlS: 1.5 },
    { expiresMs: -1 },
    { expiresMs: "soon" },
    { owner: undefined },
    { owner: null },
    { owner: { uid: "0" } },
    { owner: { uid: -1 } },
    { owner: { program: 1 } },
    { owner: { sub: false } },
    { holder: 1 },
    { holder: {} },
    { holder: { pid: 1 } },
    { holder: { pid: -1, started: 1 } },
    { holder: { pid: 1, started: "1" } },
    { holder: undefined, ttlS: undefined, expiresMs: undefined },
    { gpus: undefined },
    { gpus: "GPU-a" },
    { gpus: [1] },
    { gpus: { length: 0 } },
  ])("is a lease with %j", (wrong) => {
    expect(readRecord({ record: "lease", lease: { ...lease, ...wrong } })).toBeUndefined();
  });
});
