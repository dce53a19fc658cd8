// The settings of one GPU: whose writes count, and what is put back and when.
import { describe, expect, it } from "vitest";
import { retryMs } from "./fake-daemon.ts";
import { rowOf } from "./fake-gpu.ts";
import { clocks, createSubject, setClocks, setMemoryClocks, setPower, watts } from "./one-gpu.ts";

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : error;
}

describe("what was there before", () => {
  it("is read once before the first lease writes, and comes back when the last has ended", async () => {
    const { gpu, power, acquire, release, written } = createSubject();
    const [one, other] = [acquire(), acquire()];
    await power(200, one);
    expect(gpu.reads).toEqual(["power_limit"]);
    await power(210, one);
    await power(220, other);
    await power(190, one);
    expect(gpu.reads).toEqual(["power_limit"]);
    expect(written()).toEqual([watts(200), watts(210), watts(220), watts(190)]);
    await release(one);
    expect(written()).toEqual([watts(220)]);
    await release(other);
    expect(written()).toEqual([watts(300)]);
  });

  it("is read anew for the next, since others may have changed it while there were none", async () => {
    const { gpu, power, acquire, release } = createSubject();
    const one = acquire();
    await power(200, one);
    await release(one);
    gpu.set.set("power_limit", watts(280));
    const other = acquire();
    await power(200, other);
    expect(gpu.reads).toHaveLength(2);
    await release(other);
    expect(gpu.set.get("power_limit")).toEqual(watts(280));
  });

  it("is what was set without a lease, if nobody has changed it since", async () => {
    const { gpu, power, acquire, release } = createSubject();
    await power(250);
    expect(gpu.reads).toEqual([]);
    const one = acquire();
    await power(200, one);
    await release(one);
    expect(gpu.set.get("power_limit")).toEqual(watts(250));
    await power(240);
    gpu.set.set("power_limit", watts(280));
    const other = acquire();
    await power(200, other);
    await release(other);
    expect(gpu.set.get("power_limit")).toEqual(watts(280));
  });

  it("never becomes what others set while a lease lives", async () => {
    const { gpu, power, acquire, release } = createSubject();
    const [one, other] = [acquire(), acquire()];
    await power(200, one);
    gpu.set.set("power_limit", watts(280));
    await power(210, other);
    await power(220, one);
    await release(one);
    await release(other);
    expect(gpu.set.get("power_limit")).toEqual(watts(300));
  });

  it("of locked clocks is what was last set without a lease, or that they are not locked", async () => {
    const { gpu, lock, acquire, release, member } = createSubject();
    const one = acquire();
    await lock(600, one);
    expect(gpu.reads).toEqual([]);
    await release(one);
    expect(gpu.set.get("gpu_clocks")).toEqual({});
    await lock(700);
    const other = acquire();
    await lock(600, other);
    await release(other);
    expect(gpu.set.get("gpu_clocks")).toEqual(clocks(700));
    await member.write(rowOf("resetGpuLockedClocks"), {});
    const last = acquire();
    await lock(600, last);
    await release(last);
    expect(gpu.set.get("gpu_clocks")).toEqual({});
  });

  it("is what the daemon last set or read where the driver does not tell it now", async () => {
    const { gpu, power, acquire, release, member } = createSubject();
    await power(250);
    gpu.isSilent = true;
    const one = acquire();
    await power(200, one);
    await release(one);
    expect(gpu.set.get("power_limit")).toEqual(watts(250));
    gpu.isSilent = false;
    await member.read(rowOf("getPersistenceMode"));
    gpu.isSilent = true;
    const other = acquire();
    await member.write(rowOf("setPersistenceMode"), { enabled: true }, other);
    await release(other);
    expect(gpu.set.get("persistence_mode")).toEqual({ enabled: false });
  });

  it("has to be known: else nothing is written, and nothing is owed", async () => {
    const { gpu, power, acquire, member, written } = createSubject();
    gpu.isSilent = true;
    const lease = acquire();
    await expect(power(200, lease)).rejects.toMatchObject({ code: "driver_error" });
    expect(written()).toEqual([]);
    expect(member.settings.has(lease.number)).toBe(false);
    expect(member.settings.owes).toBe(false);
    // Without a lease nobody needs to know it.
    await power(200);
    expect(written()).toEqual([watts(200)]);
  });
});

