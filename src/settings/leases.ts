// All leases: who has which, since when and for what, and when they end.
import type { Clock } from "../contract/clock.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Events, LeaseFacts } from "../contract/events.ts";
import {
  longestTtlS,
  type Claimant,
  type GpuKey,
  type HeldProcess,
  type Lease,
  type LeaseBook,
  type LeaseEnd,
  type ProcessId,
} from "../contract/lease.ts";
import type { Log } from "../contract/log.ts";
import type { Journal } from "./journal.ts";
import { Claims } from "./claims.ts";
import { LeaseTable, type LeaseEntry } from "./lease-table.ts";
import { endless, leaseOver, noDescriptor, orphaned } from "./lease-refusals.ts";
import { describeLease, factsOf } from "./lease-words.ts";

export interface LeasesParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly journal: Journal;
  readonly events: Events;
  /** 128 random bits in hex. */
  readonly newId: () => string;
  /** What a GPU is called by now; undefined if it has not been seen since the start. */
  readonly idOf: (gpu: GpuKey) => number | undefined;
  /** The GPUs on which a lease has changed something. */
  readonly changedBy: (lease: number) => readonly GpuKey[];
  /** A lease has ended: what it has changed is to be put back. */
  readonly ended: (lease: Lease) => void;
}

/** What is asked for. */
export interface LeaseWish {
  readonly gpus: readonly { readonly key: GpuKey; readonly name: string }[];
  readonly exclusive: boolean;
  readonly reason?: string | undefined;
  readonly ttlS?: number | undefined;
}

export class Leases implements LeaseBook {
  readonly #parts: LeasesParts;
  readonly #table = new LeaseTable();
  readonly #claims: Claims;
  #last = 0;
  #saidWithoutPid = false;

  constructor(parts: LeasesParts) {
    this.#parts = parts;
    this.#claims = new Claims(this.#table, { clock: parts.clock, gpusOf: (lease) => this.gpusOf(lease) });
  }

  get isEmpty(): boolean {
    return this.#table.isEmpty && !this.#claims.expectsLate;
  }

