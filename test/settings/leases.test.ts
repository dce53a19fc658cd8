// Leases: who may have one, whose write is within which, and when it ends.
import { describe, expect, it } from "vitest";
import type { Claimant, Lease } from "../../src/contract/lease.ts";
import { longestTtlS } from "../../src/contract/lease.ts";

import { createFakeClock } from "../fake-clock.ts";
import { createFakeDaemon, type FakeDaemonParts } from "./fake-daemon.ts";
import { createFakeGpu, rowOf } from "./fake-gpu.ts";
import { createFakeProcesses, type FakeProcess } from "./fake-processes.ts";
import { createMemoryJournal } from "./memory-journal.ts";

const gpu0 = { key: "GPU-0", name: "GPU 0" };
const gpu1 = { key: "GPU-1", name: "GPU 1" };

function createSubject(options: Partial<FakeDaemonParts> = {}) {
  const clock = createFakeClock();
  const processes = createFakeProcesses();
  const journal = createMemoryJournal();
  const gpus = [createFakeGpu(), createFakeGpu()];
  const parts = { clock, processes, journal, gpus, ...options };
  const daemon = createFakeDaemon(parts);
  const { leases } = daemon.settings;
  const as = (process: FakeProcess): Claimant => processes.claimant(process);
  return {
    clock,
    processes,
    journal,
    daemon,
    leases,
    as,
    acquire: (
      process: FakeProcess,
      wish: { gpus?: readonly (typeof gpu0)[]; exclusive?: boolean; ttlS?: number; reason?: string } = {},
    ) => leases.acquire(as(process), { gpus: [gpu0], exclusive: false, ...wish }),
    /** A write of a client that knows nothing of leases, where every write belongs to its process. */
    async writeImplicitly(process: FakeProcess, id = 0) {
      const lease = leases.implicit(as(process));
      await daemon.member(id).write(rowOf("setPowerLimit"), { power_limit_mw: 200_000 + process.pid }, lease);
      return lease;
    },
    /** The daemon is killed, and another takes its place. */
    restart() {
      daemon.kill();
      return createFakeDaemon({ ...parts, journal: createMemoryJournal(journal.records) });
    },
    named: (name: string) => daemon.events.filter(({ event }) => event === name),
  };
}

/** A client over TCP. */
const overTcp = (sub?: string): Claimant => ({ sub });

