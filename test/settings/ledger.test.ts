// What the journal knows of a GPU's settings by when, and what the next daemon makes of it.
import { describe, expect, it } from "vitest";
import { createFakeProcesses } from "./fake-processes.ts";
import { createMemoryJournal } from "./memory-journal.ts";
import { clocks, createSubject, setClocks, setPower, watts } from "./one-gpu.ts";

describe("the journal", () => {
  const of = { gpu: "GPU-0", setting: "power_limit" };

  it("has what was there, and the layer, before the lease's first write is in the driver", async () => {
    const seen: unknown[][] = [];
    const journal = createMemoryJournal();
    const { power, acquire, lock } = createSubject({
      journal,
      observer: { began: () => void seen.push(journal.records.slice(-2)) },
    });
    const lease = acquire();
    await power(200, lease);
    await lock(600, lease);
    expect(seen).toEqual([
      [
        { record: "base", ...of, value: watts(300), order: 0 },
        { record: "layer", lease: lease.number, ...of, value: watts(200), order: 1 },
      ],
      [
        { record: "base", gpu: "GPU-0", setting: "gpu_clocks", value: {}, order: 0 },
        { record: "layer", lease: lease.number, gpu: "GPU-0", setting: "gpu_clocks", value: clocks(600), order: 2 },
      ],
    ]);
  });

  it("has every later value before anybody is told that it is set", async () => {
    const { power, acquire, journal } = createSubject();
    const [one, other] = [acquire(), acquire()];
    await power(200, one);
    await power(210, one);
    expect(journal.records.at(-1)).toEqual({ record: "layer", lease: one.number, ...of, value: watts(210), order: 2 });
    await power(220, other);
    expect(journal.records.at(-1)).toEqual({
      record: "layer",
      lease: other.number,
      ...of,
      value: watts(220),
      order: 3,
    });
    await power(250);
    expect(journal.records.at(-1)).toEqual({ record: "base", ...of, value: watts(250), order: 4 });
  });

  it("has what the driver refused as it was before", async () => {
    const { power, acquire, journal, gpu } = createSubject();
    const lease = acquire();
    await power(200, lease);
    gpu.outcomes.push("refused", "refused");
    await Promise.allSettled([power(1, lease), power(2)]);
    expect(journal.records.slice(-4)).toEqual([
      { record: "layer", lease: lease.number, ...of, value: watts(1), order: 2 },
      { record: "layer", lease: lease.number, ...of, value: watts(200), order: 1 },
      { record: "base", ...of, value: watts(2), order: 3 },
      { record: "base", ...of, value: watts(300), order: 0 },
    ]);
  });

  it("has nothing of what is set without leases where the driver tells it, and the last of what it does not", async () => {
    const { power, lock, journal } = createSubject();
    const before = journal.records.length;
    await power(250);
    await power(260);
    expect(journal.records).toHaveLength(before);
    await lock(600);
    await lock(700);
    const knob = { gpu: "GPU-0", setting: "gpu_clocks" };
    expect(journal.records.slice(before)).toEqual([
      { record: "base", ...knob, value: clocks(600), order: 3 },
      { record: "base", ...knob, value: clocks(700), order: 4 },
    ]);
  });

  it("has what is set without a lease while something is still to be put back", async () => {
    const { power, journal, acquire, release, gpu } = createSubject();
    const lease = acquire();
    await power(200, lease);
    gpu.outcomes.push("lost");
    await release(lease);
    await power(250);
    expect(journal.records.at(-1)).toEqual({ record: "base", ...of, value: watts(250), order: 2 });
  });

  it("that cannot be written refuses what is written within leases, and the driver does not hear of it", async () => {
    const { power, lock, acquire, journal, written, member, release, gpu } = createSubject();
    const lease = acquire();
    const other = acquire();
    await power(200, lease);
    written();
    journal.fails = true;
    await expect(power(210, other)).rejects.toMatchObject({ code: "journal_unavailable", status: 503 });
    await expect(lock(600, other)).rejects.toMatchObject({ code: "journal_unavailable" });
    // As soon as that is known, later values of those that have written are refused as well.
    await expect(power(220, lease)).rejects.toMatchObject({ code: "journal_unavailable" });
    expect(written()).toEqual([]);
    expect(member.settings.has(other.number)).toBe(false);
    expect(member.settings.winner("power_limit")).toMatchObject({ value: watts(200), lease: lease.number });
    expect(member.settings.winner("gpu_clocks")).toMatchObject({ order: 0 });
    await release(lease);
    expect(gpu.set.get("power_limit")).toEqual(watts(300));
    journal.fails = false;
    await power(230, other);
    expect(written().at(-1)).toEqual(watts(230));
  });

  it("that is not kept keeps nothing from being done", async () => {
    const { power, acquire, release, gpu } = createSubject({ journal: undefined });
    const lease = acquire();
    await power(200, lease);
    await power(210, lease);
    await release(lease);
    expect(gpu.set.get("power_limit")).toEqual(watts(300));
  });

  it("says when nothing is to be put back any more, and has nothing of it once it is written anew", async () => {
    const { power, lock, acquire, release, journal, daemon } = createSubject();
    const lease = acquire();
    await power(200, lease);
    await lock(600);
    await lock(700, lease);
    await release(lease);
    expect(journal.records).toContainEqual({ record: "settled", ...of });
    daemon.settings.close();
    expect(journal.records).toEqual([
      { record: "ended", lease: lease.number },
      { record: "base", gpu: "GPU-0", setting: "gpu_clocks", value: clocks(600), order: 2 },
    ]);
    expect(journal.isClosed).toBe(true);
  });

  it("keeps what is still to be put back when it is written anew", async () => {
    const { power, acquire, gpu, leases, restart, daemon, clock } = createSubject();
    const lease = acquire();
    await power(200, lease);
    gpu.outcomes.push("lost");
    leases.end(lease, "daemon_stopped");
    await clock.advance(0);
    daemon.settings.close();
    expect(gpu.set.get("power_limit")).toEqual(watts(200));
    restart();
    await clock.advance(0);
    expect(gpu.set.get("power_limit")).toEqual(watts(300));
  });
});