describe("a write without a lease", () => {
  it("is applied at once, over those of leases, and is there when they have ended", async () => {
    const { gpu, power, acquire, release, member, written } = createSubject();
    const lease = acquire();
    await power(200, lease);
    await power(270);
    expect(member.settings.winner("power_limit")).toEqual({ value: watts(270), order: 2 });
    expect(gpu.set.get("power_limit")).toEqual(watts(270));
    written();
    await release(lease);
    // It is there already.
    expect(written()).toEqual([]);
    expect(gpu.set.get("power_limit")).toEqual(watts(270));
  });

  it("under a newer one of a lease is what is put back", async () => {
    const { gpu, power, acquire, release } = createSubject();
    const lease = acquire();
    await power(200, lease);
    await power(270);
    await power(210, lease);
    await release(lease);
    expect(gpu.set.get("power_limit")).toEqual(watts(270));
  });

  it("that the driver refuses leaves what is to be put back as it was", async () => {
    const { gpu, power, acquire, release } = createSubject();
    const lease = acquire();
    await power(200, lease);
    gpu.outcomes.push("refused");
    await expect(power(270)).rejects.toMatchObject({ code: "invalid_argument" });
    await release(lease);
    expect(gpu.set.get("power_limit")).toEqual(watts(300));
  });

  it("needs no journal", async () => {
    const { power, lock, gpu, journal } = createSubject();
    journal.fails = true;
    await power(270);
    await lock(600);
    expect([gpu.set.get("power_limit"), gpu.set.get("gpu_clocks")]).toEqual([watts(270), clocks(600)]);
  });
});

describe("a write that the driver refuses", () => {
  it("leaves the lease's layer, and what is set, as it was", async () => {
    const { gpu, power, acquire, member, written, release } = createSubject();
    const [one, other] = [acquire(), acquire()];
    await power(200, one);
    await power(210, other);
    gpu.outcomes.push("refused");
    await expect(power(1, one)).rejects.toMatchObject({ code: "invalid_argument" });
    expect(member.settings.winner("power_limit")).toMatchObject({ value: watts(210), lease: other.number });
    written();
    await release(other);
    expect(written()).toEqual([watts(200)]);
  });

  it("and was the lease's first leaves nothing of it, and puts nothing back that is there", async () => {
    const { gpu, power, acquire, member, written, clock, journal } = createSubject();
    const lease = acquire();
    gpu.outcomes.push("refused");
    await expect(power(1, lease)).rejects.toMatchObject({ code: "invalid_argument" });
    await clock.advance(0);
    expect(written()).toEqual([watts(1)]);
    expect(member.settings.has(lease.number)).toBe(false);
    expect(member.settings.owes).toBe(false);
    expect(journal.records.at(-1)).toEqual({ record: "settled", gpu: "GPU-0", setting: "power_limit" });
  });
});

