// The settings of one GPU: carries out writes and remembers whose they are, and puts things back. All of it in the GPU's lane.
import { isRefusal, messageOf, ZeusdError } from "../contract/errors.ts";
import type { Events } from "../contract/events.ts";
import type { Values } from "../contract/field.ts";
import type { GpuKey, Lease } from "../contract/lease.ts";
import type { Log } from "../contract/log.ts";
import type { Row, Setting } from "../contract/operations.ts";
import type { Attempt } from "./attempt.ts";
import { Drifts } from "./drifts.ts";
import { describeValue, isSame, partsOf, readerOf, setterOf, type Part } from "./knobs.ts";
import { untouched, winnerOf, withWrite, writeOf, type Winner, type Written } from "./layers.ts";
import { Ledger, type LedgerParts } from "./ledger.ts";
import { endLayers, settledKnob, unknownKnob, type Knob } from "./records.ts";

/** What the settings of all GPUs share. */
export interface SettingsParts extends LedgerParts {
  readonly log: Log;
  readonly events: Events;
  /** Whether what was changed behind the daemon's back is put right. */
  readonly reassert: boolean;
  /** The place of the next write among all writes. */
  nextOrder(): number;
  /** Whether a lease has not ended. */
  lives(lease: Lease): boolean;
}

/** What they need of their GPU. */
export interface GpuAccess {
  readonly id: number;
  /** For example `GPU 0`. */
  readonly name: string;
  /** What the journal calls it. */
  readonly key: () => GpuKey;
  /** Calls the driver. */
  readonly call: (row: Row, parameters: Values) => Promise<Values>;
  /** What a setting is, if the daemon has set or read it since it might have been changed. */
  readonly known: (setting: Setting) => Values | undefined;
  /** Hears that something is to be put where it should be: `settle` is to be called in the lane, before anything else. */
  readonly owes: () => void;
}

export class GpuSettings {
  readonly #shared: SettingsParts;
  readonly #gpu: GpuAccess;
  #knobs = new Map<Setting, Knob>();
  /** Settings that are to be put where they should be. */
  readonly #owed = new Set<Setting>();

  /** Writes that were taken back when a later one had already come, with what was there before them. */
  readonly #takenBack = new WeakMap<Written, Written | undefined>();
  readonly #ledger: Ledger;
  readonly #drifts: Drifts;

  constructor(shared: SettingsParts, gpu: GpuAccess) {
    this.#shared = shared;
    this.#gpu = gpu;
    this.#ledger = new Ledger(shared, gpu.key);
    this.#drifts = new Drifts(shared, gpu);
  }

  /** What is remembered of each setting. */
  get knobs(): ReadonlyMap<Setting, Knob> {
    return this.#knobs;
  }

  /** Takes on what the journal remembers, and owes what leases have changed. */
  remember(knobs: ReadonlyMap<Setting, Knob>): void {
    this.#knobs = new Map(knobs);
    this.reclaim();
  }