describe("the next daemon", () => {
  it("sets what the leases want that live, and puts back the rest, whatever is there", async () => {
    const { power, lock, acquire, restart, gpu, clock } = createSubject();
    const lease = acquire();
    await power(200, lease);
    await lock(500);
    await lock(600, lease);
    await lock(700, lease);
    // As after a reset of the GPU.
    gpu.set.set("gpu_clocks", {});
    const { daemon } = restart();
    await clock.advance(0);
    expect([gpu.set.get("power_limit"), gpu.set.get("gpu_clocks")]).toEqual([watts(200), clocks(700)]);
    daemon.settings.leases.end(lease, "released");
    await clock.advance(0);
    expect([gpu.set.get("power_limit"), gpu.set.get("gpu_clocks")]).toEqual([watts(300), clocks(500)]);
  });

  it("does not touch what no lease has changed", async () => {
    const { power, lock, restart, gpu, clock, written } = createSubject();
    await power(250);
    await lock(600);
    gpu.set.set("gpu_clocks", clocks(900));
    written();
    restart();
    await clock.advance(0);
    expect(written()).toEqual([]);
  });

  it("knows the locked clocks that were set without a lease", async () => {
    const { lock, restart, gpu, clock } = createSubject();
    await lock(600);
    const { daemon } = restart();
    const process = createFakeProcesses();
    const claimant = process.claimant(process.begin(7));
    const lease = daemon.settings.leases.acquire(claimant, {
      gpus: [{ key: "GPU-0", name: "GPU 0" }],
      exclusive: false,
    });
    await daemon.member().write(setClocks, clocks(700), lease);
    daemon.settings.leases.end(lease, "released");
    await clock.advance(0);
    expect(gpu.set.get("gpu_clocks")).toEqual(clocks(600));
  });

  it("goes on in the order of the writes", async () => {
    const { power, acquire, restart, gpu, clock } = createSubject();
    const [one, other] = [acquire(), acquire()];
    await power(200, one);
    await power(210, other);
    const { daemon } = restart();
    const [first] = daemon.settings.leases.all;
    await daemon.member().write(setPower, watts(220), first);
    expect(daemon.member().settings.winner("power_limit")).toMatchObject({ value: watts(220), order: 3 });
    daemon.settings.leases.end(one, "released");
    await clock.advance(0);
    expect(gpu.set.get("power_limit")).toEqual(watts(210));
  });
});
