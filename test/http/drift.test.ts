// Drift: what was asked for is held against what is, now and then and whenever somebody reads it.
import { beforeEach, describe, expect, it } from "vitest";
import type { Config } from "../../src/contract/config.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import { createHolder, json, limit, limits, rememberSettings } from "./holder.ts";
import { followEvents, startLeaseSubject, type LeaseSubject, type Told } from "./lease-subject.ts";

const periodMs = 30_000;

let zeusd: LeaseSubject;
let heard: () => readonly Told[];

async function setUp(config: Partial<Config> = {}): Promise<void> {
  zeusd = await startLeaseSubject({ config: { driftCheckS: 30, ...config } });
  heard = await followEvents(zeusd);
}

beforeEach(() => setUp());

const elsewhere = (mw: number): void => zeusd.answer("gpu 0", "getPowerLimit", { power_limit_mw: mw });
const reads = (gpu = 0): number => zeusd.calls.filter((call) => call.startsWith(`gpu ${gpu} get`)).length;
const drifts = (): readonly string[] => zeusd.logged.filter((line) => line.includes("and should be"));
const told = (): readonly Readonly<Record<string, unknown>>[] =>
  heard().map((one) => {
    const { timestamp_ms: _, ...facts } = one;
    return facts;
  });
const state = async (): Promise<Readonly<Record<string, unknown>>> => {
  const { gpus } = json(await zeusd.ask("GET /gpu/get_state?gpu_ids=0")) as {
    readonly gpus: Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, unknown>>>>>>;
  };
  return gpus["0"]?.["power_limit"] ?? {};
};

describe("the drift check", () => {
  it("finds what was changed elsewhere: once, with a line, a count and an event, and says when it is over", async () => {
    await zeusd.ask(limit(250_000));
    await zeusd.clock.advance(periodMs);
    expect(drifts()).toEqual([]);
    elsewhere(300_000);
    await zeusd.clock.advance(periodMs - 1);
    expect(drifts()).toEqual([]);
    await zeusd.clock.advance(1);
    const line = "warn GPU 0: power_limit is power_limit_mw=300000 and should be power_limit_mw=250000";
    expect(drifts()).toEqual([line]);
    await zeusd.clock.advance(10 * periodMs);
    expect(drifts()).toEqual([line]);
    const [expected, found] = [{ power_limit_mw: 250_000 }, { power_limit_mw: 300_000 }];
    expect(told()).toEqual([{ event: "drift", gpu: 0, setting: "power_limit", expected, found }]);
    expect(await state()).toMatchObject({ drift: true, drifts: 1 });
    elsewhere(250_000);
    await zeusd.clock.advance(periodMs);
    expect(told().slice(1)).toEqual([{ event: "drift_over", gpu: 0, setting: "power_limit", value: expected }]);
    expect(zeusd.logged).toContain("info GPU 0: power_limit is power_limit_mw=250000 again, as it should be");
    expect(await state()).toMatchObject({ drift: false, drifts: 1 });
    expect(limits(zeusd)).toEqual(["250000@0"]);
  });

  it("finds it anew when it is yet another value, or was right in between", async () => {
    await zeusd.ask(limit(250_000));
    for (const mw of [300_000, 290_000, 250_000, 290_000]) {
      elsewhere(mw);
      await zeusd.clock.advance(periodMs);
    }
    expect(drifts()).toHaveLength(3);
    expect(await state()).toMatchObject({ drift: true, drifts: 3 });
  });

  it("holds against it what wins, be it a lease's or not", async () => {
    await zeusd.ask("POST /lease/acquire");
    await zeusd.ask(limit(250_000));
    elsewhere(300_000);
    await zeusd.clock.advance(periodMs);
    expect(told().slice(1)).toMatchObject([{ event: "drift", expected: { power_limit_mw: 250_000 } }]);
    await zeusd.ask(limit(240_000), createHolder(102));
    expect(await state()).toMatchObject({ asked: { power_limit_mw: 240_000 }, drift: true, drifts: 2 });
  });

  it("finds what is not as it should be of persistence mode, too, and never of locked clocks, which no driver tells", async () => {
    await zeusd.ask("POST /gpu/set_persistence_mode?gpu_ids=1&enabled=true&block=true");
    await zeusd.ask("POST /gpu/set_gpu_locked_clocks?gpu_ids=1&min_clock_mhz=1&max_clock_mhz=2&block=true");
    zeusd.answer("gpu 1", "getPersistenceMode", { enabled: false });
    await zeusd.clock.advance(periodMs);
    expect(told()).toEqual([
      {
        event: "drift",
        gpu: 1,
        setting: "persistence_mode",
        expected: { enabled: true },
        found: { enabled: false },
      },
    ]);
    expect(drifts()).toEqual(["warn GPU 1: persistence_mode is enabled=false and should be enabled=true"]);
  });

  it("asks nothing of GPUs of which nobody has asked anything, and of no setting that nobody has asked for", async () => {
    await zeusd.ask(limit(250_000));
    const before = [reads(0), reads(1)];
    await zeusd.clock.advance(3 * periodMs);
    expect([reads(0), reads(1)].map((count, gpu) => count - (before[gpu] ?? 0))).toEqual([3, 0]);
    expect(zeusd.calls.filter((call) => call.includes("Persistence"))).toEqual([]);
  });

  it("takes nothing for drift that nobody has asked for", async () => {
    await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
    elsewhere(200_000);
    await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
    await zeusd.ask("POST /lease/acquire");
    await zeusd.ask(limit(250_000));
    await zeusd.alice.die();
    // It is as it was before the lease; what becomes of it from here on is nobody's business.
    elsewhere(100_000);
    await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
    await zeusd.clock.advance(10 * periodMs);
    expect(drifts()).toEqual([]);
  });

  it("takes nothing for drift that was read for a write that was dropped", async () => {
    await zeusd.ask("POST /lease/acquire");
    const done = zeusd.hold("gpu 0", "getPowerLimit", { power_limit_mw: 300_000 });
    const dropped = zeusd.ask(limit(250_000));
    await zeusd.clock.advance(0);
    await zeusd.alice.die();
    elsewhere(200_000);
    done();
    expect((await dropped).status).toBe(409);
    await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
    await zeusd.clock.advance(10 * periodMs);
    expect(drifts()).toEqual([]);
  });

  it("is never made where its period is 0, and then reading finds it all the same", async () => {
    await setUp({ driftCheckS: 0 });
    await zeusd.ask(limit(250_000));
    const before = reads();
    await zeusd.clock.advance(3_600_000);
    expect(reads()).toBe(before);
    elsewhere(300_000);
    await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0", createHolder(102));
    expect(drifts()).toHaveLength(1);
  });

  it("has the period that it is given", async () => {
    await setUp({ driftCheckS: 1 });
    await zeusd.ask(limit(250_000));
    const before = reads();
    await zeusd.clock.advance(10_000);
    expect(reads() - before).toBe(10);
  });

  it("leaves alone what is stuck, away or full, goes on with the others, and comes back to it", async () => {
    await zeusd.ask(limit(250_000, { gpus: "0,1" }));
    const done = zeusd.hold("gpu 0", "resetGpuLockedClocks");
    void zeusd.ask("POST /gpu/reset_gpu_locked_clocks?gpu_ids=0&block=true");
    await zeusd.clock.advance(4_000);
    elsewhere(300_000);
    zeusd.answer("gpu 1", "getPowerLimit", { power_limit_mw: 290_000 });
    await zeusd.clock.advance(periodMs);
    expect(drifts()).toEqual(["warn GPU 1: power_limit is power_limit_mw=290000 and should be power_limit_mw=250000"]);
    done();
    await zeusd.clock.advance(periodMs);
    expect(drifts()).toHaveLength(2);
  });

  it("goes on after a reading that failed", async () => {
    await zeusd.ask(limit(250_000));
    zeusd.answer("gpu 0", "getPowerLimit", new ZeusdError("driver_error", "NVML error: busy"));
    await zeusd.clock.advance(periodMs);
    elsewhere(300_000);
    await zeusd.clock.advance(periodMs);
    expect(drifts()).toHaveLength(1);
  });
});

