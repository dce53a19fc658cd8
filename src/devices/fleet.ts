// The fleet: all devices. Fans a command out, gathers the outcomes, and knows who is away.
import type { Command, Results, Sample } from "../contract/command.ts";
import type { Cpu } from "../contract/cpu.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { AwayGpu, Gpu } from "../contract/gpu.ts";
import { gpuKey, type Lease, type LeaseEnd } from "../contract/lease.ts";
import type { Log } from "../contract/log.ts";
import type { DeviceKind } from "../contract/operations.ts";
import { FailureLog, isNews } from "./failure-log.ts";
import { gather } from "./gather.ts";
import type { Attempt } from "../settings/attempt.ts";
import { runWhole, type AttemptedWork, type Failed } from "./all-or-nothing.ts";
import { createEquipment, type Equipment, type EquipmentParts } from "./equipment.ts";
import type { Member, Terms } from "./member.ts";
import { select } from "./selection.ts";

export interface FleetParts extends EquipmentParts {
  readonly log: Log;
  /** A GPU that was driven has gone: it should be looked for. */
  readonly lost: () => void;
  /** Nothing but a new process can drive the devices again. */
  readonly fatal: (error: ZeusdError) => void;
}

/** What a command is run with, on all of its devices. */
export interface RunTerms extends Pick<Terms, "caller" | "witness"> {
  /** The lease within which it is written, by device. */
  readonly leases?: ReadonlyMap<number, Lease> | undefined;
}

