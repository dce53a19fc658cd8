// A world for the settings to live in: GPUs, processes and a daemon that is killed and begins again, held against what is
// expected of each setting.
import { expect } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import type { Values } from "../../src/contract/field.ts";
import type { Claimant, Lease } from "../../src/contract/lease.ts";
import { settings, type Row, type Setting } from "../../src/contract/operations.ts";
import { partsOf } from "../../src/settings/knobs.ts";
import { createFakeClock } from "../fake-clock.ts";
import { Expected, textOf } from "./expected.ts";
import { createFakeDaemon, type DriverWrite, type FakeDaemon } from "./fake-daemon.ts";
import { createFakeGpu, type FakeGpu } from "./fake-gpu.ts";
import { createFakeProcesses, type FakeProcess } from "./fake-processes.ts";
import { createMemoryJournal, type MemoryJournal } from "./memory-journal.ts";

/** What may be thrown at whoever writes or wants a lease. */
const sayings = new Set<string>([
  "held",
  "no_such_lease",
  "bad_request",
  "too_many_leases",
  "journal_unavailable",
  "invalid_argument",
  "driver_error",
  "forbidden",
  "too_many_connections",
]);

export const pids = [11, 12, 13, 14] as const;

export class World {
  readonly clock = createFakeClock();
  readonly processes = createFakeProcesses();
  readonly gpus: readonly FakeGpu[] = [createFakeGpu(), createFakeGpu()];
  journal: MemoryJournal = createMemoryJournal();
  daemon: FakeDaemon;
  readonly actors: FakeProcess[] = [];
  /** The ids of the leases that somebody has acquired. */
  readonly leases: Lease[] = [];
  readonly #expected: readonly ReadonlyMap<Setting, Expected>[];
  readonly #over = new Set<number>();
  /** The leases of which somebody was told, or within which something was written. */
  readonly #known = new Map<number, Lease>();
  /** Leases that somebody wanted to end, of which nobody may have been told how that went. */
  readonly #maybeOver = new Set<number>();
  /** What is in the driver of each GPU. */
  readonly #inDriver = new Map<number, DriverWrite>();
  /** Whether something that should be in the journal may not be there. */
  #isLossy = false;
  #trap: (() => void) | undefined;
  #rewrites = 0;
  /** What was not as it should be where nobody waits. */
  readonly #failures: unknown[] = [];