describe("drift", () => {
  it.each(["get_power_limit?gpu_ids=0", "get_state?gpu_ids=0"])("is found by whoever asks /gpu/%s", async (path) => {
    await zeusd.ask(limit(250_000));
    elsewhere(300_000);
    await zeusd.ask(`GET /gpu/${path}`, createHolder(102, { uid: 1001 }));
    expect(drifts()).toHaveLength(1);
  });

  it("is not what is in force: that may be less than what is set", async () => {
    await zeusd.ask(limit(250_000));
    zeusd.answer("gpu 0", "getEnforcedPowerLimit", { power_limit_mw: 200_000 });
    await zeusd.ask("GET /gpu/get_enforced_power_limit?gpu_ids=0");
    await zeusd.ask("GET /gpu/get_state");
    expect(drifts()).toEqual([]);
  });

  it("is over when the lease that wanted something else ends", async () => {
    await zeusd.ask("POST /lease/acquire?gpu_ids=0");
    await zeusd.ask(limit(250_000));
    elsewhere(290_000);
    await zeusd.clock.advance(periodMs);
    rememberSettings(zeusd);
    await zeusd.alice.die();
    const of = { gpu: 0, setting: "power_limit", value: { power_limit_mw: 300_000 } };
    const about = told().filter(({ event }) => !String(event).startsWith("lease_"));
    expect(about).toMatchObject([{ event: "drift" }, { event: "drift_over", ...of }, { event: "restored", ...of }]);
    expect(await state()).toMatchObject({ asked: null, drift: false });
  });

  it("is what the driver took and did not apply", async () => {
    elsewhere(300_000);
    expect((await zeusd.ask(limit(250_000))).status).toBe(200);
    await zeusd.clock.advance(periodMs);
    expect(drifts()).toHaveLength(1);
    expect(await state()).toMatchObject({ asked: { power_limit_mw: 250_000 }, set: { power_limit_mw: 300_000 } });
  });

  it("is over when something else is written, and found again if that is not applied either", async () => {
    await zeusd.ask(limit(250_000));
    elsewhere(300_000);
    await zeusd.clock.advance(periodMs);
    rememberSettings(zeusd);
    await zeusd.ask(limit(240_000));
    await zeusd.clock.advance(periodMs);
    expect(drifts()).toHaveLength(1);
    const value = { power_limit_mw: 240_000 };
    expect(told().slice(1)).toEqual([{ event: "drift_over", gpu: 0, setting: "power_limit", value }]);
    expect(await state()).toMatchObject({ drift: false, drifts: 1 });
    elsewhere(300_000);
    await zeusd.clock.advance(periodMs);
    expect(drifts()).toHaveLength(2);
  });

  it("is not looked for in what is still to be put back", async () => {
    await zeusd.ask(limit(280_000), createHolder(102));
    await zeusd.ask("POST /lease/acquire");
    await zeusd.ask(limit(250_000));
    zeusd.answer("gpu 0", "setPowerLimit", new ZeusdError("driver_error", "NVML error: busy"));
    elsewhere(250_000);
    await zeusd.alice.die();
    await zeusd.clock.advance(10 * periodMs);
    await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
    expect(drifts()).toEqual([]);
    zeusd.answer("gpu 0", "setPowerLimit", {});
    elsewhere(280_000);
    await zeusd.clock.advance(60_000);
    expect(drifts()).toEqual([]);
    elsewhere(250_000);
    await zeusd.clock.advance(periodMs);
    expect(drifts()).toHaveLength(1);
  });
});

