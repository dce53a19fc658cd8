// A member of the fleet: a device with its two lanes, one for commands and one for its power, and whether it is there at all.
import type { Caller, Command, Witness } from "../contract/command.ts";
import type { Cpu } from "../contract/cpu.ts";
import { isRefusal, ZeusdError } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Gpu } from "../contract/gpu.ts";
import { gpuKey, type Lease } from "../contract/lease.ts";
import type { DeviceKind, Row } from "../contract/operations.ts";
import type { Target } from "../contract/target.ts";
import type { Attempt } from "../settings/attempt.ts";
import type { GpuSettings } from "../settings/gpu-settings.ts";
import { partsOf } from "../settings/knobs.ts";
import { leaseOver } from "../settings/lease-refusals.ts";
import type { Settings } from "../settings/settings.ts";
import { AccountedWork, type AccountParts, type Task } from "./account.ts";
import { Lane, type LaneParts } from "./lane.ts";
import { LastKnown } from "./last-known.ts";
import { PowerFeed, type Sampler } from "./power-feed.ts";
import { ReadBacks } from "./read-back.ts";
import { Restoration } from "./restoration.ts";

export interface MemberParts extends Omit<LaneParts, "name" | "back"> {
  readonly periodMs: number;
  /** Makes the source of power readings; `call` is this member's. */
  readonly sampler: (call: Call) => Sampler;
  /** Hears of every error of the device itself, be it a command's or its feed's. */
  readonly failed: (error: unknown) => void;
  /** Hears of a restoration that failed and is tried again; without an error that it has worked. */
  readonly notRestored: (name: string, error?: unknown) => void;
  /** Hears that a lane which was stuck has returned. */
  readonly back: (operation: string) => void;
  /** What its settings should be, and who wants it so. Absent for a CPU, which has none. */
  readonly settings?: Settings;
}

/** What a command is run with besides its parameters. */
export interface Terms {
  /** Who waits. Without a caller nobody does, and the command has no deadline. */
  readonly caller?: Caller | undefined;
  /** Hears how a write ends. */
  readonly witness?: Witness | undefined;
  /** The lease within which it is written. */
  readonly lease?: Lease | undefined;
  /** What it is a part of that is done as a whole or not at all. */
  readonly attempt?: Attempt | undefined;
}

/** Calls the device's function for a row of the table. */
type Call = (row: Row, parameters: Values) => Promise<Values>;

export class Member<Device extends Gpu | Cpu = Gpu | Cpu> implements Target {
  readonly kind: DeviceKind;
  readonly id: number;
  /** For example `GPU 0`. */
  readonly name: string;
  readonly lane: Lane;
  readonly feed: PowerFeed;
  readonly lastKnown = new LastKnown();
  /** What the daemon remembers of its settings; absent for a CPU. */
  readonly settings: GpuSettings | undefined;
  readonly #parts: MemberParts;
  readonly #readBacks: ReadBacks;
  readonly #restoration: Restoration | undefined;
  readonly #accounting: AccountParts;
  /** What can be driven now, or why nothing can. */
  #device: Device | ZeusdError;
  /** What it was called by when it was last there. */
  #known: Pick<Target, "model" | "uuid" | "pci_address"> = {};