describe("a write that fails so that nobody knows whether it was done", () => {
  it("is put back where the lease had not written before", async () => {
    const { gpu, power, acquire, written, clock, named } = createSubject();
    gpu.outcomes.push("uncertain");
    await expect(power(200, acquire())).rejects.toMatchObject({ code: "driver_error" });
    await clock.advance(0);
    expect(written()).toEqual([watts(200), watts(300)]);
    expect(named("restored")).toEqual([{ event: "restored", gpu: 0, setting: "power_limit", value: watts(300) }]);
  });

  it("is left as it is where there are no leases", async () => {
    const { gpu, power, clock, written } = createSubject();
    await power(250);
    gpu.outcomes.push("uncertain");
    await expect(power(260)).rejects.toMatchObject({ code: "driver_error" });
    await clock.advance(0);
    expect(written()).toEqual([watts(250), watts(260)]);
  });

  it("is put right where somebody wants something else, and by whomever it was written", async () => {
    const { gpu, power, lock, acquire, clock, member } = createSubject();
    const [one, other] = [acquire(), acquire()];
    await power(200, one);
    await lock(600, one);
    for (const write of [() => power(210, one), () => power(220, other), () => power(230), () => lock(700, other)]) {
      gpu.outcomes.push("uncertain");
      await expect(write()).rejects.toMatchObject({ code: "driver_error" });
      await clock.advance(0);
      expect([gpu.set.get("power_limit"), gpu.set.get("gpu_clocks")]).toEqual([watts(200), clocks(600)]);
      expect(member.settings.owes).toBe(false);
    }
  });

  it("leaves nothing behind when the lease ends", async () => {
    const { gpu, power, lock, acquire, release } = createSubject();
    const lease = acquire();
    await power(200, lease);
    await lock(600, lease);
    for (const write of [() => power(210, lease), () => lock(700, lease), () => power(310), () => lock(800)]) {
      gpu.outcomes.push("uncertain");
      await expect(write()).rejects.toMatchObject({ code: "driver_error" });
    }
    await release(lease);
    expect([gpu.set.get("power_limit"), gpu.set.get("gpu_clocks")]).toEqual([watts(300), {}]);
  });
});

describe("when a lease ends", () => {
  it("while its write is in the driver, that is put back when the driver returns", async () => {
    const { gpu, power, acquire, release, written, member, clock } = createSubject();
    const lease = acquire();
    gpu.outcomes.push("hangs");
    const writing = power(200, lease);
    await clock.advance(0);
    await release(lease);
    expect(member.settings.owed).toEqual(new Set(["power_limit"]));
    gpu.release();
    await writing;
    await release(lease);
    expect(written()).toEqual([watts(200), watts(300)]);
    expect(member.settings.owes).toBe(false);
  });

  it("while its write is in the driver, which refuses it, nothing needs to be put back", async () => {
    const { gpu, power, acquire, release, written, member, clock } = createSubject();
    const lease = acquire();
    gpu.outcomes.push("hangs");
    const writing = power(200, lease);
    await clock.advance(0);
    await release(lease);
    gpu.release("refused");
    await expect(writing).rejects.toMatchObject({ code: "invalid_argument" });
    await release(lease);
    expect(written()).toEqual([watts(200)]);
    expect(member.settings.owes).toBe(false);
  });

  it("nothing of it is written that was still to be", async () => {
    const { gpu, power, acquire, release, written } = createSubject();
    const [one, other] = [acquire(), acquire()];
    gpu.outcomes.push("hangs");
    const writes = [power(200, one), power(210, other), power(220, one)];
    const settled = Promise.allSettled(writes);
    await release(other);
    gpu.release();
    const codes = (await settled).map((each) => (each.status === "rejected" ? codeOf(each.reason) : "done"));
    expect(codes).toEqual(["done", "no_such_lease", "done"]);
    expect(written()).toEqual([watts(200), watts(220)]);
  });

  it("between the reading of what was there and the write, nothing is written", async () => {
    const { member, acquire, leases, written, gpu } = createSubject();
    const lease = acquire();
    // Straight, as the lane would have dropped it.
    const writing = member.settings.write(setPower, watts(200), lease);
    leases.end(lease, "released");
    await expect(writing).rejects.toMatchObject({ code: "no_such_lease" });
    expect(gpu.reads).toEqual(["power_limit"]);
    expect(written()).toEqual([]);
    await expect(member.settings.write(setClocks, clocks(600), lease)).rejects.toMatchObject({ code: "no_such_lease" });
    expect(written()).toEqual([]);
  });

  it("nothing is called where it had not won", async () => {
    const { power, acquire, release, written, member } = createSubject();
    const [one, other] = [acquire(), acquire()];
    await power(200, one);
    await power(210, other);
    written();
    await release(one);
    expect(written()).toEqual([]);
    expect(member.settings.has(one.number)).toBe(false);
    await release(other);
    expect(written()).toEqual([watts(300)]);
  });

  it("what it changed is put back before anything else that waits", async () => {
    const { gpu, power, acquire, leases, written, clock } = createSubject();
    const lease = acquire();
    await power(200, lease);
    gpu.outcomes.push("hangs");
    const writes = [power(250), power(260), power(270)];
    leases.end(lease, "released");
    gpu.release();
    await Promise.all(writes);
    await clock.advance(0);
    // 250 W are newer than the lease, and there: there is nothing to put back then.
    expect(written()).toEqual([watts(200), watts(250), watts(260), watts(270)]);
    const [other, last] = [acquire(), acquire()];
    await power(200, other);
    await power(210, last);
    gpu.outcomes.push("hangs");
    const more = [power(220, other), power(280)];
    leases.end(last, "released");
    leases.end(other, "released");
    const settled = Promise.allSettled(more);
    gpu.release();
    await settled;
    expect(written()).toEqual([watts(200), watts(210), watts(220), watts(270), watts(280)]);
  });

  it("another that comes back to the top has its last value", async () => {
    const { power, acquire, release, written } = createSubject();
    const [one, other] = [acquire(), acquire()];
    await power(200, one);
    await power(210, one);
    await power(220, other);
    written();
    await release(other);
    expect(written()).toEqual([watts(210)]);
  });
});