  /** Owes everything that leases have changed: the GPU may have been reset, or another daemon may have been killed. */
  reclaim(): void {
    for (const [setting, { touched }] of this.#knobs) if (touched) this.#owed.add(setting);
  }

  /** Whether something is to be put where it should be. */
  get owes(): boolean {
    return this.#owed.size > 0;
  }

  /** What is to be put where it should be. */
  get owed(): ReadonlySet<Setting> {
    return this.#owed;
  }

  /** What was found that should not be so. */
  get drifts(): Drifts {
    return this.#drifts;
  }

  /** What a setting is was read: holds it against what it should be. In the lane. */
  found(setting: Setting, value: Values): void {
    const winner = this.winner(setting);
    // What nobody has asked for may be anything, and what is about to be put right is known.
    if (!winner || winner.order === 0 || this.#owed.has(setting)) return;
    const isNew = this.#drifts.hold(setting, winner.value, value);
    if (isNew && this.#shared.reassert) this.#owe(setting);
  }

  /** What a setting should be; undefined if nobody has asked for anything. */
  winner(setting: Setting): Winner | undefined {
    const knob = this.#knobs.get(setting);
    return knob && winnerOf(knob.layered);
  }

  /** Whether a lease has changed something here. */
  has(lease: number): boolean {
    for (const { layered } of this.#knobs.values()) if (layered.layers.has(lease)) return true;
    return false;
  }

  /**
   * Carries a write out, within a lease or without. Throws what the driver says, `no_such_lease` if the lease has ended
   * meanwhile, and `journal_unavailable`. What consists of parts is tried to its end; its first error is the one that is thrown.
   */
  write(row: Row, parameters: Values, lease?: Lease, attempt?: Attempt): Promise<Values> {
    const parts = partsOf(row);
    const [only] = parts;
    if (only && parts.length === 1) return this.#set(only, parameters, lease, attempt);
    return this.#setAll(parts, parameters, lease, attempt);
  }

  /** They belong together, and the lane runs one call at a time. */
  async #setAll(parts: readonly Part[], parameters: Values, lease?: Lease, attempt?: Attempt): Promise<Values> {
    await tryAll(parts, (part) => this.#set(part, parameters, lease, attempt));
    return {};
  }

  async #set({ setting, row }: Part, value: Values, lease?: Lease, attempt?: Attempt): Promise<Values> {
    const { nextOrder } = this.#shared;
    if ((lease ?? attempt) && this.#lacksBase(setting)) await this.#readBase(setting);
    if (lease && !this.#shared.lives(lease)) throw leaseOver(lease);
    const { layered, touched } = this.#knobs.get(setting) ?? unknownKnob;
    const before = writeOf(layered, lease?.number);
    const written = { value, order: nextOrder() };
    if (lease) this.#ledger.require(setting, lease, layered, written);
    this.#knobs.set(setting, {
      layered: withWrite(layered, lease?.number, written),
      touched: touched || lease !== undefined,
    });
    this.#drifts.over(setting, value);
    const isOwed = this.#owed.has(setting);
    const calling = this.#gpu.call(row, value);
    // The driver is at it meanwhile.
    this.#ledger.follow(setting, lease, layered, written, isOwed);
    let values: Values;
    try {
      values = await calling;
    } catch (error) {
      this.#undo(setting, lease, written, before);
      this.#afterFailure(setting, lease, error);
      throw error;
    }
    // Somebody may not want it any more: another GPU of the same command has failed.
    if (attempt) attempt.did(() => this.#takeBack(setting, lease, written, before));
    return values;
  }

  /** Whether nobody could say afterwards what to put back. */
  #lacksBase(setting: Setting): boolean {
    const knob = this.#knobs.get(setting);
    // What is there without leases may have been changed by others, but only as long as no lease has changed it.
    if (!knob?.layered.base) return true;
    return !knob.touched && !this.#owed.has(setting) && readerOf(setting) !== undefined;
  }

  /** Throws if the driver does not tell what there is to put back. */
  async #readBase(setting: Setting): Promise<void> {
    const last = this.#knobs.get(setting)?.layered.base;
    const value = await this.#read(setting, last?.value);
    const base = last && isSame(last.value, value) ? last : { value, order: 0 };
    const { layers } = this.#knobs.get(setting)?.layered ?? untouched;
    this.#knobs.set(setting, { layered: { base, layers }, touched: false });
  }

  /** What a setting is; what no driver tells is taken to be what was last set, or else not set at all. */
  async #read(setting: Setting, last: Values | undefined): Promise<Values> {
    const reader = readerOf(setting);
    if (!reader) return last ?? {};
    try {
      return await this.#gpu.call(reader, {});
    } catch (error) {
      const found = last ?? this.#gpu.known(setting);
      if (found) return found;
      throw error;
    }
  }

  #owe(setting: Setting): void {
    this.#owed.add(setting);
    this.#gpu.owes();
  }

  #afterFailure(setting: Setting, lease: Lease | undefined, error: unknown): void {
    const isHeld = (this.#knobs.get(setting)?.layered.layers.size ?? 0) > 0;
    if (!isRefusal(error)) {
      // It may have been done all the same, and somebody wants something else, or nobody anything.
      if (lease ?? isHeld) this.#owe(setting);
    } else if (lease && !isHeld && !this.#owed.has(setting)) {
      this.#forget(setting);
    }
  }

