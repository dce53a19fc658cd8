// The fleet: all devices, each with its lane and its power feed. Fans a command out and gathers the outcomes.
import type { Clock } from "../contract/clock.ts";
import type { Command, Results, Sample } from "../contract/command.ts";
import type { Cpu } from "../contract/cpu.ts";
import { CommandFailed, ZeusdError } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { AwayGpu, Gpu } from "../contract/gpu.ts";
import type { Log } from "../contract/log.ts";
import { gpuOperations, type DeviceKind, type Operation, type Row } from "../contract/operations.ts";
import { FailureLog } from "./failure-log.ts";
import { Lane } from "./lane.ts";
import { PowerFeed, type Sampler } from "./power-feed.ts";
import { createPowerMeter } from "./power-meter.ts";
import { select, type Named } from "./selection.ts";

export interface FleetParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly gpuPollHz: number;
  readonly cpuPollHz: number;
}

/** A device that can be driven: its backend's record, the lane for its calls, the feed of its power. */
interface Member<Device extends Gpu | Cpu = Gpu | Cpu> extends Named {
  readonly device: Device;
  readonly lane: Lane;
  readonly feed: PowerFeed;
}

interface Missing extends Named {
  readonly away: ZeusdError;
}

export class Fleet {
  readonly #parts: FleetParts;
  readonly #known = {
    gpu: new Map<number, Member<Gpu> | Missing>(),
    cpu: new Map<number, Member<Cpu> | Missing>(),
  } as const satisfies Record<DeviceKind, unknown>;
  /** Of what is known, that which can be driven, by ascending id. */
  readonly #present: { gpu: readonly Member<Gpu>[]; cpu: readonly Member<Cpu>[] } = { gpu: [], cpu: [] };

  readonly #failures: FailureLog;

  constructor(parts: FleetParts) {
    this.#parts = parts;
    this.#failures = new FailureLog(parts.clock, parts.log);
  }

  /** Takes in what a backend's probe found; what is already driven stays as it is. */
  adoptGpus(found: readonly (Gpu | AwayGpu)[]): void {
    for (const gpu of found) {
      const known = this.#known.gpu.get(gpu.id);
      if (known && !("away" in known)) continue;
      this.#known.gpu.set(gpu.id, "away" in gpu ? gpu : this.#gpuMember(gpu));
    }
    this.#present.gpu = present(this.#known.gpu);
  }

  adoptCpus(cpus: readonly Cpu[]): void {
    for (const cpu of cpus) this.#known.cpu.set(cpu.id, this.#cpuMember(cpu));
    this.#present.cpu = present(this.#known.cpu);
  }

  /** The GPUs that can be driven now, by ascending id. */
  get gpus(): readonly Gpu[] {
    return this.#present.gpu.map(({ device }) => device);
  }

  get cpus(): readonly Cpu[] {
    return this.#present.cpu.map(({ device }) => device);
  }

  /**
   * Runs a command on each of its devices. With `block`, throws CommandFailed if one of them fails; without, returns as
   * soon as all are queued, and what fails later goes to the log.
   */
  async run(command: Command): Promise<Results> {
    const { name, device: kind } = command.row;
    const what = ({ id }: Named): string => `${name} on ${kind.toUpperCase()} ${id} failed`;
    if (!command.block) {
      for (const device of this.#members(command)) {
        start(device, command).catch((error) => this.#failures.tell(`${what(device)} after its reply`, error));
      }
      return new Map();
    }
    return gather(this.#select(command), (device) =>
      start(device, command).catch((error: unknown) => {
        if (isSick(error)) this.#failures.tell(what(device), error);
        throw error;
      }),
    );
  }

  /** Throws if one of a command's devices does not exist or is away. */
  check(command: Command): void {
    this.#members(command);
  }

  /** Follows the power of a command's devices; the result ends it. */
  follow(command: Command, changed: (id: number, sample: Sample) => void): () => void {
    const ends = this.#members(command).map(({ id, feed }) => feed.subscribe((sample) => changed(id, sample)));
    return () => {
      for (const end of ends) end();
    };
  }

  /** Settles when no command runs or waits on any device. */
  async idle(): Promise<void> {
    await Promise.all([...this.#present.gpu, ...this.#present.cpu].map(({ lane }) => lane.idle()));
  }

  #select(command: Command): readonly (Member | Missing)[] {
    const { device } = command.row;
    return select<Member | Missing>(command, this.#known[device], this.#present[device]);
  }

  /** The command's devices, all of them there to be driven. */
  #members(command: Command): readonly Member[] {
    return this.#select(command).map((device) => {
      if ("away" in device) throw away(device);
      return device;
    });
  }

  #gpuMember(gpu: Gpu): Member<Gpu> {
    const sample = gpu.getPower?.bind(gpu, {}) ?? (() => Promise.reject(unsupported(gpuOperations.getPower, gpu.id)));
    const sampler = { sample };
    const feed = this.#feed(`GPU ${gpu.id}`, sampler, this.#parts.gpuPollHz);
    return { id: gpu.id, uuid: gpu.uuid, pci_address: gpu.pci_address, device: gpu, lane: new Lane(), feed };
  }

  #cpuMember(cpu: Cpu): Member<Cpu> {
    const sampler = createPowerMeter(cpu, () => this.#parts.clock.monotonicMs());
    const feed = this.#feed(`CPU ${cpu.id}`, sampler, this.#parts.cpuPollHz);
    return { id: cpu.id, device: cpu, lane: new Lane(), feed };
  }

  #feed(name: string, sampler: Sampler, hz: number): PowerFeed {
    const { clock, log } = this.#parts;
    return new PowerFeed({ name, sampler, periodMs: 1000 / hz, clock, log });
  }
}

