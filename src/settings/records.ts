// The records of the journal, and what they add up to: leases, and what each setting should be.
import type { GpuKey, Lease } from "../contract/lease.ts";
import type { Setting } from "../contract/operations.ts";
import { readerOf } from "./knobs.ts";
import { untouched, withWrite, type Layered, type Written } from "./layers.ts";

/** What a record of a setting is about. */
interface OfKnob {
  readonly gpu: GpuKey;
  readonly setting: Setting;
}

export type JournalRecord =
  /** A lease begins, or goes on with another end. */
  | { readonly record: "lease"; readonly lease: Lease }
  /** A lease has ended, and its layers with it. */
  | { readonly record: "ended"; readonly lease: number }
  /** What is there without leases: found before the first of them wrote (order 0), or written without one. */
  | ({ readonly record: "base" } & OfKnob & Written)
  /** A lease is about to write. */
  | ({ readonly record: "layer"; readonly lease: number } & OfKnob & Written)
  /** A lease has not written after all, and had not before. */
  | ({ readonly record: "no_layer"; readonly lease: number } & OfKnob)
  /** What should be there is, and no lease has a layer of it. */
  | ({ readonly record: "settled" } & OfKnob);

/** A setting as it is remembered. */
export interface Knob {
  readonly layered: Layered;
  /** Whether leases have changed it since it was last known to be what it should be without any. */
  readonly touched: boolean;
}

export interface Remembered {
  readonly leases: Map<number, Lease>;
  readonly gpus: Map<GpuKey, Map<Setting, Knob>>;
  /** The highest that have been given away. */
  lastOrder: number;
  lastLease: number;
}

/** A setting that nobody has asked anything of. */
export const unknownKnob: Knob = { layered: untouched, touched: false };

/** What the records add up to. To replay them twice makes no difference. */
export function replay(records: Iterable<JournalRecord>): Remembered {
  const remembered: Remembered = { leases: new Map(), gpus: new Map(), lastOrder: 0, lastLease: 0 };
  for (const record of records) apply(remembered, record);
  return remembered;
}

function apply(remembered: Remembered, record: JournalRecord): void {
  const { leases, gpus } = remembered;
  if (record.record === "lease") {
    leases.set(record.lease.number, record.lease);
    remembered.lastLease = Math.max(remembered.lastLease, record.lease.number);
  } else if (record.record === "ended") {
    leases.delete(record.lease);
    remembered.lastLease = Math.max(remembered.lastLease, record.lease);
    for (const knobs of gpus.values()) endLayers(knobs, record.lease);
  } else {
    let knobs = gpus.get(record.gpu);
    if (!knobs) gpus.set(record.gpu, (knobs = new Map()));
    if ("order" in record) remembered.lastOrder = Math.max(remembered.lastOrder, record.order);
    const knob = changed(knobs.get(record.setting) ?? unknownKnob, record);
    if (knob) knobs.set(record.setting, knob);
    else knobs.delete(record.setting);
  }
}

export function endLayers(knobs: Map<Setting, Knob>, lease: number): void {
  for (const [setting, { layered, touched }] of knobs) {
    if (layered.layers.has(lease)) knobs.set(setting, { layered: withWrite(layered, lease, undefined), touched });
  }
}

type KnobRecord = Extract<JournalRecord, OfKnob>;

/** The setting after a record; undefined if there is nothing to remember of it. */
function changed({ layered, touched }: Knob, record: KnobRecord): Knob | undefined {
  switch (record.record) {
    case "base":
      return { layered: withWrite(layered, undefined, writtenOf(record)), touched };
    case "layer":
      return { layered: withWrite(layered, record.lease, writtenOf(record)), touched: true };
    case "no_layer":
      return { layered: withWrite(layered, record.lease, undefined), touched: true };
    case "settled":
      return settledKnob(record.setting, layered);
  }
}

function writtenOf({ value, order }: Written): Written {
  return { value, order };
}

/**
 * What is remembered of a setting once it is as it should be without leases: what the driver tells need not be remembered,
 * and of the rest what somebody has set.
 */
export function settledKnob(setting: Setting, { base }: Layered): Knob | undefined {
  if (!base || base.order === 0 || readerOf(setting)) return undefined;
  return { layered: { ...untouched, base }, touched: false };
}

/** What a journal has to say. */
export interface Live {
  readonly leases: Iterable<Lease>;
  readonly lastLease: number;
  readonly gpus: Iterable<readonly [GpuKey, Iterable<readonly [Setting, Knob]>]>;
}

/** The fewest records that add up to this. */
export function* recordsOf({ leases, lastLease, gpus }: Live): Iterable<JournalRecord> {
  // No number is given away twice.
  yield { record: "ended", lease: lastLease };
  for (const lease of leases) yield { record: "lease", lease };
  for (const [gpu, knobs] of gpus) {
    for (const [setting, { layered, touched }] of knobs) {
      if (layered.base) yield { record: "base", gpu, setting, ...layered.base };
      for (const [lease, written] of layered.layers) yield { record: "layer", lease, gpu, setting, ...written };
      // A lease that is not there any more has written: what should be there must be put there again.
      if (touched && layered.layers.size === 0) yield { record: "no_layer", lease: 0, gpu, setting };
    }
  }
}
