// The leases that live, by their numbers and by the processes that hold them.
import type { GpuKey, HeldProcess, Lease, ProcessId } from "../contract/lease.ts";

export interface LeaseEntry {
  /** Renewed, it is another record of the same number. */
  lease: Lease;
  readonly process: HeldProcess | undefined;
  /** Whether it was told of, to the journal first. */
  isBegun: boolean;
  cancelExpiry: () => void;
}

export class LeaseTable {
  readonly #entries = new Map<number, LeaseEntry>();
  readonly #byId = new Map<string, LeaseEntry>();
  readonly #byPid = new Map<number, LeaseEntry[]>();
  readonly #exclusive = new Set<LeaseEntry>();

  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  get size(): number {
    return this.#entries.size;
  }

  get entries(): Iterable<LeaseEntry> {
    return this.#entries.values();
  }

  get(number: number): LeaseEntry | undefined {
    return this.#entries.get(number);
  }

  byId(id: string): LeaseEntry | undefined {
    return this.#byId.get(id);
  }

  /** The exclusive ones, of which there are few: every write looks at them. */
  get exclusive(): Iterable<LeaseEntry> {
    return this.#exclusive;
  }

  add(entry: LeaseEntry): void {
    const { lease } = entry;
    this.#entries.set(lease.number, entry);
    this.#byId.set(lease.id, entry);
    if (lease.exclusive) this.#exclusive.add(entry);
    if (!entry.process) return;
    const others = this.#byPid.get(entry.process.pid);
    if (others) others.push(entry);
    else this.#byPid.set(entry.process.pid, [entry]);
  }

  /** False if it was not there any more. */
  remove(entry: LeaseEntry): boolean {
    const { lease, process } = entry;
    if (!this.#entries.delete(lease.number)) return false;
    this.#byId.delete(lease.id);
    this.#exclusive.delete(entry);
    if (!process) return true;
    const others = this.#byPid.get(process.pid)?.filter((other) => other !== entry) ?? [];
    if (others.length > 0) this.#byPid.set(process.pid, others);
    else this.#byPid.delete(process.pid);
    return true;
  }

  /** Whether a process of this number has asked for a lease on a GPU. */
  isHeldBy(pid: number, gpu: GpuKey): boolean {
    const entries = this.#byPid.get(pid) ?? [];
    return entries.some(({ lease }) => !lease.implicit && lease.gpus.includes(gpu));
  }

  /** The lease that a process got last, of those that are meant. */
  newestOf({ pid, started }: ProcessId, isMeant: (lease: Lease) => boolean): Lease | undefined {
    const entries = this.#byPid.get(pid);
    if (!entries) return undefined;
    let newest: Lease | undefined;
    for (const { process, lease } of entries) if (process?.started === started && isMeant(lease)) newest = lease;
    return newest;
  }
}