  /** Takes back what has been done. */
  #takeBack(setting: Setting, lease: Lease | undefined, written: Written, before: Written | undefined): void {
    this.#undo(setting, lease, written, before);
    this.#owe(setting);
  }

  /** Takes a write back, unless its lease is over. What came before it may have been taken back meanwhile. */
  #undo(setting: Setting, lease: Lease | undefined, written: Written, before: Written | undefined): void {
    const knob = this.#knobs.get(setting);
    const valid = this.#validOf(before);
    if (!knob || writeOf(knob.layered, lease?.number) !== written) {
      this.#takenBack.set(written, valid);
      return;
    }
    const layered = withWrite(knob.layered, lease?.number, valid);
    this.#knobs.set(setting, { ...knob, layered });
    if (lease) this.#ledger.layer(setting, lease.number, valid);
    else this.#ledger.base(setting, valid);
  }

  #validOf(written: Written | undefined): Written | undefined {
    let valid = written;
    while (valid && this.#takenBack.has(valid)) valid = this.#takenBack.get(valid);
    return valid;
  }

  /** A lease is over: its layers go, and what it had changed is owed. */
  end(lease: number): void {
    const touched = [...this.#knobs].flatMap(([setting, { layered }]) => (layered.layers.has(lease) ? setting : []));
    endLayers(this.#knobs, lease);
    for (const setting of touched) {
      // Where it had not won there is nothing to put back, but for a later write that is in the driver and may yet fail.
      this.#owed.add(setting);
      this.#drifts.over(setting, this.winner(setting)?.value ?? {});
    }
  }

  /** Puts everything where it should be. Throws the first error when it has tried all; what failed is still owed. */
  async settle(): Promise<Values> {
    await tryAll(this.#owed, (setting) => this.#settle(setting));
    return {};
  }

  async #settle(setting: Setting): Promise<void> {
    const { log, events } = this.#shared;
    const { id, name, call } = this.#gpu;
    const winner = this.winner(setting);
    if (winner) {
      const { value } = winner;
      const known = this.#gpu.known(setting);
      if (!known || !isSame(known, value) || !(await this.#confirms(setting, value))) {
        try {
          await call(setterOf(setting, value), value);
        } catch (error) {
          events.tell({ event: "restore_failed", gpu: id, setting, value, error: messageOf(error) });
          throw error;
        }
        log.info(`${name}: ${setting} is ${describeValue(value)} again`);
        events.tell({ event: "restored", gpu: id, setting, value });
        await this.#lookAgain(setting, value);
      }
      // A lease may have ended meanwhile.
      if (this.winner(setting)?.order !== winner.order) return;
    }
    this.#owed.delete(setting);
    this.#forget(setting);
  }

  /** Whether a setting is still what the daemon has set last, as far as the driver can tell: others may have changed it. */
  async #confirms(setting: Setting, value: Values): Promise<boolean> {
    const reader = readerOf(setting);
    if (!reader) return true;
    const found = await this.#gpu.call(reader, {}).catch(() => undefined);
    return found !== undefined && isSame(found, value);
  }

  /** A drift that was put right may come again; one that the driver did not put right is not tried for ever. */
  async #lookAgain(setting: Setting, expected: Values): Promise<void> {
    const reader = readerOf(setting);
    if (!reader || !this.#drifts.of(setting)) return;
    const found = await this.#gpu.call(reader, {}).catch(() => undefined);
    if (found) this.#drifts.hold(setting, expected, found);
  }

  /** Forgets what need not be remembered once nobody holds a setting. */
  #forget(setting: Setting): void {
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

/** What a write within a lease that has ended meanwhile is told. */
export function leaseOver({ number }: Lease): ZeusdError {
  return new ZeusdError("no_such_lease", `Lease ${number} has ended, and what was to be written within it was dropped`);
}

/** Does all of it, one after the other, and throws the first error then. */
async function tryAll<Item>(items: Iterable<Item>, work: (item: Item) => Promise<unknown>): Promise<void> {
  let first: { readonly error: unknown } | undefined;
  for (const item of items) {
    try {
      await work(item);
    } catch (error) {
      first ??= { error };
    }
  }
  if (first) throw first.error;
}