  constructor() {
    this.#expected = this.gpus.map(
      (gpu) => new Map(settings.map((name) => [name, new Expected(gpu.set.get(name) ?? {})])),
    );
    for (const [at, pid] of pids.entries()) {
      // The second and the third descend from the first; the last is another user's.
      const parent = at === 1 || at === 2 ? this.actors[0] : undefined;
      this.actors.push(this.processes.begin(pid, { uid: at === 3 ? 1001 : 1000, ...(parent && { parent }) }));
    }
    this.daemon = this.#start();
  }

  expected(gpu: number, setting: Setting): Expected {
    const one = this.#expected[gpu]?.get(setting);
    if (!one) throw new Error(`There is no ${setting} of GPU ${gpu}`);
    return one;
  }

  actor(at: number): FakeProcess {
    const actor = this.actors[at];
    if (!actor) throw new Error(`There is no actor ${at}`);
    return actor;
  }

  /** Lets everything happen that is promised, and holds what is there against what should be. */
  async settle(ms = 0): Promise<void> {
    await this.clock.advance(ms);
    await this.clock.advance(0);
    if (this.daemon.isDead) await this.#begin();
    for (const error of this.daemon.members.flatMap(({ failures }) => failures)) this.#isSaying(error);
    for (const failure of this.#failures) throw failure;
    if (this.journal.rewrites !== this.#rewrites) {
      this.#rewrites = this.journal.rewrites;
      this.#isLossy = this.journal.fails;
      for (const one of this.#all()) one.remembered = new Set(one.bases);
    }
    this.#look();
  }

  /** The daemon is killed now; what is in the driver takes effect or does not. */
  async crash(isDone: boolean): Promise<void> {
    this.daemon.kill();
    for (const gpu of this.gpus) gpu.abandon(isDone);
    await this.settle();
  }

  /** The daemon is killed at one of its next writes to the journal. */
  crashAtJournal(writes: number, when: "before" | "after"): void {
    this.journal.killAt(writes, when, () => this.daemon.kill());
  }

  /** The daemon is killed as soon as the driver has been called; what was to be done is done or not. */
  crashInDriver(isDone: boolean): void {
    this.#trap = () => {
      for (const gpu of this.gpus) gpu.outcomes.unshift(isDone ? "done" : "lost");
      this.daemon.kill();
    };
  }

  failJournal(fails: boolean): void {
    this.journal.fails = fails;
    if (fails) this.#isLossy = true;
  }

  acquire(
    who: Claimant,
    wish: { readonly gpus: readonly number[]; readonly exclusive: boolean; readonly ttlS?: number | undefined },
  ): void {
    const { leases } = this.daemon.settings;
    const gpus = wish.gpus.map((id) => ({ key: `GPU-${id}`, name: `GPU ${id}` }));
    const fails = this.journal.fails;
    const before = leases.all.length;
    this.#try(() => {
      const lease = leases.acquire(who, { ...wish, gpus });
      expect(fails, "a lease that is not in the journal").toBe(false);
      if (this.daemon.isDead) return;
      this.#isKnown(lease);
      this.leases.push(lease);
    });
    if (fails) expect(leases.all.length).toBe(before);
  }

  /** As a client would: within the lease that it has or names, or else within its implicit one where there are such. */
  write(
    who: Claimant,
    id: number,
    row: Row,
    value: Values,
    how: { readonly implicit: boolean; readonly leaseId?: string | undefined },
  ): void {
    const { leases } = this.daemon.settings;
    const member = this.daemon.member(id);
    this.#try(() => {
      const lease =
        leases.claim(who, member.key, `GPU ${id}`, how.leaseId) ?? (how.implicit ? leases.implicit(who) : undefined);
      if (!lease?.exclusive) this.#mayWrite(who, member.key);
      this.#send(id, row, value, lease);
    });
  }

  #send(id: number, row: Row, value: Values, lease: Lease | undefined): void {
    const { fails } = this.journal;
    const member = this.daemon.member(id);
    const settingsOf = partsOf(row).map(({ setting }) => setting);
    const isFirst = lease && !member.settings.has(lease.number) && member.lane.isIdle;
    const { writes = [] } = this.gpus[id] ?? {};
    const before = writes.length;
    member.write(row, value, lease).then(
      () => {
        if (isFirst && fails) this.#failures.push(new Error(`${settingsOf.join()} was written without the journal`));
      },
      (error: unknown) => {
        this.#attempt(() => {
          this.#isSaying(error);
          if (isFirst && fails)
            expect(writes.slice(before).filter(({ setting }) => settingsOf.includes(setting))).toEqual([]);
        });
      },
    );
  }

  release(at: number): void {
    const lease = this.leases[at % Math.max(1, this.leases.length)];
    if (!lease) return;
    this.#maybeOver.add(lease.number);
    this.daemon.settings.leases.end(lease, "released");
    if (!this.daemon.isDead) this.#over.add(lease.number);
  }

  renew(at: number, ttlS: number): void {
    const lease = this.leases[at % Math.max(1, this.leases.length)];
    if (lease)
      this.#try(() => this.daemon.settings.leases.renew(this.daemon.settings.leases.byNumber(lease.number), ttlS));
  }

  /** A process ends, and another of the same or another number takes its place. */
  end(at: number, isSame: boolean): void {
    const actor = this.actor(at);
    this.processes.end(actor);
    const pid = isSame ? actor.pid : actor.pid + 10;
    this.actors[at] = this.processes.begin(pid, { uid: actor.uid, ...(actor.parent && { parent: actor.parent }) });
  }

  /** Somebody else than the daemon sets something. */
  change(id: number, setting: Setting, value: Values): void {
    const gpu = this.gpus[id];
    const one = this.expected(id, setting);
    const before = textOf(gpu?.set.get(setting) ?? {});
    gpu?.set.set(setting, value);
    one.isDirty = true;
    const isOwed = this.daemon.member(id).settings.owed.has(setting) || this.#inDriver.get(id)?.setting === setting;
    // What lies below a lease is not what there is without one, unless the daemon takes it to be there already.
    if (!one.isHeld && !isOwed && !one.isUnsure) one.bases = new Set([textOf(value)]);
    else if (one.bases.has(before) || isOwed || one.isUnsure) one.bases.add(textOf(value));
    for (const text of one.bases) one.remembered.add(text);
  }

  /** Everyone goes, and everything works again: then everything is as it was before. */
  async finish(): Promise<void> {
    this.journal.fails = false;
    for (const gpu of this.gpus) {
      gpu.outcomes.length = 0;
      gpu.release();
    }
    for (const actor of this.actors) this.processes.end(actor);
    await this.settle();
    for (const gpu of this.gpus) gpu.release();
    await this.settle(86_400_000);
    await this.settle(2_000);
    const { daemon } = this;
    expect(daemon.settings.leases.all).toEqual([]);
    expect(this.processes.held).toBe(0);
    for (const [id, member] of daemon.members.entries()) {
      expect([member.lane.isIdle, [...member.settings.owed]]).toEqual([true, []]);
      for (const setting of settings) {
        const found = textOf(this.gpus[id]?.set.get(setting) ?? {});
        expect([...this.expected(id, setting).bases], `${setting} of GPU ${id} at the end`).toContain(found);
      }
    }
    // And whoever begins then has nothing to do.
    const written = this.gpus.map(({ writes }) => writes.length);
    daemon.settings.close();
    expect(this.journal.isClosed).toBe(true);
    daemon.kill();
    const next = this.#start();
    await this.clock.advance(0);
    expect(next.settings.missing).toEqual([]);
    expect(this.gpus.map(({ writes }) => writes.length)).toEqual(written);
  }

  #start(): FakeDaemon {
    this.journal = createMemoryJournal(this.journal.records);
    this.#rewrites = 0;
    const { gpus, processes, clock, journal } = this;
    return createFakeDaemon({
      gpus,
      processes,
      clock,
      journal,
      observer: {
        began: (write) => this.#began(write),
        returned: (write, error) => this.#returned(write, error),
        ended: ({ number }) => this.#ended(number),
      },
    });
  }

  /** After a crash. */
  async #begin(): Promise<void> {
    this.#trap = undefined;
    for (const gpu of this.gpus) gpu.abandon(true);
    this.#doubtWhatRan();
    const left = [...this.#known.values()].filter(({ number }) => !this.#over.has(number) && this.#livesOn(number));
    const { fails } = this.journal;
    this.daemon = this.#start();
    this.journal.fails = fails;
    const adopted = this.daemon.settings.leases.all;
    const numbers = new Set(adopted.map(({ number }) => number));
    for (const lease of adopted) {
      if (!this.#isLossy) expect(this.#over.has(lease.number), `lease ${lease.number} has come back`).toBe(false);
      this.#over.delete(lease.number);
      this.#isKnown(lease);
    }
    if (!this.#isLossy) for (const { number } of left) expect(numbers, `lease ${number} is lost`).toContain(number);
    for (const number of this.#known.keys()) if (!numbers.has(number)) this.#ended(number);
    if (this.#isLossy) {
      for (const one of this.#all()) {
        for (const text of one.remembered) one.bases.add(text);
        for (const number of numbers) one.writes.push({ lease: number, value: "" });
        one.isUnsure = one.isHeld;
      }
    }
    await this.clock.advance(0);
  }

  /** What was under way in a daemon that was killed may have had any effect. */
  #doubtWhatRan(): void {
    for (const [id, member] of this.daemon.members.entries()) {
      const { row, parameters = {}, lease } = member.lane.running ?? {};
      for (const { setting } of row ? partsOf(row) : []) {
        const one = this.expected(id, setting);
        one.isDirty = true;
        if (lease) one.writes.push({ lease: lease.number, value: "" });
        else one.bases.add(textOf(parameters));
        one.isUnsure = one.isHeld;
      }
    }
    this.#inDriver.clear();
  }

  /** Whether the next daemon has to go on with a lease. */
  #livesOn(number: number): boolean {
    const lease = this.#lease(number);
    if (!lease || this.#maybeOver.has(number)) return false;
    const { holder, expiresMs = Infinity } = lease;
    const isHolder = ({ pid, started, lives }: FakeProcess): boolean =>
      lives && pid === holder?.pid && started === holder.started;
    return expiresMs > this.clock.epochMs() && (!holder || this.actors.some(isHolder));
  }

  #began(write: DriverWrite): void {
    const { gpu, lease } = write;
    this.#inDriver.set(gpu, write);
    if (lease) {
      if (this.#over.has(lease.number)) this.#failures.push(new Error(`Lease ${lease.number} has ended and writes`));
      this.#isKnown(lease);
    }
    const trap = this.#trap;
    this.#trap = undefined;
    trap?.();
  }

  #returned(write: DriverWrite, error: unknown): void {
    const { gpu, setting, value, lease, restores } = write;
    this.#inDriver.delete(gpu);
    const one = this.expected(gpu, setting);
    const found = textOf(this.gpus[gpu]?.set.get(setting) ?? {});
    if (restores) return;
    if (error !== undefined) {
      const isRefused = error instanceof ZeusdError && error.code === "invalid_argument";
      if (!isRefused) one.isDirty = true;
      // It may have been done, or not.
      if (!isRefused && !lease) one.bases.add(found);
      for (const text of one.bases) one.remembered.add(text);
      // And the journal says that it has been, if it could not be told that it has not.
      if (!lease && this.#isLossy) one.remembered.add(textOf(value));
      return;
    }
    one.isDirty = false;
    const text = textOf(value);
    if (!lease) {
      one.bases = new Set([text]);
      if (this.#isLossy) one.remembered.add(text);
      else one.remembered = new Set([text]);
      one.writes = one.writes.filter((other) => other.lease !== undefined);
      one.writes.push({ lease: undefined, value: text });
    } else if (!this.#over.has(lease.number)) {
      one.writes = one.writes.filter((other) => other.lease !== lease.number);
      one.writes.push({ lease: lease.number, value: text });
    }
  }

  #ended(number: number): void {
    if (this.#known.has(number)) this.#over.add(number);
    for (const one of this.#all()) one.end(number);
  }

  /** What there is while nobody is at it is what the newest write that lives has set. */
  #look(): void {
    for (const [id, member] of this.daemon.members.entries()) {
      if (!member.lane.isIdle || member.settings.owes) continue;
      for (const setting of settings) {
        const { writes, bases, isDirty, isUnsure } = this.expected(id, setting);
        if (isDirty || isUnsure) continue;
        const found = textOf(this.gpus[id]?.set.get(setting) ?? {});
        const newest = writes.at(-1);
        const wanted = newest?.lease === undefined ? [...bases] : [newest.value];
        // To say so each time would take most of the time.
        if (!wanted.includes(found)) expect(wanted, `${setting} of GPU ${id}`).toContain(found);
      }
    }
  }

  /** Nobody else has the GPU for itself. */
  #mayWrite({ peer }: Claimant, key: string): void {
    const own = new Set(peer?.lineage().map(({ pid, started }) => `${pid} ${started}`));
    for (const { exclusive, gpus, holder, number } of this.leases) {
      if (!exclusive || this.#over.has(number) || this.#maybeOver.has(number) || !gpus.includes(key)) continue;
      if (!this.#lease(number)) continue;
      expect(holder && own.has(`${holder.pid} ${holder.started}`), `lease ${number} is exclusive`).toBe(true);
    }
  }

  #lease(number: number): Lease | undefined {
    return this.daemon.settings.leases.all.find((lease) => lease.number === number);
  }

  #isKnown(lease: Lease): void {
    const known = this.#known.get(lease.number);
    if (!known) this.#known.set(lease.number, lease);
    else if (known.id !== lease.id) this.#failures.push(new Error(`The number ${lease.number} was given away twice`));
  }

  *#all(): Iterable<Expected> {
    for (const knobs of this.#expected) yield* knobs.values();
  }

  #try(what: () => void): void {
    try {
      what();
    } catch (error) {
      this.#isSaying(error);
    }
  }

  #attempt(what: () => void): void {
    try {
      what();
    } catch (error) {
      this.#failures.push(error);
    }
  }

  #isSaying(error: unknown): void {
    if (!(error instanceof ZeusdError) || !sayings.has(error.code)) throw error;
  }
}
