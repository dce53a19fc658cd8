// The leases that live, by their numbers and by the processes that hold them.
import type { HeldProcess, Lease, ProcessId } from "../contract/lease.ts";

export interface LeaseEntry {
  /** Renewed, it is another record of the same number. */
  lease: Lease;
  readonly process: HeldProcess | undefined;
  /** Whether the journal knows of it. */
  isEntered: boolean;
  cancelExpiry: () => void;
}

export class LeaseTable {
  readonly #entries = new Map<number, LeaseEntry>();
  readonly #byPid = new Map<number, LeaseEntry[]>();

  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  get entries(): Iterable<LeaseEntry> {
    return this.#entries.values();
  }

  get(number: number): LeaseEntry | undefined {
    return this.#entries.get(number);
  }

  add(entry: LeaseEntry): void {
    this.#entries.set(entry.lease.number, entry);
    if (!entry.process) return;
    const others = this.#byPid.get(entry.process.pid);
    if (others) others.push(entry);
    else this.#byPid.set(entry.process.pid, [entry]);
  }

  /** False if it was not there any more. */
  remove(entry: LeaseEntry): boolean {
    const { lease, process } = entry;
    if (!this.#entries.delete(lease.number)) return false;
    if (!process) return true;
    const others = this.#byPid.get(process.pid)?.filter((other) => other !== entry) ?? [];
    if (others.length > 0) this.#byPid.set(process.pid, others);
    else this.#byPid.delete(process.pid);
    return true;
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