export class Fleet {
  readonly #parts: FleetParts;
  readonly #members = {
    gpu: new Map<number, Member<Gpu>>(),
    cpu: new Map<number, Member<Cpu>>(),
  } as const satisfies Record<DeviceKind, unknown>;
  /** Of the members, those that can be driven, by ascending id. */
  readonly #present: { gpu: readonly Member<Gpu>[]; cpu: readonly Member<Cpu>[] } = { gpu: [], cpu: [] };
  /** GPUs that were driven and have gone since, as they were. */
  readonly #lost = new Map<number, Gpu>();
  readonly #failures: FailureLog;
  readonly #equip: Equipment;

  constructor(parts: FleetParts) {
    this.#parts = parts;
    this.#failures = new FailureLog(parts.clock, parts.log);
    this.#equip = createEquipment(parts, this.#failures);
  }

  /** Takes in what a backend's probe found; what is driven already stays as it is. */
  adoptGpus(found: readonly (Gpu | AwayGpu)[]): void {
    for (const gpu of found) {
      const { id } = gpu;
      // A GPU may be lost while a probe that found it well is under way.
      if (this.#lost.get(id) === gpu) continue;
      const device = "away" in gpu ? gpu.away : gpu;
      const member = this.#members.gpu.get(id);
      if (!member)
        this.#members.gpu.set(
          id,
          this.#equip.gpu(id, device, (error) => this.#gpuFailed(id, error)),
        );
      else if (member.device !== device) member.adopt(device);
      if (!(device instanceof ZeusdError) && this.#lost.delete(id)) this.#isBack(id);
    }
    this.#present.gpu = present(this.#members.gpu);
  }

  adoptCpus(cpus: readonly Cpu[]): void {
    for (const cpu of cpus) this.#members.cpu.set(cpu.id, this.#equip.cpu(cpu));
    this.#present.cpu = present(this.#members.cpu);
  }

  /** The GPUs that can be driven now, by ascending id. */
  get gpus(): readonly Gpu[] {
    return this.#present.gpu.flatMap(({ device }) => device ?? []);
  }

  get cpus(): readonly Cpu[] {
    return this.#present.cpu.flatMap(({ device }) => device ?? []);
  }

  get lostGpus(): ReadonlySet<number> {
    return new Set(this.#lost.keys());
  }

  /** How many driver calls can be in flight at once: each device has a lane for commands and one for its power. */
  get lanes(): number {
    return 2 * (this.#members.gpu.size + this.#members.cpu.size);
  }

  /** The devices that a command means, by ascending id. Throws UnknownDevice if one of them does not exist. */
  select(command: Command): readonly Member[] {
    const { device } = command.row;
    return select<Member>(command, this.#members[device], this.#present[device]);
  }

  /** The GPUs that it has ever seen, by ascending id. */
  get gpuMembers(): readonly Member<Gpu>[] {
    return [...this.#members.gpu.values()].toSorted((one, other) => one.id - other.id);
  }

  /**
   * Runs a command on its devices. With `block`, throws CommandFailed if one of them fails; without, returns as soon as all
   * are queued, and what fails later goes to the log. A device that takes no command now refuses it for all.
   */
  run(command: Command, members: readonly Member[], terms: RunTerms): Promise<Results> {
    const { caller, witness, leases } = terms;
    if (!command.block) return this.#runUnheeded(command, members, terms);
    const work = (member: Member, attempt?: Attempt): Promise<Values> =>
      member.run(command, { caller, witness, lease: leases?.get(member.id), attempt });
    const failed = (member: Member, error: unknown): void => {
      if (isNews(error)) this.#failures.tell(`${command.row.name} on ${member.name} failed`, error);
    };
    return command.atomic ? this.#runWhole(command, members, work, failed) : gather(members, work, failed);
  }

  /** What would be undone at once is not even begun. */
  async #runWhole(command: Command, members: readonly Member[], work: AttemptedWork, failed: Failed): Promise<Results> {
    this.requireWilling(command, members);
    return runWhole(members, work, failed);
  }

  async #runUnheeded(command: Command, members: readonly Member[], { witness, leases }: RunTerms): Promise<Results> {
    this.requireWilling(command, members);
    for (const member of members) {
      member
        .run(command, { witness, lease: leases?.get(member.id) })
        .catch((error) => this.#failures.tell(`${command.row.name} on ${member.name} failed after its reply`, error));
    }
    return new Map();
  }

  /** Ends a lease; settles when what it had changed is put back, with what became of each of its GPUs in words. */
  async end(lease: Lease, why: LeaseEnd): Promise<ReadonlyMap<number, string>> {
    const { settings } = this.#parts;
    const gpus = this.gpuMembers.filter((gpu) => lease.gpus.includes(gpuKey(gpu)) || gpu.settings?.has(lease.number));
    const changed = new Set(gpus.filter((gpu) => gpu.settings?.has(lease.number)));
    settings.leases.end(lease, why);
    const outcomes = gpus.map(async (gpu) => {
      const outcome = changed.has(gpu) ? ((await gpu.settle()) ?? "restored") : "unchanged";
      return [gpu.id, outcome] as const;
    });
    return new Map(await Promise.all(outcomes));
  }

  /** Throws if a command would be refused by one of its devices before the driver is called. */
  rehearse(command: Command, members: readonly Member[]): void {
    this.requireWilling(command, members);
    for (const member of members) {
      const lack = member.lacks(command);
      if (lack) throw lack;
    }
  }

  /** Throws if one of the devices refuses the command now. */
  requireWilling(command: Command, members: readonly Member[]): void {
    for (const member of members) {
      const refusal = member.refusal(command);
      if (!refusal) continue;
      if (isNews(refusal)) this.#failures.tell(`${command.row.name} on ${member.name} was refused`, refusal);
      throw refusal;
    }
  }

  /** Follows the power of devices; the result ends it. */
  follow(members: readonly Member[], changed: (id: number, sample: Sample) => void): () => void {
    const ends = members.map(({ id, feed }) => feed.subscribe((sample) => changed(id, sample)));
    return () => {
      for (const end of ends) end();
    };
  }

  /** Settles when no command runs or waits on any device. */
  async idle(): Promise<void> {
    await Promise.all(this.#all.map(({ lane }) => lane.idle()));
  }

  /** The commands that run now, for example `set_power_limit on GPU 0 (3.2 s)`. */
  running(): readonly string[] {
    return this.#all.flatMap(({ lane }) => lane.running() ?? []);
  }

  /** Answers everyone who waits with this error; nothing that waits begins any more. */
  refuseAll(error: ZeusdError): void {
    for (const { lane, feed } of this.#all) {
      lane.refuseAll(error);
      feed.refuseWaiting(error);
    }
  }

  /** Gives up on what is still to be read back, so that all witnesses have heard all. */
  stopReadingBack(): void {
    for (const member of this.#all) member.stopReadingBack("the daemon stopped before it was read");
  }

  get #all(): readonly Member[] {
    return [...this.#members.gpu.values(), ...this.#members.cpu.values()];
  }

  #isBack(id: number): void {
    this.#parts.log.warn(`GPU ${id} is there again`);
    this.#parts.events.tell({ event: "gpu_back", device: "gpu", id });
  }

  #gpuFailed(id: number, error: unknown): void {
    if (!(error instanceof ZeusdError)) return;
    if (error.code === "driver_mismatch") this.#parts.fatal(error);
    if (error.code !== "gpu_lost") return;
    const member = this.#members.gpu.get(id);
    if (member?.device) this.#lost.set(id, member.device);
    this.#parts.log.error(`GPU ${id} is lost: ${error.message}; looking for it`);
    this.#parts.events.tell({ event: "gpu_lost", device: "gpu", id, reason: error.message });
    member?.adopt(error);
    this.#present.gpu = present(this.#members.gpu);
    this.#parts.lost();
  }
}

function present<Device extends Gpu | Cpu>(members: ReadonlyMap<number, Member<Device>>): readonly Member<Device>[] {
  return [...members.values()].filter(({ device }) => device).toSorted((one, other) => one.id - other.id);
}