describe("what is put back", () => {
  it("is tried again when it fails, with the others not waiting for it, and is told of", async () => {
    const { gpu, power, lock, acquire, release, member, clock, named, written } = createSubject();
    const lease = acquire();
    await power(200, lease);
    await lock(600, lease);
    written();
    gpu.outcomes.push("lost");
    await release(lease);
    expect(written()).toEqual([watts(300), {}]);
    expect(member.settings.owed).toEqual(new Set(["power_limit"]));
    expect(member.failures).toMatchObject([{ code: "driver_error" }]);
    const failed = {
      event: "restore_failed",
      gpu: 0,
      setting: "power_limit",
      value: watts(300),
      error: "The driver has failed",
    };
    expect(named("restore_failed")).toEqual([failed]);
    expect(named("restored")).toMatchObject([{ setting: "gpu_clocks", value: {} }]);
    await clock.advance(retryMs);
    expect(written()).toEqual([watts(300)]);
    expect(member.settings.owes).toBe(false);
    expect(named("restored")).toMatchObject([{ setting: "gpu_clocks" }, { setting: "power_limit", value: watts(300) }]);
  });

  it("fails with its first error when everything has been tried", async () => {
    const { gpu, power, lock, acquire, leases, member, clock } = createSubject();
    const lease = acquire();
    await power(200, lease);
    await lock(600, lease);
    gpu.outcomes.push("hangs");
    const blocked = power(250);
    leases.end(lease, "released");
    member.settings.reclaim();
    gpu.outcomes.push("lost", "uncertain");
    gpu.release("lost");
    await expect(blocked).rejects.toThrow("has failed");
    await clock.advance(0);
    expect(member.failures).toHaveLength(1);
    expect(member.failures).toMatchObject([{ message: "The driver has failed" }]);
    expect(member.settings.owed.size).toBe(2);
  });

  it("is what wins by then: what ends meanwhile is put back, too", async () => {
    const { gpu, power, acquire, leases, member, written, clock } = createSubject();
    const [one, other] = [acquire(), acquire()];
    await power(200, one);
    await power(210, other);
    written();
    gpu.outcomes.push("hangs");
    leases.end(other, "released");
    expect(gpu.isHanging).toBe(true);
    leases.end(one, "released");
    gpu.release();
    await clock.advance(0);
    expect(written()).toEqual([watts(200), watts(300)]);
    expect(member.settings.owes).toBe(false);
  });

  it("may be written by a newer lease before it has worked, and is put back after that one all the same", async () => {
    const { gpu, power, acquire, release, member, clock } = createSubject();
    const one = acquire();
    await power(200, one);
    gpu.outcomes.push("lost");
    await release(one);
    expect(gpu.set.get("power_limit")).toEqual(watts(200));
    const other = acquire();
    await power(220, other);
    await clock.advance(retryMs);
    expect(gpu.set.get("power_limit")).toEqual(watts(220));
    expect(member.settings.owes).toBe(false);
    await release(other);
    expect(gpu.set.get("power_limit")).toEqual(watts(300));
  });

  it("is nothing once somebody has set it without a lease", async () => {
    const { gpu, power, acquire, release, clock, written } = createSubject();
    const lease = acquire();
    await power(200, lease);
    gpu.outcomes.push("lost");
    await release(lease);
    await power(250);
    written();
    await clock.advance(retryMs);
    expect(written()).toEqual([]);
    expect(gpu.set.get("power_limit")).toEqual(watts(250));
  });

  it("is put back again when the GPU is opened anew, as it may have been reset, and layers are", async () => {
    const { gpu, power, lock, acquire, release, member, clock, written } = createSubject();
    const lease = acquire();
    await power(200, lease);
    await lock(600);
    written();
    gpu.set.set("power_limit", watts(300));
    member.reopen();
    await clock.advance(0);
    expect(written()).toEqual([watts(200)]);
    await release(lease);
    expect(written()).toEqual([watts(300)]);
    member.reopen();
    await clock.advance(0);
    expect(written()).toEqual([]);
  });
});