describe("with --reassert drift", () => {
  beforeEach(() => setUp({ reassert: true }));

  it("is put right at once, which is said, before what waits in the lane", async () => {
    await zeusd.ask(limit(250_000));
    let isRead = false;
    zeusd.answer("gpu 0", "getPowerLimit", async () => {
      const power_limit_mw = isRead ? 250_000 : 300_000;
      isRead = true;
      return { power_limit_mw };
    });
    const found = zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
    const waiting = zeusd.ask("GET /gpu/get_clocks?gpu_ids=0");
    expect(json(await found)).toEqual({ 0: { power_limit_mw: 300_000 } });
    await waiting;
    expect(zeusd.calls.map((call) => call.split(" ")[2])).toEqual([
      "setPowerLimit",
      "getPowerLimit",
      "setPowerLimit",
      "getPowerLimit",
      "getClocks",
    ]);
    const of = { gpu: 0, setting: "power_limit", value: { power_limit_mw: 250_000 } };
    expect(told()).toMatchObject([{ event: "drift" }, { event: "restored", ...of }, { event: "drift_over", ...of }]);
    expect(await state()).toMatchObject({ drift: false, drifts: 1 });
  });

  it("is put right though it was found by a reading that hung", async () => {
    await zeusd.ask(limit(250_000));
    const done = zeusd.hold("gpu 0", "getPowerLimit", { power_limit_mw: 300_000 });
    void zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
    await zeusd.clock.advance(4_000);
    done();
    await zeusd.clock.advance(0);
    expect(limits(zeusd)).toEqual(["250000@0", "250000@0"]);
  });

  it("that comes again is put right again", async () => {
    await zeusd.ask(limit(250_000));
    for (let count = 1; count < 4; count += 1) {
      elsewhere(300_000);
      const found = zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
      await found;
      rememberSettings(zeusd);
      await zeusd.clock.advance(periodMs);
      expect(await state()).toMatchObject({ drift: false, drifts: count });
    }
    expect(limits(zeusd)).toHaveLength(4);
  });

  it("is put right within a lease to what the lease wants", async () => {
    await zeusd.ask("POST /lease/acquire");
    await zeusd.ask(limit(250_000));
    elsewhere(300_000);
    await zeusd.clock.advance(periodMs);
    expect(limits(zeusd)).toEqual(["250000@0", "250000@0"]);
    rememberSettings(zeusd);
    await zeusd.clock.advance(periodMs);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "250000@0", "300000@0"]);
  });

  it("is tried once where the driver takes the value and does not apply it", async () => {
    await zeusd.ask(limit(250_000));
    elsewhere(300_000);
    await zeusd.clock.advance(20 * periodMs);
    expect(limits(zeusd)).toEqual(["250000@0", "250000@0"]);
    expect(drifts()).toHaveLength(1);
    expect(await state()).toMatchObject({ drift: true, drifts: 1 });
    // It is tried again when it changes.
    elsewhere(290_000);
    await zeusd.clock.advance(20 * periodMs);
    expect(limits(zeusd)).toHaveLength(3);
  });

  it("is not put right where nobody has asked for anything, and without the flag it is not either", async () => {
    await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
    elsewhere(200_000);
    await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0");
    expect(limits(zeusd)).toEqual([]);
    await setUp({ reassert: false });
    await zeusd.ask(limit(250_000));
    elsewhere(300_000);
    await zeusd.clock.advance(10 * periodMs);
    expect(limits(zeusd)).toEqual(["250000@0"]);
  });
});
