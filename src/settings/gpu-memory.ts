// What is remembered of one GPU's settings: who has written what, and what is still to be put where it should be. Asks no driver.
import type { Values } from "../contract/field.ts";
import type { Lease } from "../contract/lease.ts";
import type { Setting } from "../contract/operations.ts";
import { isSame } from "./knobs.ts";
import { untouched, winnerOf, withWrite, writeOf, type Layered, type Winner, type Written } from "./layers.ts";
import type { Ledger } from "./ledger.ts";
import { endLayers, settledKnob, unknownKnob, type Knob } from "./records.ts";

/** A write that has been remembered, with what it takes to take it back. */
export interface Entry {
  readonly setting: Setting;
  readonly lease: Lease | undefined;
  readonly written: Written;
  /** What the same lease had written before, or what was there without one. */
  readonly before: Written | undefined;
  /** The setting as it was. */
  readonly layered: Layered;
}

export class GpuMemory {
  readonly #ledger: Ledger;
  #knobs = new Map<Setting, Knob>();
  readonly #owed = new Set<Setting>();
  /** Writes that were taken back when a later one had already come, with what was there before them. */
  readonly #takenBack = new WeakMap<Written, Written | undefined>();

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** Each setting that there is something to remember of. */
  get knobs(): ReadonlyMap<Setting, Knob> {
    return this.#knobs;
  }

  /** Settings that are to be put where they should be. */
  get owed(): ReadonlySet<Setting> {
    return this.#owed;
  }

  /** Takes on what the journal remembers. */
  recall(knobs: ReadonlyMap<Setting, Knob>): void {
    this.#knobs = new Map(knobs);
  }

  /** Owes everything that leases have changed. */
  reclaim(): void {
    for (const [setting, { touched }] of this.#knobs) if (touched) this.#owed.add(setting);
  }

  owe(setting: Setting): void {
    this.#owed.add(setting);
  }

  /** What a setting should be; undefined if nobody has asked for anything. */
  winner(setting: Setting): Winner | undefined {
    const knob = this.#knobs.get(setting);
    return knob && winnerOf(knob.layered);
  }

  base(setting: Setting): Written | undefined {
    return this.#knobs.get(setting)?.layered.base;
  }

  /** Whether what is there without leases is what it was before a lease changed it, or is still to be that again. */
  isTouched(setting: Setting): boolean {
    return this.#knobs.get(setting)?.touched === true || this.#owed.has(setting);
  }

  isHeld(setting: Setting): boolean {
    return (this.#knobs.get(setting)?.layered.layers.size ?? 0) > 0;
  }

  /** Whether a lease has changed something here. */
  has(lease: number): boolean {
    for (const { layered } of this.#knobs.values()) if (layered.layers.has(lease)) return true;
    return false;
  }

  /** What is there without leases was found to be this, before the first lease writes. */
  foundBase(setting: Setting, value: Values): void {
    const { base: last, layers } = this.#knobs.get(setting)?.layered ?? untouched;
    const base = last && isSame(last.value, value) ? last : { value, order: 0 };
    this.#knobs.set(setting, { layered: { base, layers }, touched: false });
  }

  /** A write is about to be made. Throws `journal_unavailable` if a lease's cannot be written down. */
  write(setting: Setting, lease: Lease | undefined, written: Written): Entry {
    const { layered, touched } = this.#knobs.get(setting) ?? unknownKnob;
    if (lease) this.#ledger.require(setting, lease, layered, written);
    this.#knobs.set(setting, {
      layered: withWrite(layered, lease?.number, written),
      touched: touched || lease !== undefined,
    });
    return { setting, lease, written, before: writeOf(layered, lease?.number), layered };
  }

  /** Writes down what may be written down while the driver is at it. */
  follow({ setting, lease, layered, written }: Entry): void {
    this.#ledger.follow(setting, lease, layered, written, this.#owed.has(setting));
  }

  /** Takes a write back, unless its lease is over. What came before it may have been taken back meanwhile. */
  takeBack({ setting, lease, written, before }: Entry): void {
    const knob = this.#knobs.get(setting);
    const valid = this.#validOf(before);
    if (!knob || writeOf(knob.layered, lease?.number) !== written) {
      this.#takenBack.set(written, valid);
      return;
    }
    this.#knobs.set(setting, { ...knob, layered: withWrite(knob.layered, lease?.number, valid) });
    if (lease) this.#ledger.layer(setting, lease.number, valid);
    else this.#ledger.base(setting, valid);
  }

  #validOf(written: Written | undefined): Written | undefined {
    let valid = written;
    while (valid && this.#takenBack.has(valid)) valid = this.#takenBack.get(valid);
    return valid;
  }

  /** A lease is over: its layers go, and what it had changed is owed. Gives back which settings that are. */
  end(lease: number): readonly Setting[] {
    const changed = [...this.#knobs].flatMap(([setting, { layered }]) => (layered.layers.has(lease) ? setting : []));
    endLayers(this.#knobs, lease);
    // Where it had not won there is nothing to put back, but for a later write that is in the driver and may yet fail.
    for (const setting of changed) this.#owed.add(setting);
    return changed;
  }

  /** A setting is where it should be. */
  settled(setting: Setting): void {
    this.#owed.delete(setting);
    this.forget(setting);
  }

  /** Forgets what need not be remembered once nobody holds a setting. */
  forget(setting: Setting): void {
    const knob = this.#knobs.get(setting);
    if (!knob || knob.layered.layers.size > 0) return;
    const { base } = knob.layered;
    // What was asked for without a lease stands until something else is.
    if (base && base.order > 0) this.#knobs.set(setting, { layered: { ...untouched, base }, touched: false });
    else this.#knobs.delete(setting);
    this.#ledger.settled(setting);
  }

  /** What the journal has to remember when it is written anew. */
  *remembered(): Iterable<readonly [Setting, Knob]> {
    for (const [setting, knob] of this.#knobs) {
      const kept = knob.touched ? knob : settledKnob(setting, knob.layered);
      if (kept) yield [setting, kept];
    }
  }
}