describe("what consists of parts", () => {
  const reset = rowOf("resetLockedClocks");

  it("writes a layer of each, which end with the lease", async () => {
    const { lock, member, acquire, release, gpu, written } = createSubject();
    await lock(600);
    await member.write(setMemoryClocks, clocks(700));
    written();
    const lease = acquire();
    await member.write(reset, {}, lease);
    expect(written()).toEqual([{}, {}]);
    expect(member.settings.winner("gpu_clocks")).toMatchObject({ lease: lease.number });
    expect(member.settings.winner("memory_clocks")).toMatchObject({ lease: lease.number });
    await release(lease);
    expect([gpu.set.get("gpu_clocks"), gpu.set.get("memory_clocks")]).toEqual([clocks(600), clocks(700)]);
  });

  it("is tried to its end, and each part stands by its own result", async () => {
    const { lock, member, acquire, release, gpu } = createSubject();
    await lock(600);
    await member.write(setMemoryClocks, clocks(700));
    const lease = acquire();
    gpu.outcomes.push("refused");
    await expect(member.write(reset, {}, lease)).rejects.toMatchObject({ code: "invalid_argument" });
    expect(member.settings.winner("gpu_clocks")).toMatchObject({ value: clocks(600) });
    expect(member.settings.winner("gpu_clocks")?.lease).toBeUndefined();
    expect(member.settings.winner("memory_clocks")).toMatchObject({ value: {}, lease: lease.number });
    await release(lease);
    expect([gpu.set.get("gpu_clocks"), gpu.set.get("memory_clocks")]).toEqual([clocks(600), clocks(700)]);
  });

  it("fails with its first error", async () => {
    const { member, gpu } = createSubject();
    gpu.outcomes.push("lost", "refused");
    await expect(member.write(reset, {})).rejects.toMatchObject({ code: "driver_error" });
    gpu.outcomes.push("done", "refused");
    await expect(member.write(reset, {})).rejects.toMatchObject({ code: "invalid_argument" });
  });

  it("is not gone on with when the lease ends in between", async () => {
    const { member, gpu, acquire, release, written, clock } = createSubject();
    const lease = acquire();
    gpu.outcomes.push("hangs");
    const writing = member.write(reset, {}, lease);
    await clock.advance(0);
    await release(lease);
    gpu.release();
    await expect(writing).rejects.toMatchObject({ code: "no_such_lease" });
    expect(written()).toHaveLength(1);
  });
});
