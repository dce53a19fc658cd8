// Claims: what somebody may do with the leases that there are. Which one they write within, what is in their way, whether there is room.
import type { Clock } from "../contract/clock.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Claimant, GpuKey, Lease } from "../contract/lease.ts";
import { LateHolders } from "./late-holders.ts";
import type { LeaseTable } from "./lease-table.ts";
import { heldText } from "./lease-words.ts";

/** How many leases one user may have at a time: those asked for, and those that came with a write. */
const mostLeases = { asked: 64, implicit: 256 } as const;
/** How many there may be of all users together: each may have a descriptor. */
const mostOfAll = 1024;

export interface ClaimsParts {
  readonly clock: Clock;
  /** The GPUs that a lease covers, or has changed something on. */
  readonly gpusOf: (lease: Lease) => readonly GpuKey[];
}

export class Claims {
  readonly #table: LeaseTable;
  readonly #parts: ClaimsParts;
  readonly #late: LateHolders;

  constructor(table: LeaseTable, parts: ClaimsParts) {
    this.#table = table;
    this.#parts = parts;
    this.#late = new LateHolders(parts.clock);
  }

  /** See LeaseBook. */
  claim(claimant: Claimant, gpu: GpuKey, gpuName: string, leaseId?: string): Lease | undefined {
    const lease = leaseId === undefined ? this.#nearest(claimant, gpu) : this.byId(leaseId);
    if (lease && !lease.implicit && !lease.gpus.includes(gpu)) {
      throw new ZeusdError("bad_request", `Lease ${lease.number} does not cover ${gpuName}; acquire one that does`);
    }
    if (!lease && this.#isLate(claimant, gpu)) {
      throw new ZeusdError(
        "no_such_lease",
        "Your lease has ended with your process, and what it had still to write is dropped",
      );
    }
    if (claimant.peer?.uid === 0 || lease?.exclusive) return lease;
    for (const { lease: other } of this.#table.exclusive) {
      if (!other.gpus.includes(gpu) || isOwn(other, claimant)) continue;
      throw new ZeusdError("held", `${gpuName} is held by ${heldText(other)}; nothing may be written until it ends`);
    }
    return lease;
  }

  /**
   * Whether what a process that has ended had sent before would stand in the name of nobody, since its lease on the GPU has ended with it, or
   * is about to.
   */
  #isLate({ peer }: Claimant, gpu: GpuKey): boolean {
    if (peer?.pid === undefined || peer.lineage().length > 0) return false;
    return this.#late.had(peer.pid, gpu) || this.#table.isHeldBy(peer.pid, gpu);
  }

  /** The lease whose id this is. Throws `no_such_lease`. */
  byId(id: string): Lease {
    const entry = this.#table.byId(id);
    if (entry) return entry.lease;
    throw new ZeusdError("no_such_lease", "lease_id is that of no lease, or of one that has ended");
  }

  /** Throws `held`: leases are like locks for readers and writers, many may share a GPU, or one has it for itself. */
  requireFree(claimant: Claimant, gpu: GpuKey, name: string, exclusive: boolean): void {
    if (claimant.peer?.uid === 0) return;
    for (const { lease } of this.#table.entries) {
      if (!(exclusive || lease.exclusive) || isOwn(lease, claimant)) continue;
      if (this.#parts.gpusOf(lease).includes(gpu))
        throw new ZeusdError("held", `${name} is held by ${heldText(lease)}; wait until that ends, or leave it out`);
    }
  }

  /** Throws `too_many_leases`. */
  requireRoom({ peer, sub }: Claimant, implicit: boolean): void {
    if (this.#table.size >= mostOfAll && peer?.uid !== 0) {
      throw new ZeusdError("too_many_leases", `There are ${mostOfAll} leases already; try again later`, {
        retryAfterS: 5,
      });
    }
    const most = implicit ? mostLeases.implicit : mostLeases.asked;
    let count = 0;
    for (const { lease } of this.#table.entries) {
      const { owner } = lease;
      if (lease.implicit === implicit && owner.uid === peer?.uid && (peer || owner.sub === sub)) count += 1;
    }
    if (count < most) return;
    const whose = peer ? `uid ${peer.uid}` : "this client";
    throw new ZeusdError("too_many_leases", `${whose} has ${most} leases already; release some`, { retryAfterS: 5 });
  }

  /** Whether more may arrive of what processes had sent whose leases have ended with them. */
  get expectsLate(): boolean {
    return !this.#late.isEmpty;
  }

  /** A lease has ended with its process. */
  expectLate({ holder, implicit, gpus }: Lease): void {
    if (holder && !implicit) this.#late.add(holder.pid, gpus);
  }

  #nearest({ peer }: Claimant, gpu: GpuKey): Lease | undefined {
    if (!peer) return undefined;
    for (const process of peer.lineage()) {
      const newest = this.#table.newestOf(process, ({ implicit, gpus }) => !implicit && gpus.includes(gpu));
      if (newest) return newest;
    }
    return undefined;
  }
}

/** Whether a claimant's process is the holder of a lease, or descends from it. */
function isOwn({ holder }: Lease, { peer }: Claimant): boolean {
  if (!holder || !peer) return false;
  return peer.lineage().some(({ pid, started }) => pid === holder.pid && started === holder.started);
}