  constructor(kind: DeviceKind, id: number, device: Device | ZeusdError, parts: MemberParts) {
    this.kind = kind;
    this.id = id;
    this.name = `${kind.toUpperCase()} ${id}`;
    this.lane = new Lane({
      ...parts,
      name: this.name,
      back: (operation) => {
        parts.back(operation);
        void this.settle();
      },
    });
    const call: Call = (row, parameters) => this.#call(row, parameters);
    this.feed = new PowerFeed({ ...parts, name: this.name, sampler: parts.sampler(call) });
    this.#parts = parts;
    this.#readBacks = new ReadBacks({
      clock: parts.clock,
      isIdle: () => this.lane.isIdle,
      read: (row) => this.readUnasked(row),
    });
    const { lastKnown } = this;
    const perform = (task: Task): Promise<Values> => this.#perform(task);
    this.#accounting = { target: this, clock: parts.clock, lastKnown, readBacks: this.#readBacks, perform };
    this.#device = device;
    this.settings = parts.settings?.add(
      {
        id,
        name: this.name,
        key: () => gpuKey(this),
        call,
        known: (setting) => lastKnown.setting(setting)?.values,
        owes: () => void this.settle(),
      },
      (lease) => this.#leaseEnded(lease),
    );
    this.#restoration = this.settings && this.#createRestoration(this.settings);
    this.adopt(device);
  }

  /** The device, unless it is away. */
  get device(): Device | undefined {
    return this.#device instanceof ZeusdError ? undefined : this.#device;
  }

  get model(): string | undefined {
    return this.#known.model;
  }

  get uuid(): string | null | undefined {
    return this.#known.uuid;
  }

  get pci_address(): string | null | undefined {
    return this.#known.pci_address;
  }

  /** Takes the device that is there now, or the reason why there is none: then what waits in the lane is refused. */
  adopt(device: Device | ZeusdError): void {
    this.#device = device;
    this.lastKnown.forget();
    if (device instanceof ZeusdError) {
      this.lane.refuseWaiting(this.#awayError(device));
      return;
    }
    if ("uuid" in device) this.#known = { model: device.name, uuid: device.uuid, pci_address: device.pci_address };
    if (!this.settings) return;
    this.#parts.settings?.recall(this.settings, gpuKey(this));
    // It may have been reset, and then nothing is what it should be.
    this.settings.reclaim();
    void this.settle();
  }

  /** Why a command would not even be queued now. */
  refusal({ row }: Pick<Command, "row">): ZeusdError | undefined {
    const away = this.#away;
    if (away) return away;
    return row.by === "feed" ? undefined : this.lane.refusal();
  }

  run(
    { row, parameters }: Pick<Command, "row" | "parameters">,
    { caller, witness, lease, attempt }: Terms,
  ): Promise<Values> {
    const away = this.#away;
    if (away) {
      if (witness) this.#accounted({ row, parameters }, witness).abandoned(away);
      return Promise.reject(away);
    }
    if (row.by === "feed") return this.feed.next(caller);
    const task = { row, parameters, lease, attempt };
    return this.lane.run(
      witness
        ? this.#accounted(task, witness)
        : { name: row.name, lease, harmless: row.kind !== "write", call: () => this.#perform(task) },
      caller,
    );
  }

  /** Why a command cannot be done at all here: the vendor lacks it. */
  lacks({ row }: Command): ZeusdError | undefined {
    const device = this.#device;
    if (row.by === "feed" || device instanceof ZeusdError) return undefined;
    const called = row.by === "parts" ? partsOf(row).map((part) => part.row) : [row];
    const lacking = called.find((one) => typeof Reflect.get(device, one.call) !== "function");
    return lacking && this.#lackError(lacking);
  }

  /** Settles when everything that was asked for before has been done. Throws what keeps it from being done in time. */
  async reach(caller: Caller): Promise<void> {
    await this.lane.run({ name: "the wait for what was asked before", harmless: true, call: async () => ({}) }, caller);
  }

  /** Puts back what leases have changed. Settles with undefined, or with a sentence that says why something has to wait. */
  settle(): Promise<string | undefined> {
    return this.#restoration?.settle() ?? Promise.resolve(undefined);
  }

  /** Gives up on what is still to be read back. */
  stopReadingBack(reason: string): void {
    this.#readBacks.stop(reason);
  }

  /** Reads for the daemon itself. */
  readUnasked(row: Row): Promise<Values> {
    return new Promise((resolve, reject) => {
      const work = { name: row.name, harmless: true, call: () => this.#call(row, {}), abandoned: reject };
      this.lane.run(work).then(resolve, reject);
    });
  }

  #accounted(task: Task, witness: Witness): AccountedWork {
    return new AccountedWork(this.#accounting, task, witness);
  }

  #createRestoration(settings: GpuSettings): Restoration {
    const { clock, notRestored } = this.#parts;
    return new Restoration({
      settings,
      lane: this.lane,
      clock,
      away: () => this.#away,
      failed: (error) => notRestored(this.name, error),
    });
  }

  #leaseEnded(lease: Lease): void {
    this.lane.refuseOf(lease, leaseOver(lease));
    void this.settle();
  }

  /** In the lane: what a command asks for. */
  #perform({ row, parameters, lease, attempt }: Task): Promise<Values> {
    if (row.kind === "write" && this.settings) return this.settings.write(row, parameters, lease, attempt);
    return this.#call(row, parameters);
  }

  async #call(row: Row, parameters: Values): Promise<Values> {
    const device = this.#device;
    if (device instanceof ZeusdError) throw this.#awayError(device);
    const operation: unknown = Reflect.get(device, row.call);
    if (typeof operation !== "function") throw this.#lackError(row);
    try {
      // The table types a backend's functions, and the wire decoded the parameters by the same row.
      const values = (await (operation as (parameters: Values) => Promise<Values | undefined>)(parameters)) ?? {};
      if (device === this.#device) this.#learn(row, parameters, values);
      return values;
    } catch (error) {
      // A call of a device that was given up meanwhile says nothing of the one that is there now.
      if (device === this.#device) {
        if (!isRefusal(error)) this.lastKnown.doubt(row);
        this.#parts.failed(error);
      }
      throw error;
    }
  }

  #learn(row: Row, parameters: Values, values: Values): void {
    this.lastKnown.learn(row, parameters, values, this.#parts.clock.monotonicMs());
    if (row.tells?.value === "set") this.settings?.found(row.tells.setting, values);
  }

  #lackError({ name }: Row): ZeusdError {
    return new ZeusdError("not_supported", `${name} is not supported by ${this.name}`);
  }

  /** Why nothing can be driven now. */
  get #away(): ZeusdError | undefined {
    return this.#device instanceof ZeusdError ? this.#awayError(this.#device) : undefined;
  }

  #awayError(reason: ZeusdError): ZeusdError {
    return new ZeusdError("gpu_away", `${this.name} is away: ${reason.message}`, { cause: reason });
  }
}