function thrownBy(what: () => unknown): unknown {
  try {
    what();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe("a lease", () => {
  it("says who has it, for what and since when, with an id that is told to nobody else", () => {
    const { acquire, processes, clock, leases, named } = createSubject();
    const lease = acquire(processes.begin(50, { uid: 1234 }), {
      gpus: [gpu1, gpu0],
      exclusive: true,
      reason: "night run",
      ttlS: 60,
    });
    expect(lease).toEqual({
      number: 1,
      id: "00000000000000000000000000000001",
      implicit: false,
      exclusive: true,
      reason: "night run",
      sinceMs: clock.epochMs(),
      ttlS: 60,
      expiresMs: clock.epochMs() + 60_000,
      owner: { uid: 1234, program: "program-50", sub: undefined },
      holder: { pid: 50, started: expect.any(Number) },
      gpus: ["GPU-1", "GPU-0"],
    });
    const facts = {
      lease: 1,
      gpu_ids: [0, 1],
      exclusive: true,
      implicit: false,
      reason: "night run",
      since_ms: clock.epochMs(),
      expires_ms: clock.epochMs() + 60_000,
      holder: { uid: 1234, pid: 50, program: "program-50", sub: null },
    };
    expect(leases.factsOf(lease)).toEqual(facts);
    expect(named("lease_acquired")).toEqual([{ event: "lease_acquired", ...facts }]);
    expect(leases.isEmpty).toBe(false);
    expect(leases.last).toBe(1);
  });

  it("is in the journal before anybody is told of it, and there is none if that cannot be", () => {
    const { acquire, processes, journal, leases, daemon, named } = createSubject();
    const process = processes.begin(50);
    journal.fails = true;
    expect(thrownBy(() => acquire(process))).toMatchObject({ code: "journal_unavailable" });
    expect(leases.isEmpty).toBe(true);
    expect(processes.held).toBe(0);
    expect(named("lease_acquired")).toEqual([]);
    expect([...daemon.health.problems.keys()]).toEqual(["journal"]);
    journal.fails = false;
    const lease = acquire(process);
    expect(journal.records.at(-1)).toMatchObject({ record: "lease", lease: { number: lease.number, id: lease.id } });
  });

  it("ends when its holder does, and nobody watches that any longer", async () => {
    const { acquire, processes, clock, leases, journal, named } = createSubject();
    const process = processes.begin(50);
    const lease = acquire(process);
    expect(processes.held).toBe(1);
    processes.end(process);
    await clock.advance(0);
    expect(leases.all).toEqual([]);
    expect(leases.lives(lease)).toBe(false);
    expect(processes.held).toBe(0);
    expect(journal.records.at(-1)).toEqual({ record: "ended", lease: 1 });
    expect(named("lease_ended")).toMatchObject([
      { lease: 1, ended: "holder_ended", gpu_ids: [0], holder: { pid: 50 } },
    ]);
  });

  it("goes on when another of its user's processes ends, or one of the same lineage", async () => {
    const { acquire, processes, clock, leases } = createSubject();
    const parent = processes.begin(50);
    const holder = processes.begin(51, { parent });
    const child = processes.begin(52, { parent: holder });
    const lease = acquire(holder);
    for (const other of [parent, child, processes.begin(53)]) processes.end(other);
    await clock.advance(0);
    expect(leases.lives(lease)).toBe(true);
  });

  it("ends when its time is up, to the millisecond, and not before", async () => {
    const { acquire, processes, clock, leases, named } = createSubject();
    const lease = acquire(processes.begin(50), { ttlS: 3 });
    await clock.advance(2_999);
    expect(leases.lives(lease)).toBe(true);
    await clock.advance(1);
    expect(leases.lives(lease)).toBe(false);
    expect(named("lease_ended")).toMatchObject([{ ended: "expired" }]);
    expect(processes.held).toBe(0);
  });

  it("with a time to live ends with its holder all the same, and nothing is left to come", async () => {
    const { acquire, processes, clock, leases } = createSubject();
    const process = processes.begin(50);
    acquire(process, { ttlS: 3 });
    expect(clock.pending).toBe(1);
    processes.end(process);
    await clock.advance(0);
    expect(leases.all).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  it("that is released has ended once, whoever else would end it", async () => {
    const { acquire, processes, clock, leases, named, journal } = createSubject();
    const process = processes.begin(50);
    const lease = acquire(process, { ttlS: 3 });
    leases.end(lease, "released");
    leases.end(lease, "forced");
    processes.end(process);
    await clock.advance(5_000);
    expect(named("lease_ended")).toMatchObject([{ ended: "released" }]);
    expect(journal.records.filter((record) => JSON.stringify(record).includes('"ended"'))).toHaveLength(2);
    expect(clock.pending).toBe(0);
  });

  it("is found by its id and its number as long as it lives", () => {
    const { acquire, processes, leases } = createSubject();
    const first = acquire(processes.begin(50));
    const second = acquire(processes.begin(51));
    expect(leases.byId(second.id)).toBe(second);
    expect(leases.byNumber(1)).toBe(first);
    leases.end(first, "released");
    expect(thrownBy(() => leases.byId(first.id))).toMatchObject({ code: "no_such_lease" });
    expect(thrownBy(() => leases.byNumber(1))).toMatchObject({
      code: "no_such_lease",
      message: expect.stringContaining("1"),
    });
    expect(thrownBy(() => leases.byId(""))).toMatchObject({ code: "no_such_lease" });
    expect(leases.all).toEqual([second]);
  });
});

describe("a lease that is renewed", () => {
  it("lives as long again from then on, or as long as is asked for", async () => {
    const { acquire, processes, clock, leases, named, journal } = createSubject();
    const lease = acquire(processes.begin(50), { ttlS: 10 });
    await clock.advance(9_000);
    expect(leases.renew(lease)).toMatchObject({ ttlS: 10, expiresMs: clock.epochMs() + 10_000 });
    expect(journal.records.at(-1)).toMatchObject({ record: "lease", lease: { expiresMs: clock.epochMs() + 10_000 } });
    await clock.advance(9_999);
    expect(leases.lives(lease)).toBe(true);
    const longer = leases.renew(leases.byNumber(1), 20);
    expect(longer).toMatchObject({ ttlS: 20, expiresMs: clock.epochMs() + 20_000 });
    expect(leases.byId(lease.id)).toBe(longer);
    await clock.advance(19_999);
    expect(leases.lives(lease)).toBe(true);
    expect(clock.pending).toBe(1);
    await clock.advance(1);
    expect(leases.lives(lease)).toBe(false);
    expect(named("lease_renewed")).toHaveLength(2);
  });

  it("can get less time than it had", async () => {
    const { acquire, processes, clock, leases } = createSubject();
    const lease = acquire(processes.begin(50), { ttlS: 100 });
    leases.renew(lease, 1);
    await clock.advance(1_000);
    expect(leases.isEmpty).toBe(true);
  });

  it("has its new time though the journal cannot be written, which gets it as soon as it can", async () => {
    const { acquire, processes, clock, leases, journal, restart } = createSubject();
    const lease = acquire(processes.begin(50), { ttlS: 2 });
    journal.fails = true;
    leases.renew(lease, 50);
    await clock.advance(2_000);
    expect(leases.lives(lease)).toBe(true);
    journal.fails = false;
    await clock.advance(1_000);
    const next = restart().settings.leases;
    await clock.advance(46_999);
    expect(next.isEmpty).toBe(false);
    await clock.advance(1);
    expect(next.isEmpty).toBe(true);
  });

  it("of which only its holder was the end gets a time to live", async () => {
    const { acquire, processes, clock, leases } = createSubject();
    leases.renew(acquire(processes.begin(50)), 5);
    await clock.advance(5_000);
    expect(leases.isEmpty).toBe(true);
  });

  it("has to live, and to have a time", () => {
    const { acquire, processes, leases } = createSubject();
    const lease = acquire(processes.begin(50));
    expect(thrownBy(() => leases.renew(lease))).toMatchObject({ code: "bad_request" });
    leases.end(lease, "released");
    expect(thrownBy(() => leases.renew(lease, 5))).toMatchObject({ code: "no_such_lease" });
  });
});

describe("whoever cannot be watched", () => {
  it("has to give a time to live, and is told why", () => {
    const { leases, processes, as } = createSubject();
    const wish = { gpus: [gpu0], exclusive: false };
    const ended = processes.begin(50);
    processes.end(ended);
    const refusal = thrownBy(() => leases.acquire(as(ended), wish));
    expect(refusal).toMatchObject({
      code: "ttl_required",
      status: 400,
      message: expect.stringContaining("pid namespace"),
    });
    const remote = thrownBy(() => leases.acquire(overTcp("me"), wish));
    expect(remote).toMatchObject({ code: "ttl_required", message: expect.stringMatching(/^ttl_s is required.*TCP/) });
    expect(leases.isEmpty).toBe(true);
    const lease = leases.acquire(overTcp("me"), { ...wish, ttlS: longestTtlS });
    expect(lease).toMatchObject({ holder: undefined, owner: { uid: undefined, sub: "me" } });
  });

  it("as it runs in another pid namespace has no implicit lease, which the log says once", () => {
    const { leases, daemon } = createSubject();
    const hidden: Claimant = {
      peer: { uid: 1000, program: () => undefined, lineage: () => [], hold: () => expect.unreachable() },
    };
    for (let write = 0; write < 3; write += 1) expect(leases.implicit(hidden)).toBeUndefined();
    const warnings = daemon.log.lines.filter((line) => line.startsWith("warn"));
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/pid namespace.*not put back/);
    expect(leases.isEmpty).toBe(true);
  });

  it("as it has ended, or as there is no open file left, does not write where every write is within a lease", () => {
    const { leases, processes, as } = createSubject();
    const process = processes.begin(50);
    const { peer } = processes.claimant(process);
    const ended: Claimant = { peer: { ...peer, lineage: () => [], hold: () => undefined } };
    expect(thrownBy(() => leases.implicit(ended))).toMatchObject({ code: "forbidden" });
    const unwatched: Claimant = { peer: { ...peer, hold: () => undefined } };
    expect(thrownBy(() => leases.implicit(unwatched))).toMatchObject({ code: "too_many_connections" });
    expect(leases.isEmpty).toBe(true);
    expect(leases.implicit(as(process))?.number).toBe(1);
    // What it has got already it keeps.
    expect(leases.implicit(unwatched)?.number).toBe(1);
  });

  it("over TCP has no implicit lease, of which nothing needs to be said", () => {
    const { leases, daemon } = createSubject();
    expect(leases.implicit(overTcp())).toBeUndefined();
    expect(daemon.log.lines).toEqual([]);
  });
});

describe("the limits", () => {
  it("of one user are 64 leases, of which those that have ended do not count, and not another's", () => {
    const { acquire, processes, leases } = createSubject();
    const process = processes.begin(50, { uid: 1000 });
    const first = acquire(process);
    for (let count = 1; count < 64; count += 1) acquire(processes.begin(100 + count, { uid: 1000 }));
    const refusal = thrownBy(() => acquire(process));
    expect(refusal).toMatchObject({
      code: "too_many_leases",
      status: 429,
      retryAfterS: 5,
      message: expect.stringContaining("uid 1000 has 64"),
    });
    expect(processes.held).toBe(64);
    acquire(processes.begin(51, { uid: 1001 }));
    leases.acquire(overTcp("me"), { gpus: [gpu0], exclusive: false, ttlS: 5 });
    leases.end(first, "released");
    expect(acquire(process).number).toBe(67);
    expect(thrownBy(() => acquire(process))).toMatchObject({ code: "too_many_leases" });
  });

  it("over TCP are those of each subject", () => {
    const { leases } = createSubject();
    const acquire = (sub: string): Lease => leases.acquire(overTcp(sub), { gpus: [gpu0], exclusive: false, ttlS: 5 });
    for (let count = 0; count < 64; count += 1) acquire("me");
    expect(thrownBy(() => acquire("me"))).toMatchObject({ code: "too_many_leases" });
    acquire("you");
  });

  it("of one user are 256 implicit leases, beside those that were asked for", () => {
    const { leases, processes, as, acquire } = createSubject();
    const first = processes.begin(100);
    for (let count = 0; count < 256; count += 1)
      leases.implicit(as(count === 0 ? first : processes.begin(100 + count)));
    expect(leases.all).toHaveLength(256);
    expect(thrownBy(() => leases.implicit(as(processes.begin(50))))).toMatchObject({ code: "too_many_leases" });
    expect(processes.held).toBe(256);
    // One that has an implicit lease does not need another.
    expect(leases.implicit(as(first))?.number).toBe(1);
    expect(leases.implicit(as(processes.begin(51, { uid: 1001 })))).toBeDefined();
    acquire(processes.begin(52));
  });
});

describe("the limit of all users together", () => {
  it("is 1024 leases of either kind, which does not bind root", () => {
    const { leases, processes, as, acquire } = createSubject();
    for (let count = 0; count < 512; count += 1) {
      const process = processes.begin(1_000 + count, { uid: 1_000 + (count % 16) });
      acquire(process);
      leases.implicit(as(process));
    }
    const other = processes.begin(50, { uid: 3_000 });
    expect(thrownBy(() => acquire(other))).toMatchObject({ code: "too_many_leases", retryAfterS: 5 });
    expect(thrownBy(() => leases.implicit(as(other)))).toMatchObject({ code: "too_many_leases" });
    expect(processes.held).toBe(1024);
    acquire(processes.begin(51, { uid: 0 }));
  });
});

describe("an implicit lease", () => {
  it("is its process's one and only, begins with its first write, and says on which GPUs it has changed something", async () => {
    const { leases, processes, as, daemon, journal, writeImplicitly } = createSubject();
    const process = processes.begin(50);
    const lease = leases.implicit(as(process));
    expect(lease).toMatchObject({ implicit: true, exclusive: false, gpus: [], holder: { pid: 50 } });
    expect(leases.implicit(as(process))).toBe(lease);
    expect(journal.records.some((record) => JSON.stringify(record).includes('"lease":{'))).toBe(false);
    expect(lease && leases.gpusOf(lease)).toEqual([]);
    await writeImplicitly(process, 1);
    expect(lease && leases.gpusOf(lease)).toEqual(["GPU-1"]);
    expect(journal.records).toContainEqual({ record: "lease", lease: JSON.parse(JSON.stringify(lease)) });
    expect(daemon.events.filter(({ event }) => event === "lease_acquired")).toHaveLength(1);
    await writeImplicitly(process, 0);
    expect(daemon.events.filter(({ event }) => event === "lease_acquired")).toHaveLength(1);
  });

  it("is not its parent's, nor that of a lease which was asked for", () => {
    const { leases, processes, as, acquire } = createSubject();
    const parent = processes.begin(50);
    const child = processes.begin(51, { parent });
    const own = leases.implicit(as(parent));
    const asked = acquire(child);
    const other = leases.implicit(as(child));
    expect(other?.holder?.pid).toBe(51);
    expect([own?.number, asked.number, other?.number]).toEqual([1, 2, 3]);
    expect(leases.implicit(as(child))).toBe(other);
  });

  it("says when it ends on which GPUs it had changed something, also where nothing is remembered over restarts", async () => {
    for (const options of [{}, { journal: undefined }]) {
      const { processes, clock, named, writeImplicitly } = createSubject(options);
      const process = processes.begin(50);
      await writeImplicitly(process, 1);
      processes.end(process);
      await clock.advance(0);
      expect(named("lease_acquired")).toMatchObject([{ lease: 1, implicit: true, gpu_ids: [1] }]);
      expect(named("lease_ended")).toMatchObject([{ lease: 1, ended: "holder_ended", implicit: true, gpu_ids: [1] }]);
    }
  });

  it("of which nothing has become ends without a word", async () => {
    const { leases, processes, as, clock, daemon, journal } = createSubject();
    const process = processes.begin(50);
    leases.implicit(as(process));
    const before = journal.records.length;
    processes.end(process);
    await clock.advance(0);
    expect(leases.isEmpty).toBe(true);
    expect(daemon.events).toEqual([]);
    expect(daemon.log.lines).toEqual([]);
    expect(journal.records).toHaveLength(before);
  });

  it("is no lease of which a write is taken to be a part without being asked", () => {
    const { leases, processes, as } = createSubject();
    const parent = processes.begin(50);
    leases.implicit(as(parent));
    expect(leases.claim(as(parent), "GPU-0", "GPU 0")).toBeUndefined();
    expect(leases.claim(as(processes.begin(51, { parent })), "GPU-0", "GPU 0")).toBeUndefined();
  });
});

describe("a write is within", () => {
  it("the newest lease on its GPU of its process, else of the nearest that it descends from", () => {
    const { leases, processes, as, acquire } = createSubject();
    const grandparent = processes.begin(50);
    const parent = processes.begin(51, { parent: grandparent });
    const child = processes.begin(52, { parent });
    const claim = (process: FakeProcess, gpu = gpu0): Lease | undefined => leases.claim(as(process), gpu.key, gpu.name);
    expect(claim(child)).toBeUndefined();
    const far = acquire(grandparent, { gpus: [gpu0, gpu1] });
    expect(claim(child)).toBe(far);
    const near = acquire(parent);
    expect(claim(child)).toBe(near);
    expect(claim(child, gpu1)).toBe(far);
    expect(claim(grandparent)).toBe(far);
    const own = acquire(child);
    const newer = acquire(child);
    expect(claim(child)).toBe(newer);
    leases.end(newer, "released");
    expect(claim(child)).toBe(own);
    leases.end(own, "released");
    expect(claim(child)).toBe(near);
    // A sibling is neither.
    expect(claim(processes.begin(53, { parent: grandparent }))).toBe(far);
    expect(claim(processes.begin(54))).toBeUndefined();
  });

  it("the lease whose id it gives, from wherever it comes", () => {
    const { leases, processes, as, acquire } = createSubject();
    const process = processes.begin(50);
    const lease = acquire(process);
    acquire(process);
    expect(leases.claim(as(process), "GPU-0", "GPU 0", lease.id)).toBe(lease);
    expect(leases.claim(overTcp(), "GPU-0", "GPU 0", lease.id)).toBe(lease);
    expect(thrownBy(() => leases.claim(as(process), "GPU-1", "GPU 1", lease.id))).toMatchObject({
      code: "bad_request",
      message: expect.stringMatching(/Lease 1 does not cover GPU 1/),
    });
    leases.end(lease, "released");
    expect(thrownBy(() => leases.claim(as(process), "GPU-0", "GPU 0", lease.id))).toMatchObject({
      code: "no_such_lease",
    });
  });

  it("no lease of a process that had its number before", async () => {
    const { leases, processes, as, acquire, clock } = createSubject();
    const old = processes.begin(50);
    const lease = acquire(old, { exclusive: true });
    leases.implicit(as(old));
    // The daemon has not noticed yet that the old one has gone.
    old.lives = false;
    const reused = processes.begin(50);
    expect(thrownBy(() => leases.claim(as(reused), "GPU-0", "GPU 0"))).toMatchObject({ code: "held" });
    expect(leases.claim(as(reused), "GPU-1", "GPU 1")).toBeUndefined();
    expect(leases.implicit(as(reused))?.number).toBe(3);
    expect(leases.isOwnedBy({ ...lease, owner: {} }, as(reused))).toBe(false);
    processes.end(old);
    await clock.advance(0);
    expect(leases.all.map(({ number }) => number)).toEqual([3]);
    expect(leases.claim(as(reused), "GPU-0", "GPU 0")).toBeUndefined();
  });
});

describe("an exclusive lease", () => {
  it("keeps others' writes from its GPUs, and says whose it is, since when and why", () => {
    const { leases, processes, as, acquire, clock } = createSubject();
    acquire(processes.begin(50, { uid: 1234 }), { exclusive: true, reason: "night run" });
    const other = as(processes.begin(51));
    const since = new Date(clock.epochMs()).toISOString().replace(/\.\d+/, "");
    expect(thrownBy(() => leases.claim(other, "GPU-0", "GPU 0"))).toMatchObject({
      code: "held",
      status: 423,
      message: `GPU 0 is held by lease 1 of uid 1234 (program-50, pid 50) since ${since} (reason: "night run"); nothing may be written until it ends`,
    });
    expect(thrownBy(() => leases.claim(overTcp("me"), "GPU-0", "GPU 0"))).toMatchObject({ code: "held" });
    expect(leases.claim(other, "GPU-1", "GPU 1")).toBeUndefined();
  });

  it("lets its holder write and what descends from it, whoever has its id, and root", () => {
    const { leases, processes, as, acquire } = createSubject();
    const holder = processes.begin(50);
    const lease = acquire(holder, { exclusive: true });
    const child = processes.begin(51, { parent: holder });
    expect(leases.claim(as(holder), "GPU-0", "GPU 0")).toBe(lease);
    expect(leases.claim(as(child), "GPU-0", "GPU 0")).toBe(lease);
    expect(leases.claim(overTcp(), "GPU-0", "GPU 0", lease.id)).toBe(lease);
    expect(leases.claim(as(processes.begin(52, { uid: 0 })), "GPU-0", "GPU 0")).toBeUndefined();
    // One of its own within it does not shut it out.
    const own = acquire(child);
    expect(leases.claim(as(child), "GPU-0", "GPU 0")).toBe(own);
  });

  it("keeps out whoever writes within a lease that is shared", () => {
    const { leases, processes, as, acquire } = createSubject();
    const shared = acquire(processes.begin(50));
    // Root takes what it wants.
    acquire(processes.begin(51, { uid: 0 }), { exclusive: true });
    const holder = processes.begin(52);
    expect(thrownBy(() => leases.claim(as(holder), "GPU-0", "GPU 0", shared.id))).toMatchObject({ code: "held" });
  });

  it("cannot be had while another has a lease on one of its GPUs, and no other while it lives", () => {
    const { processes, acquire, leases } = createSubject();
    const one = processes.begin(50);
    const other = processes.begin(51);
    const shared = acquire(one, { gpus: [gpu1] });
    expect(thrownBy(() => acquire(other, { gpus: [gpu0, gpu1], exclusive: true }))).toMatchObject({
      code: "held",
      message: expect.stringMatching(/^GPU 1 is held by lease 1/),
    });
    acquire(other, { gpus: [gpu1] });
    const exclusive = acquire(other, { exclusive: true });
    expect(thrownBy(() => acquire(one))).toMatchObject({ code: "held" });
    expect(thrownBy(() => acquire(one, { exclusive: true }))).toMatchObject({ code: "held" });
    leases.end(exclusive, "released");
    acquire(one, { exclusive: true });
    expect(leases.lives(shared)).toBe(true);
  });

  it("can be had beside one's own leases and within those of the processes that one descends from", () => {
    const { processes, acquire } = createSubject();
    const parent = processes.begin(50);
    const child = processes.begin(51, { parent });
    acquire(parent);
    acquire(child);
    acquire(child, { exclusive: true });
    // The parent is not its child's descendant.
    expect(thrownBy(() => acquire(parent, { exclusive: true }))).toMatchObject({ code: "held" });
  });

  it("never binds root", () => {
    const { processes, acquire } = createSubject();
    acquire(processes.begin(50), { exclusive: true });
    const root = processes.begin(51, { uid: 0 });
    acquire(root);
    acquire(root, { exclusive: true });
  });

  it("cannot be had where another's implicit lease has changed something, and can where it has not", async () => {
    const { processes, acquire, writeImplicitly, leases, as } = createSubject();
    const one = processes.begin(50);
    const other = processes.begin(51);
    leases.implicit(as(one));
    acquire(other, { exclusive: true, gpus: [gpu0] });
    await writeImplicitly(one, 1);
    expect(thrownBy(() => acquire(other, { exclusive: true, gpus: [gpu1] }))).toMatchObject({ code: "held" });
    acquire(other, { gpus: [gpu1] });
    // Its own is in nobody's way.
    acquire(one, { gpus: [gpu1] });
  });
});

describe("a lease may be ended without its id", () => {
  it("by the same user, and not by who merely descends from its holder", () => {
    const { processes, acquire, leases, as } = createSubject();
    const holder = processes.begin(50, { uid: 1000 });
    const lease = acquire(holder);
    const owns = (process: FakeProcess): boolean => leases.isOwnedBy(lease, as(process));
    expect(owns(holder)).toBe(true);
    expect(owns(processes.begin(51, { uid: 1001, parent: holder }))).toBe(false);
    expect(owns(processes.begin(52, { uid: 1000 }))).toBe(true);
    expect(owns(processes.begin(53, { uid: 1001 }))).toBe(false);
    expect(leases.isOwnedBy(lease, overTcp())).toBe(false);
    expect(leases.isOwnedBy(lease, overTcp("me"))).toBe(false);
  });

  it("over TCP by the same subject, and not by one without", () => {
    const { leases, processes, as } = createSubject();
    const wish = { gpus: [gpu0], exclusive: false, ttlS: 5 };
    const mine = leases.acquire(overTcp("me"), wish);
    const anyones = leases.acquire(overTcp(), wish);
    expect(leases.isOwnedBy(mine, overTcp("me"))).toBe(true);
    expect(leases.isOwnedBy(mine, overTcp("you"))).toBe(false);
    expect(leases.isOwnedBy(anyones, overTcp())).toBe(false);
    expect(leases.isOwnedBy(anyones, overTcp("you"))).toBe(false);
    expect(leases.isOwnedBy(mine, as(processes.begin(50)))).toBe(false);
  });
});

describe("the next daemon", () => {
  it("takes on the leases whose holders live, as they were, and ends the others", async () => {
    const { processes, acquire, restart, clock, leases } = createSubject();
    const living = processes.begin(50);
    const dead = processes.begin(51);
    const kept = acquire(living, { exclusive: true, reason: "night run" });
    acquire(dead, { gpus: [gpu1] });
    const timed = leases.acquire(overTcp("me"), { gpus: [gpu1], exclusive: false, ttlS: 60 });
    dead.lives = false;
    const next = restart();
    const json = (lease: Lease): unknown => JSON.parse(JSON.stringify(lease));
    expect(next.settings.leases.all).toEqual([json(kept), json(timed)]);
    expect(next.log.lines.join("\n")).toMatch(/Lease 1 .* goes on/);
    expect(next.log.lines.join("\n")).toMatch(/Lease 2 .* has ended: holder ended/);
    expect(next.settings.leases.claim(processes.claimant(living), "GPU-0", "GPU 0")?.number).toBe(1);
    processes.end(living);
    await clock.advance(0);
    expect(next.settings.leases.all.map(({ number }) => number)).toEqual([3]);
    await clock.advance(60_000);
    expect(next.settings.leases.isEmpty).toBe(true);
    expect(processes.held).toBe(0);
  });

  it("ends what a process left whose number another has now", () => {
    const { processes, acquire, restart } = createSubject();
    const old = processes.begin(50);
    acquire(old, { exclusive: true });
    old.lives = false;
    const reused = processes.begin(50);
    const { leases } = restart().settings;
    expect(leases.all).toEqual([]);
    expect(leases.claim(processes.claimant(reused), "GPU-0", "GPU 0")).toBeUndefined();
  });

  it("lets what was left live until its time is up, and ends at once what is over", async () => {
    const { leases, restart, clock } = createSubject();
    const wish = { gpus: [gpu0], exclusive: false };
    leases.acquire(overTcp(), { ...wish, ttlS: 5 });
    leases.acquire(overTcp(), { ...wish, ttlS: 10 });
    const renewed = leases.renew(leases.acquire(overTcp(), { ...wish, ttlS: 5 }), 20);
    clock.skip(6_000);
    const daemon = restart();
    const next = daemon.settings.leases;
    expect(next.all.map(({ number }) => number)).toEqual([2, 3]);
    expect(daemon.log.lines.join("\n")).toMatch(/Lease 1 .* has ended: expired/);
    expect(daemon.log.lines.join("\n")).not.toMatch(/Lease 1 .* goes on/);
    await clock.advance(4_000);
    expect(next.all).toEqual([JSON.parse(JSON.stringify(renewed))]);
    await clock.advance(9_999);
    expect(next.isEmpty).toBe(false);
    await clock.advance(1);
    expect(next.isEmpty).toBe(true);
  });

  it("lets it live no longer than it was given, though the time of day was set back", async () => {
    const { leases, processes, clock, journal } = createSubject();
    leases.acquire(overTcp(), { gpus: [gpu0], exclusive: false, ttlS: 10 });
    const earlier = createFakeClock(clock.epochMs() - 3_600_000);
    const parts = { processes, gpus: [createFakeGpu()], journal: createMemoryJournal(journal.records) };
    const next = createFakeDaemon({ ...parts, clock: earlier }).settings.leases;
    await earlier.advance(9_999);
    expect(next.isEmpty).toBe(false);
    await earlier.advance(1);
    expect(next.isEmpty).toBe(true);
  });

  it("has an adopted lease in its journal: when it ends then, the one after knows", () => {
    const { processes, acquire, daemon, clock, journal } = createSubject();
    acquire(processes.begin(50));
    daemon.kill();
    const again = createMemoryJournal(journal.records);
    const parts = { clock, processes, gpus: [createFakeGpu(), createFakeGpu()] };
    const second = createFakeDaemon({ ...parts, journal: again });
    second.settings.leases.end(second.settings.leases.byNumber(1), "released");
    second.kill();
    const third = createFakeDaemon({ ...parts, journal: createMemoryJournal(again.records) });
    expect(third.settings.leases.isEmpty).toBe(true);
    expect(third.settings.leases.last).toBe(1);
  });

  it("gives no number away that was given away before, however often it begins", () => {
    const clock = createFakeClock();
    const processes = createFakeProcesses();
    let left: readonly unknown[] = [];
    for (let number = 1; number <= 5; number += 1) {
      const journal = createMemoryJournal(left);
      const daemon = createFakeDaemon({ clock, processes, gpus: [createFakeGpu()], journal });
      const { leases } = daemon.settings;
      const claimant = processes.claimant(processes.begin(50 + number));
      const lease = leases.acquire(claimant, { gpus: [gpu0], exclusive: false });
      expect(lease.number).toBe(number);
      leases.end(lease, "released");
      // Whether the daemon is stopped or killed.
      if (number % 2 === 0) daemon.settings.close();
      daemon.kill();
      left = journal.records;
    }
  });
});
