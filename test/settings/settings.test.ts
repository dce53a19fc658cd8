// The settings of all GPUs: what a daemon knows of those that are not there, and of a journal that says strange things.
import { describe, expect, it } from "vitest";
import { Events } from "../../src/contract/events.ts";
import { Health } from "../../src/contract/health.ts";
import type { Lease } from "../../src/contract/lease.ts";
import { Settings } from "../../src/settings/settings.ts";
import { createFakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";
import { createFakeDaemon } from "./fake-daemon.ts";
import { createFakeGpu, rowOf } from "./fake-gpu.ts";
import { createFakeProcesses } from "./fake-processes.ts";
import { createMemoryJournal } from "./memory-journal.ts";

const setPower = rowOf("setPowerLimit");
const gpus = [
  { key: "GPU-0", name: "GPU 0" },
  { key: "GPU-1", name: "GPU 1" },
];

/** A daemon with two GPUs was killed while a lease had changed both. */
async function createSubject({ holderLives = false } = {}) {
  const clock = createFakeClock();
  const processes = createFakeProcesses();
  const journal = createMemoryJournal();
  const both = [createFakeGpu(), createFakeGpu()] as const;
  const first = createFakeDaemon({ clock, processes, journal, gpus: both });
  const holder = processes.begin(50);
  const lease = first.settings.leases.acquire(processes.claimant(holder), { gpus, exclusive: false });
  for (const member of first.members) await member.write(setPower, { power_limit_mw: 200_000 }, lease);
  first.kill();
  holder.lives = holderLives;
  const start = (shown: readonly ReturnType<typeof createFakeGpu>[], records: readonly unknown[] = journal.records) => {
    const next = createMemoryJournal(records);
    return { journal: next, daemon: createFakeDaemon({ clock, processes, journal: next, gpus: shown }) };
  };
  return { clock, both, lease, start, processes, holder };
}

describe("a GPU that is not there", () => {
  it("is remembered for as long as it is away, over any number of daemons, and put back when it comes", async () => {
    const { start, both, clock } = await createSubject();
    const [one, other] = both;
    const without = start([one]);
    await clock.advance(0);
    expect(one.set.get("power_limit")).toEqual({ power_limit_mw: 300_000 });
    expect(without.daemon.settings.missing).toEqual(["GPU-1"]);
    without.daemon.settings.close();
    without.daemon.kill();
    const again = start([], without.journal.records);
    expect(again.daemon.settings.missing).toEqual(["GPU-1"]);
    again.daemon.kill();
    const back = start(both, again.journal.records);
    await clock.advance(0);
    expect(back.daemon.settings.missing).toEqual([]);
    expect(other.set.get("power_limit")).toEqual({ power_limit_mw: 300_000 });
    expect(other.writes).toHaveLength(2);
  });

  it("is set to what a lease wants that lives, or to what was there if that ends before it comes", async () => {
    for (const endsBefore of [false, true]) {
      const { start, both, clock, processes, holder } = await createSubject({ holderLives: true });
      const [one, other] = both;
      const { daemon, journal } = start([one]);
      if (endsBefore) processes.end(holder);
      await clock.advance(0);
      expect(daemon.settings.leases.all).toHaveLength(endsBefore ? 0 : 1);
      expect(daemon.settings.missing).toEqual(["GPU-1"]);
      daemon.settings.close();
      daemon.kill();
      other.set.set("power_limit", { power_limit_mw: 250_000 });
      start(both, journal.records);
      await clock.advance(0);
      expect(other.set.get("power_limit")).toEqual({ power_limit_mw: endsBefore ? 300_000 : 200_000 });
    }
  });

  it("is not among those that a lease is said to cover", async () => {
    const { start, both, lease } = await createSubject({ holderLives: true });
    const { daemon } = start([both[0]]);
    expect(daemon.settings.leases.factsOf(lease).gpu_ids).toEqual([0]);
  });

  it("is not missed if no lease has changed it, and is if one has, whether that lives or not", async () => {
    const { start, lease } = await createSubject({ holderLives: true });
    const base = { record: "base", gpu: "GPU-9", setting: "gpu_clocks", value: {}, order: 1 };
    const layer = { ...base, record: "layer", lease: lease.number };
    const missing = (...records: readonly object[]): readonly string[] => start([], records).daemon.settings.missing;
    expect(missing(base)).toEqual([]);
    expect(missing({ record: "lease", lease }, base, layer)).toEqual(["GPU-9"]);
    expect(missing(base, layer, { record: "ended", lease: lease.number })).toEqual(["GPU-9"]);
  });
});

describe("a record that nobody understands", () => {
  it("is left out, and the log says so; the others count", async () => {
    const { start, both, clock } = await createSubject();
    const strange = { record: "hologram", of: "a cat" };
    const base = { record: "base", gpu: "GPU-0", setting: "power_limit", value: { power_limit_mw: 280_000 }, order: 1 };
    const { daemon } = start([both[0]], [strange, base, { ...base, record: "no_layer", lease: 4 }]);
    await clock.advance(0);
    const errors = daemon.log.lines.filter((line) => line.startsWith("error"));
    expect(errors).toHaveLength(1);
    expect(errors[0]).toContain(JSON.stringify(strange));
    expect(both[0].set.get("power_limit")).toEqual({ power_limit_mw: 280_000 });
  });
});

describe("a lease's id", () => {
  it("is 128 bits in hex that nobody can guess", () => {
    const clock = createFakeClock();
    const settings = new Settings({
      clock,
      log: createQuietLog(),
      health: new Health(),
      events: new Events(() => clock.epochMs()),
      openProcess: () => undefined,
      reassert: false,
    });
    const acquire = (): Lease => settings.leases.acquire({}, { gpus, exclusive: false, ttlS: 5 });
    const ids = new Set(Array.from({ length: 50 }, () => acquire().id));
    expect(ids.size).toBe(50);
    for (const id of ids) expect(id).toMatch(/^[\da-f]{32}$/);
  });
});