function present<Device extends Gpu | Cpu>(
  known: ReadonlyMap<number, Member<Device> | Missing>,
): readonly Member<Device>[] {
  return [...known.values()]
    .filter((device): device is Member<Device> => !("away" in device))
    .toSorted((one, other) => one.id - other.id);
}

function start(device: Member | Missing, { row, parameters }: Command): Promise<Values> {
  if ("away" in device) return Promise.reject(away(device));
  if (row.by === "feed") return device.feed.next();
  return device.lane.run(() => call(device.device, row, parameters));
}

/** Calls the backend's function for a row. One that the vendor lacks is absent from the record. */
async function call(device: Gpu | Cpu, row: Row, parameters: Values): Promise<Values> {
  const operation: unknown = Reflect.get(device, row.call);
  if (typeof operation !== "function") throw unsupported(row, device.id);
  // The table types a backend's functions, and the wire decoded the parameters by the same row.
  return (await (operation as (parameters: Values) => Promise<Values | undefined>)(parameters)) ?? {};
}

/** Whether an error says something of the device, which an operator should hear of, and not of what was asked. */
function isSick(error: unknown): boolean {
  return error instanceof ZeusdError && (error.code === "driver_error" || error.code === "io_error");
}

function unsupported({ name, device }: Operation, id: number): ZeusdError {
  return new ZeusdError("not_supported", `${name} is not supported by ${device.toUpperCase()} ${id}`);
}

async function gather<D extends Named>(devices: readonly D[], work: (device: D) => Promise<Values>): Promise<Results> {
  const outcomes = await Promise.allSettled(devices.map(work));
  const results = new Map<number, Values>();
  const errors = new Map<number, ZeusdError>();
  outcomes.forEach((outcome, index) => {
    const id = devices[index]?.id ?? index;
    if (outcome.status === "fulfilled") results.set(id, outcome.value);
    else if (outcome.reason instanceof ZeusdError) errors.set(id, outcome.reason);
    else throw outcome.reason;
  });
  if (errors.size > 0) throw new CommandFailed(errors, results);
  return results;
}

function away({ id, away: reason }: Missing): ZeusdError {
  return new ZeusdError("gpu_away", `GPU ${id} is away: ${reason.message}`, { cause: reason });
}
