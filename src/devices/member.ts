// A member of the fleet: a device with its two lanes, one for commands and one for its power, and whether it is there at all.
import type { Caller, Command, Witness } from "../contract/command.ts";
import type { Cpu } from "../contract/cpu.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Gpu } from "../contract/gpu.ts";
import type { DeviceKind, Row } from "../contract/operations.ts";
import type { Target } from "../contract/target.ts";
import { AccountedWork, type AccountParts } from "./account.ts";
import { Lane, type LaneParts } from "./lane.ts";
import { LastKnown } from "./last-known.ts";
import { PowerFeed, type Sampler } from "./power-feed.ts";
import { ReadBacks } from "./read-back.ts";

export interface MemberParts extends Omit<LaneParts, "name"> {
  readonly periodMs: number;
  /** Makes the source of power readings; `call` is this member's. */
  readonly sampler: (call: Call) => Sampler;
  /** Hears of every error of the device itself, be it a command's or its feed's. */
  readonly failed: (error: unknown) => void;
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
  readonly #parts: MemberParts;
  readonly #lastKnown = new LastKnown();
  readonly #readBacks: ReadBacks;
  readonly #accounting: AccountParts;
  /** What can be driven now, or why nothing can. */
  #device: Device | ZeusdError;
  /** What it was called by when it was last there. */
  #known: Pick<Target, "model" | "uuid" | "pci_address"> = {};

  constructor(kind: DeviceKind, id: number, device: Device | ZeusdError, parts: MemberParts) {
    this.kind = kind;
    this.id = id;
    this.name = `${kind.toUpperCase()} ${id}`;
    this.lane = new Lane({ ...parts, name: this.name });
    const call: Call = (row, parameters) => this.#call(row, parameters);
    this.feed = new PowerFeed({ ...parts, name: this.name, sampler: parts.sampler(call) });
    this.#parts = parts;
    this.#readBacks = new ReadBacks({
      clock: parts.clock,
      isIdle: () => this.lane.isIdle,
      read: (row) => this.#readUnasked(row),
    });
    const [lastKnown, readBacks] = [this.#lastKnown, this.#readBacks];
    this.#accounting = { target: this, clock: parts.clock, lastKnown, readBacks, call };
    this.#device = device;
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
    this.#lastKnown.forget();
    if (device instanceof ZeusdError) this.lane.refuseWaiting(this.#awayError(device));
    else if ("uuid" in device) {
      this.#known = { model: device.name, uuid: device.uuid, pci_address: device.pci_address };
    }
  }

  /** Why a command would not even be queued now. */
  refusal({ row }: Command): ZeusdError | undefined {
    if (this.#device instanceof ZeusdError) return this.#awayError(this.#device);
    return row.by === "feed" ? undefined : this.lane.refusal();
  }

  /** Without a caller nobody waits, and the command has no deadline. The witness hears how a write ends. */
  run({ row, parameters }: Command, caller?: Caller, witness?: Witness): Promise<Values> {
    if (this.#device instanceof ZeusdError) {
      const away = this.#awayError(this.#device);
      if (witness) this.#accounted(row, parameters, witness).abandoned(away);
      return Promise.reject(away);
    }
    if (row.by === "feed") return this.feed.next(caller);
    return this.lane.run(
      witness
        ? this.#accounted(row, parameters, witness)
        : { name: row.name, harmless: row.kind !== "write", call: () => this.#call(row, parameters) },
      caller,
    );
  }

  /** Why a command cannot be done at all here: the vendor lacks it. */
  lacks({ row }: Command): ZeusdError | undefined {
    const device = this.#device;
    if (row.by === "feed" || device instanceof ZeusdError) return undefined;
    return typeof Reflect.get(device, row.call) === "function" ? undefined : this.#lackError(row);
  }

  /** Gives up on what is still to be read back. */
  stopReadingBack(reason: string): void {
    this.#readBacks.stop(reason);
  }

  /** Reads for the daemon itself. */
  #readUnasked(row: Row): Promise<Values> {
    return new Promise((resolve, reject) => {
      const work = { name: row.name, harmless: true, call: () => this.#call(row, {}), abandoned: reject };
      this.lane.run(work).then(resolve, reject);
    });
  }

  #accounted(row: Row, parameters: Values, witness: Witness): AccountedWork {
    return new AccountedWork(this.#accounting, row, parameters, witness);
  }

  async #call(row: Row, parameters: Values): Promise<Values> {
    const device = this.#device;
    if (device instanceof ZeusdError) throw this.#awayError(device);
    const operation: unknown = Reflect.get(device, row.call);
    if (typeof operation !== "function") throw this.#lackError(row);
    try {
      // The table types a backend's functions, and the wire decoded the parameters by the same row.
      const values = (await (operation as (parameters: Values) => Promise<Values | undefined>)(parameters)) ?? {};
      if (device === this.#device && (row.settings ?? row.tells))
        this.#lastKnown.learn(row, parameters, values, this.#parts.clock.monotonicMs());
      return values;
    } catch (error) {
      // A call of a device that was given up meanwhile says nothing of the one that is there now.
      if (device === this.#device) {
        this.#lastKnown.doubt(row);
        this.#parts.failed(error);
      }
      throw error;
    }
  }

  #lackError({ name }: Row): ZeusdError {
    return new ZeusdError("not_supported", `${name} is not supported by ${this.name}`);
  }

  #awayError(reason: ZeusdError): ZeusdError {
    return new ZeusdError("gpu_away", `${this.name} is away: ${reason.message}`, { cause: reason });
  }
}
