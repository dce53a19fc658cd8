// The settings of one GPU: carries out writes, has it remembered whose they are, and puts things back. All of it in the GPU's lane.
import { isRefusal, messageOf } from "../contract/errors.ts";
import type { Events } from "../contract/events.ts";
import type { Values } from "../contract/field.ts";
import type { GpuKey, Lease } from "../contract/lease.ts";
import type { Log } from "../contract/log.ts";
import type { Row, Setting } from "../contract/operations.ts";
import type { Attempt } from "./attempt.ts";
import { Drifts } from "./drifts.ts";
import { GpuMemory } from "./gpu-memory.ts";
import { describeValue, isSame, partsOf, readerOf, setterOf, type Part } from "./knobs.ts";
import type { Winner } from "./layers.ts";
import { leaseOver } from "./lease-refusals.ts";
import { Ledger, type LedgerParts } from "./ledger.ts";
import type { Knob } from "./records.ts";

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
  readonly #memory: GpuMemory;
  readonly #drifts: Drifts;

  constructor(shared: SettingsParts, gpu: GpuAccess) {
    this.#shared = shared;
    this.#gpu = gpu;
    this.#memory = new GpuMemory(new Ledger(shared, gpu.key));
    this.#drifts = new Drifts(shared, gpu);
  }

  /** What is remembered of each setting. */
  get knobs(): ReadonlyMap<Setting, Knob> {
    return this.#memory.knobs;
  }

  /** Whether something is to be put where it should be. */
  get owes(): boolean {
    return this.#memory.owed.size > 0;
  }

  /** What is to be put where it should be. */
  get owed(): ReadonlySet<Setting> {
    return this.#memory.owed;
  }

  /** What was found that should not be so. */
  get drifts(): Drifts {
    return this.#drifts;
  }

  /** What a setting should be; undefined if nobody has asked for anything. */
  winner(setting: Setting): Winner | undefined {
    return this.#memory.winner(setting);
  }

  /** Whether a lease has changed something here. */
  has(lease: number): boolean {
    return this.#memory.has(lease);
  }

  /** What the journal has to remember when it is written anew. */
  remembered(): Iterable<readonly [Setting, Knob]> {
    return this.#memory.remembered();
  }

  /** Takes on what the journal remembers, and owes what leases have changed. */
  remember(knobs: ReadonlyMap<Setting, Knob>): void {
    this.#memory.recall(knobs);
    this.reclaim();
  }

  /** Owes everything that leases have changed: the GPU may have been reset, or another daemon may have been killed. */
  reclaim(): void {
    this.#memory.reclaim();
  }

  /** What a setting is was read: holds it against what it should be. In the lane. */
  found(setting: Setting, value: Values): void {
    const winner = this.winner(setting);
    // What nobody has asked for may be anything, and what is about to be put right is known.
    if (!winner || winner.order === 0 || this.owed.has(setting)) return;
    const isNew = this.#drifts.hold(setting, winner.value, value);
    if (isNew && this.#shared.reassert) this.#owe(setting);
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
    const { nextOrder, lives } = this.#shared;
    if ((lease ?? attempt) && this.#lacksBase(setting)) await this.#readBase(setting);
    if (lease && !lives(lease)) throw leaseOver(lease);
    const entry = this.#memory.write(setting, lease, { value, order: nextOrder() });
    this.#drifts.over(setting, value);
    const calling = this.#gpu.call(row, value);
    // The driver is at it meanwhile.
    this.#memory.follow(entry);
    let values: Values;
    try {
      values = await calling;
    } catch (error) {
      this.#memory.takeBack(entry);
      this.#afterFailure(setting, lease, error);
      throw error;
    }
    // Somebody may not want it any more: another GPU of the same command has failed.
    attempt?.did(() => {
      this.#memory.takeBack(entry);
      this.#owe(setting);
    });
    return values;
  }

  /**
   * Whether nobody could say afterwards what to put back. What is there without leases may have been changed by others, but
   * only as long as no lease has changed it.
   */
  #lacksBase(setting: Setting): boolean {
    if (!this.#memory.base(setting)) return true;
    return !this.#memory.isTouched(setting) && readerOf(setting) !== undefined;
  }

  /**
   * What no driver tells is taken to be what was last set, or else not set at all. Throws if the driver does not tell what it
   * should, and nobody else knows.
   */
  async #readBase(setting: Setting): Promise<void> {
    const last = this.#memory.base(setting)?.value;
    const reader = readerOf(setting);
    const value = reader ? await this.#readOr(reader, last ?? this.#gpu.known(setting)) : (last ?? {});
    this.#memory.foundBase(setting, value);
  }

  async #readOr(reader: Row, otherwise: Values | undefined): Promise<Values> {
    try {
      return await this.#gpu.call(reader, {});
    } catch (error) {
      if (otherwise) return otherwise;
      throw error;
    }
  }

  #owe(setting: Setting): void {
    this.#memory.owe(setting);
    this.#gpu.owes();
  }

  #afterFailure(setting: Setting, lease: Lease | undefined, error: unknown): void {
    const isHeld = this.#memory.isHeld(setting);
    if (!isRefusal(error)) {
      // It may have been done all the same, and somebody wants something else, or nobody anything.
      if (lease ?? isHeld) this.#owe(setting);
    } else if (lease && !isHeld && !this.owed.has(setting)) {
      this.#memory.forget(setting);
    }
  }

  /** A lease is over: its layers go, and what it had changed is owed. */
  end(lease: number): void {
    for (const setting of this.#memory.end(lease)) this.#drifts.over(setting, this.winner(setting)?.value ?? {});
  }

  /** Puts everything where it should be. Throws the first error when it has tried all; what failed is still owed. */
  async settle(): Promise<Values> {
    await tryAll(this.owed, (setting) => this.#settle(setting));
    return {};
  }

  async #settle(setting: Setting): Promise<void> {
    const winner = this.winner(setting);
    if (winner) await this.#putBack(setting, winner.value);
    // A lease may have ended meanwhile.
    if (this.winner(setting)?.order === winner?.order) this.#memory.settled(setting);
  }

  async #putBack(setting: Setting, value: Values): Promise<void> {
    const { log, events } = this.#shared;
    const { id, name, call } = this.#gpu;
    const known = this.#gpu.known(setting);
    if (known && isSame(known, value) && (await this.#confirms(setting, value))) return;
    try {
      await call(setterOf(setting, value), value);
    } catch (error) {
      events.tell({ event: "restore_failed", gpu: id, setting, value, error: messageOf(error) });
      throw error;
    }
    log.info(`${name}: ${setting} is ${describeValue(value)} again`);
    events.tell({ event: "restored", gpu: id, setting, value });
    // A drift that was put right may come again; one that the driver did not put right is not tried for ever.
    const found = this.#drifts.of(setting) && (await this.#look(setting));
    if (found) this.#drifts.hold(setting, value, found);
  }

  /** Whether a setting is still what the daemon has set last, as far as the driver can tell: others may have changed it. */
  async #confirms(setting: Setting, value: Values): Promise<boolean> {
    if (!readerOf(setting)) return true;
    const found = await this.#look(setting);
    return found !== undefined && isSame(found, value);
  }

  /** What a setting is; undefined if the driver does not say. */
  async #look(setting: Setting): Promise<Values | undefined> {
    const reader = readerOf(setting);
    return reader && this.#gpu.call(reader, {}).catch(() => undefined);
  }
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