  get all(): readonly Lease[] {
    return [...this.#table.entries].map(({ lease }) => lease);
  }

  /** The highest number that was given away. */
  get last(): number {
    return this.#last;
  }

  lives({ number }: Pick<Lease, "number">): boolean {
    return this.#table.get(number) !== undefined;
  }

  /** Those that the journal has to know of. */
  *entered(): Iterable<Lease> {
    for (const { lease, isBegun } of this.#table.entries) if (isBegun) yield lease;
  }

  /** Takes on the leases that a daemon before has left, as far as their holders live and their time is not up; ends the others. */
  adopt(left: Iterable<Lease>, last: number, open: (process: ProcessId) => HeldProcess | undefined): void {
    const { clock, log } = this.#parts;
    this.#last = Math.max(this.#last, last);
    for (const lease of left) {
      const process = lease.holder && open(lease.holder);
      const entry = this.#add(lease, process);
      entry.isBegun = true;
      if (lease.holder && !process) this.#end(entry, "holder_ended");
      else if (lease.expiresMs !== undefined && lease.expiresMs <= clock.epochMs()) this.#end(entry, "expired");
      else log.info(`${describeLease(lease)} goes on`);
    }
  }

  /**
   * Throws `held` if another's lease is in the way, `ttl_required` without a time to live where nothing else would end it,
   * `too_many_leases` and `journal_unavailable`.
   */
  acquire(claimant: Claimant, { gpus, exclusive, reason, ttlS }: LeaseWish): Lease {
    for (const { key, name } of gpus) this.#claims.requireFree(claimant, key, name, exclusive);
    this.#claims.requireRoom(claimant, false);
    const process = claimant.peer?.hold();
    if (!process && ttlS === undefined) throw endless(claimant);
    const own = { implicit: false, exclusive, reason, gpus: gpus.map(({ key }) => key) };
    const lease = { ...this.#newLease(claimant, process, own), ...lifetime(ttlS, this.#parts.clock.epochMs()) };
    try {
      this.#parts.journal.append({ record: "lease", lease });
      this.#add(lease, process).isBegun = true;
    } catch (error) {
      process?.close();
      throw error;
    }
    this.#tell("lease_acquired", lease);
    return lease;
  }

  implicit(claimant: Claimant): Lease | undefined {
    const { peer } = claimant;
    const [own] = peer?.lineage() ?? [];
    const known = own && this.#table.newestOf(own, ({ implicit }) => implicit);
    if (known) return known;
    if (!peer || peer.pid === undefined) {
      if (peer) this.#sayWithoutPid();
      return undefined;
    }
    const process = own && peer.hold();
    if (!process) throw own ? noDescriptor() : orphaned();
    try {
      this.#claims.requireRoom(claimant, true);
    } catch (error) {
      process.close();
      throw error;
    }
    const lease = this.#newLease(claimant, process, { implicit: true, exclusive: false, gpus: [] });
    this.#add(lease, process);
    return lease;
  }

  claim(claimant: Claimant, gpu: GpuKey, gpuName: string, leaseId?: string): Lease | undefined {
    return this.#claims.claim(claimant, gpu, gpuName, leaseId);
  }

  /** The lease whose id this is. Throws `no_such_lease`. */
  byId(id: string): Lease {
    return this.#claims.byId(id);
  }

  /** The lease of this number. Throws `no_such_lease`. */
  byNumber(number: number | undefined): Lease {
    const entry = number === undefined ? undefined : this.#table.get(number);
    if (entry) return entry.lease;
    throw new ZeusdError("no_such_lease", `There is no lease ${number}, or it has ended`);
  }

  /**
   * Lets a lease live for `ttlS` more seconds, or for as many as before; one that only its holder has ended so far gets a time to live.
   * Throws `bad_request` without either.
   */
  renew(lease: Lease, ttlS = lease.ttlS): Lease {
    const entry = this.#table.get(lease.number);
    if (!entry) throw leaseOver(lease);
    if (ttlS === undefined) {
      throw new ZeusdError("bad_request", `Lease ${lease.number} ends with its holder and has no time to renew`);
    }
    const renewed = { ...lease, ...lifetime(ttlS, this.#parts.clock.epochMs()) };
    // To end it early after a crash is no harm, and to refuse it would be one.
    this.#parts.journal.note({ record: "lease", lease: renewed });
    entry.lease = renewed;
    this.#watchExpiry(entry);
    this.#tell("lease_renewed", renewed);
    return renewed;
  }

  end(lease: Lease, why: LeaseEnd): void {
    const entry = this.#table.get(lease.number);
    if (entry) this.#end(entry, why);
  }

  /** Has the journal know of a lease before it writes to a GPU for the first time. Throws `journal_unavailable`. */
  enter(lease: Lease, gpu: GpuKey): void {
    const entry = this.#table.get(lease.number);
    if (!entry || entry.isBegun) return;
    this.#parts.journal.append({ record: "lease", lease });
    entry.isBegun = true;
    this.#tell("lease_acquired", lease, factsOf({ ...lease, gpus: [gpu] }, this.#parts.idOf));
  }

  /** Whether a claimant may end a lease whose id it does not know: the same user. Who merely descends from its holder may not. */
  isOwnedBy({ owner }: Lease, { peer, sub }: Claimant): boolean {
    return peer ? peer.uid === owner.uid : sub !== undefined && sub === owner.sub;
  }

  #newLease(
    { peer, sub }: Claimant,
    process: HeldProcess | undefined,
    own: Pick<Lease, "implicit" | "exclusive" | "reason" | "gpus">,
  ): Lease {
    return {
      number: this.#last + 1,
      id: this.#parts.newId(),
      ...own,
      sinceMs: this.#parts.clock.epochMs(),
      owner: { uid: peer?.uid, program: peer?.program(), sub },
      holder: process && idOf(process),
    };
  }

  #add(lease: Lease, process: HeldProcess | undefined): LeaseEntry {
    const entry: LeaseEntry = { lease, process, isBegun: false, cancelExpiry: () => {} };
    this.#last = Math.max(this.#last, lease.number);
    this.#table.add(entry);
    process?.onEnd(() => this.#end(entry, "holder_ended"));
    this.#watchExpiry(entry);
    return entry;
  }

  #watchExpiry(entry: LeaseEntry): void {
    entry.cancelExpiry();
    const { expiresMs, ttlS } = entry.lease;
    if (expiresMs === undefined) return;
    const { clock } = this.#parts;
    // The time of day may have been set back since a daemon before wrote it down.
    const leftMs = Math.min(Math.max(0, expiresMs - clock.epochMs()), 1000 * (ttlS ?? longestTtlS));
    entry.cancelExpiry = clock.after(leftMs, () => this.#end(entry, "expired"));
  }

  #end(entry: LeaseEntry, why: LeaseEnd): void {
    const { lease, process, isBegun } = entry;
    // Afterwards nobody knows what it had changed.
    const facts = this.factsOf(lease);
    const hasChanged = this.#parts.changedBy(lease.number).length > 0;
    if (!this.#table.remove(entry)) return;
    entry.cancelExpiry();
    process?.close();
    if (why === "holder_ended") this.#claims.expectLate(lease);
    if (isBegun) {
      this.#parts.journal.note({ record: "ended", lease: lease.number });
      // Whoever only acquires and releases must not fill the log.
      const level = hasChanged ? "info" : "debug";
      this.#parts.log[level](`${describeLease(lease)} has ended: ${why.replaceAll("_", " ")}`);
    }
    this.#parts.ended(lease);
    if (isBegun) this.#parts.events.tell({ event: "lease_ended", ended: why, ...facts });
  }

  /** A lease as everyone may see it. */
  factsOf(lease: Lease): LeaseFacts {
    return factsOf({ ...lease, gpus: this.gpusOf(lease) }, this.#parts.idOf);
  }

  /** The GPUs that a lease covers; an implicit one those on which it has changed something. */
  gpusOf({ implicit, number, gpus }: Lease): readonly GpuKey[] {
    return implicit ? this.#parts.changedBy(number) : gpus;
  }

  #sayWithoutPid(): void {
    if (this.#saidWithoutPid) return;
    this.#saidWithoutPid = true;
    this.#parts.log.warn(
      "A process wrote whose end cannot be noticed, since it runs in another pid namespace: what it changes is not put back. " +
        "Such clients can acquire leases with a time to live. This is not said again",
    );
  }

  #tell(event: "lease_acquired" | "lease_renewed", lease: Lease, facts = this.factsOf(lease)): void {
    if (event === "lease_acquired") this.#parts.log.debug(`${describeLease(lease)} has begun`);
    this.#parts.events.tell({ event, ...facts });
  }
}

function lifetime(ttlS: number | undefined, nowMs: number): Pick<Lease, "ttlS" | "expiresMs"> {
  return ttlS === undefined ? {} : { ttlS, expiresMs: nowMs + 1000 * ttlS };
}

function idOf({ pid, started }: HeldProcess): ProcessId {
  return { pid, started };
}
