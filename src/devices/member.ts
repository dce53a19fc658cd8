// A member of the fleet: a device with its two lanes, one for commands and one for its power, and whether it is there at all.
import type { Caller, Command } from "../contract/command.ts";
import type { Cpu } from "../contract/cpu.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Gpu } from "../contract/gpu.ts";
import type { DeviceKind, Row } from "../contract/operations.ts";
import { Lane, type LaneParts } from "./lane.ts";
import { PowerFeed, type Sampler } from "./power-feed.ts";
import type { Named } from "./selection.ts";

export interface MemberParts extends Omit<LaneParts, "name"> {
  readonly periodMs: number;
  /** Makes the source of power readings; `call` is this member's. */
  readonly sampler: (call: Call) => Sampler;
  /** Hears of every error of the device itself, be it a command's or its feed's. */
  readonly failed: (error: unknown) => void;
}

/** Calls the device's function for a row of the table. */
type Call = (row: Row, parameters: Values) => Promise<Values>;

export class Member<Device extends Gpu | Cpu = Gpu | Cpu> implements Named {
  readonly id: number;
  /** For example `GPU 0`. */
  readonly name: string;
  readonly lane: Lane;
  readonly feed: PowerFeed;
  readonly #failed: MemberParts["failed"];
  /** What can be driven now, or why nothing can. */
  #device: Device | ZeusdError;
  /** What it was called by when it was last there. */
  #known: Pick<Named, "uuid" | "pci_address"> = {};

  constructor(kind: DeviceKind, id: number, device: Device | ZeusdError, parts: MemberParts) {
    this.id = id;
    this.name = `${kind.toUpperCase()} ${id}`;
    this.lane = new Lane({ ...parts, name: this.name });
    const call: Call = (row, parameters) => this.#call(row, parameters);
    this.feed = new PowerFeed({ ...parts, name: this.name, sampler: parts.sampler(call) });
    this.#failed = parts.failed;
    this.#device = device;
    this.adopt(device);
  }

  /** The device, unless it is away. */
  get device(): Device | undefined {
    return this.#device instanceof ZeusdError ? undefined : this.#device;
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
    if (device instanceof ZeusdError) this.lane.refuseWaiting(this.#awayError(device));
    else if ("uuid" in device) this.#known = { uuid: device.uuid, pci_address: device.pci_address };
  }

  /** Why a command would not even be queued now. */
  refusal({ row }: Command): ZeusdError | undefined {
    if (this.#device instanceof ZeusdError) return this.#awayError(this.#device);
    return row.by === "feed" ? undefined : this.lane.refusal();
  }

  /** Without a caller nobody waits, and the command has no deadline. */
  run({ row, parameters }: Command, caller?: Caller): Promise<Values> {
    if (this.#device instanceof ZeusdError) return Promise.reject(this.#awayError(this.#device));
    if (row.by === "feed") return this.feed.next(caller);
    const work = { name: row.name, harmless: row.kind !== "write", call: () => this.#call(row, parameters) };
    return this.lane.run(work, caller);
  }

  async #call(row: Row, parameters: Values): Promise<Values> {
    const device = this.#device;
    if (device instanceof ZeusdError) throw this.#awayError(device);
    const operation: unknown = Reflect.get(device, row.call);
    if (typeof operation !== "function")
      throw new ZeusdError("not_supported", `${row.name} is not supported by ${this.name}`);
    try {
      // The table types a backend's functions, and the wire decoded the parameters by the same row.
      return (await (operation as (parameters: Values) => Promise<Values | undefined>)(parameters)) ?? {};
    } catch (error) {
      // A call of a device that was given up meanwhile says nothing of the one that is there now.
      if (device === this.#device) this.#failed(error);
      throw error;
    }
  }

  #awayError(reason: ZeusdError): ZeusdError {
    return new ZeusdError("gpu_away", `${this.name} is away: ${reason.message}`, { cause: reason });
  }
}
