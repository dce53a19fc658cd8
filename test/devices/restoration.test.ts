// Restoration: what should be is put there first of all, again and again until it works, and as soon as the GPU can be driven.
import { beforeEach, describe, expect, it } from "vitest";
import type { Caller } from "../../src/contract/command.ts";
import { messageOf, ZeusdError } from "../../src/contract/errors.ts";
import { Events } from "../../src/contract/events.ts";
import { Health } from "../../src/contract/health.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { Lane } from "../../src/devices/lane.ts";
import { Fleet } from "../../src/devices/fleet.ts";
import { Restoration } from "../../src/devices/restoration.ts";
import { drowsy } from "../../src/devices/wakefulness.ts";
import type { Lease } from "../../src/contract/lease.ts";
import { GpuSettings } from "../../src/settings/gpu-settings.ts";
import { Journal } from "../../src/settings/journal.ts";
import type { Settings } from "../../src/settings/settings.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createFakeMachine, type FakeMachine } from "../http/fake-machine.ts";
import { createHolder, limits, rememberSettings } from "../http/holder.ts";
import { createSettings } from "../http/test-fleet.ts";
import { createQuietLog } from "../quiet-log.ts";
import { createWorks } from "./lane-works.ts";

const timeoutMs = 4_000;
const busy = new ZeusdError("driver_error", "NVML error: busy");

let clock: FakeClock;
let log: ReturnType<typeof createQuietLog>;

beforeEach(() => {
  clock = createFakeClock();
  log = createQuietLog();
});

/** It has no GPUs yet. */
function createFleet(): { readonly fleet: Fleet; readonly settings: Settings } {
  const made = createSettings(clock, log);
  const rates = { gpuPollHz: 20, cpuPollHz: 10 };
  const hooks = { lost: () => {}, fatal: () => {} };
  const fleet = new Fleet({ clock, log, ...rates, timeoutMs, wakefulness: drowsy, ...made, ...hooks });
  return { fleet, settings: made.settings };
}

describe("what is owed", () => {
  let lane: Lane;
  let settings: GpuSettings;
  let isAway: ZeusdError | undefined;
  /** When it was tried, in ms. */
  let tries: number[];
  let failures: string[];
  const works = async (): Promise<void> => {};
  /** What a try does; by default it works. */
  let attempt: () => Promise<void>;
  let restoration: Restoration;
  let order: number;
  const caller: Caller = { arrivedMs: 0, gone: () => false };
  const { quick, held } = createWorks();

  beforeEach(() => {
    isAway = undefined;
    tries = [];
    failures = [];
    attempt = works;
    order = 0;
    lane = new Lane({
      name: "GPU 0",
      clock,
      log,
      timeoutMs,
      wakefulness: drowsy,
      back: () => void restoration.settle(),
    });
    settings = new GpuSettings(
      {
        log,
        events: new Events(() => clock.epochMs()),
        journal: new Journal({ clock, log, health: new Health() }),
        reassert: false,
        nextOrder: () => 1,
        lives: () => true,
        enter: () => {},
      },
      {
        id: 0,
        name: "GPU 0",
        key: () => "gpu 0",
        known: () => undefined,
        owes: () => {},
        async call() {
          tries.push(clock.monotonicMs());
          await attempt();
          return {};
        },
      },
    );
    restoration = new Restoration({
      settings,
      lane,
      clock,
      away: () => isAway,
      failed: (error) => failures.push(messageOf(error)),
    });
  });

  /** As if a lease had changed something and had ended. */
  function owe(): void {
    order += 1;
    const layered = { base: { value: { power_limit_mw: 300_000 }, order }, layers: new Map() };
    settings.remember(new Map([["power_limit", { layered, touched: true }]]));
  }

  it("is nothing most of the time, and nothing is done then", async () => {
    expect(await restoration.settle()).toBeUndefined();
    expect(tries).toEqual([]);
  });

  it("is put back at once, and again where something was added meanwhile", async () => {
    owe();
    attempt = async () => void (tries.length < 3 && owe());
    expect(await restoration.settle()).toBeUndefined();
    expect(tries).toEqual([0, 0, 0]);
  });

  it("is one restoration for all who ask at the same time", async () => {
    owe();
    expect(await Promise.all([restoration.settle(), restoration.settle()])).toEqual([undefined, undefined]);
    expect(tries).toHaveLength(1);
  });

  it("is tried again after 1 s, and then after twice as long each time, up to a minute", async () => {
    owe();
    attempt = () => Promise.reject(busy);
    expect(await restoration.settle()).toBe("NVML error: busy");
    await clock.advance(300_000);
    const waits = tries.slice(1).map((at, index) => (at - (tries[index] ?? 0)) / 1_000);
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
    expect(failures).toEqual(tries.map(() => "NVML error: busy"));
  });

  it("is tried no more once it has worked, and the next time waits 1 s again", async () => {
    owe();
    attempt = () => Promise.reject(busy);
    await restoration.settle();
    await clock.advance(3_000);
    attempt = works;
    await clock.advance(4_000);
    expect(tries).toEqual([0, 1_000, 3_000, 7_000]);
    await clock.advance(120_000);
    expect(tries).toHaveLength(4);
    owe();
    attempt = () => Promise.reject(busy);
    await restoration.settle();
    await clock.advance(1_000);
    expect(tries.slice(4)).toEqual([127_000, 128_000]);
  });

  it("is tried at once when something is added, with one try to come and not two", async () => {
    owe();
    attempt = () => Promise.reject(busy);
    await restoration.settle();
    await clock.advance(500);
    await restoration.settle();
    await clock.advance(2_000);
    expect(tries).toEqual([0, 500, 2_500]);
    expect(clock.pending).toBeGreaterThan(0);
    attempt = works;
    await restoration.settle();
    await clock.advance(120_000);
    expect(tries).toEqual([0, 500, 2_500, 2_500]);
  });

  it("waits without a try for a GPU that is away", async () => {
    owe();
    isAway = new ZeusdError("gpu_away", "GPU 0 is away: sick");
    expect(await restoration.settle()).toBe("GPU 0 is away: sick");
    await clock.advance(120_000);
    expect([tries, failures]).toEqual([[], []]);
    isAway = undefined;
    expect(await restoration.settle()).toBeUndefined();
  });

  it.each(["gpu_away", "gpu_lost"] as const)(
    "that went away during the try (%s) is left to its return",
    async (code) => {
      owe();
      attempt = () => Promise.reject(new ZeusdError(code, "GPU 0 is away: sick"));
      expect(await restoration.settle()).toBe("GPU 0 is away: sick");
      await clock.advance(120_000);
      expect([tries, failures]).toEqual([[0], []]);
    },
  );

  it("waits for a lane that is stuck, and is done when that is back", async () => {
    const hung = held("hang");
    lane.run(hung, caller).catch(() => {});
    owe();
    const before = restoration.settle();
    await clock.advance(timeoutMs);
    expect(await before).toMatch(/^GPU 0 is stuck: hang has not returned for 4 s/);
    expect(await restoration.settle()).toMatch(/^GPU 0 is stuck/);
    await clock.advance(120_000);
    expect([tries, failures]).toEqual([[], []]);
    hung.end();
    await clock.advance(0);
    expect(tries).toEqual([clock.monotonicMs()]);
    expect(settings.owes).toBe(false);
  });

  it("is still put back when the daemon stops and all else is refused", async () => {
    const slow = held("slow");
    const running = lane.run(slow, caller).catch(messageOf);
    const waiting = lane.run(quick("waits"), caller).catch(messageOf);
    owe();
    const settling = restoration.settle();
    lane.refuseAll(new ZeusdError("stopping", "The daemon is stopping."));
    expect(await waiting).toBe("The daemon is stopping.");
    expect(await running).toBe("slow on GPU 0 has not returned so far; it may still take effect");
    slow.end();
    expect(await settling).toBeUndefined();
    expect([tries, failures]).toEqual([[0], []]);
    // Nor is one that runs given up.
    owe();
    let release = (): void => {};
    attempt = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const again = restoration.settle();
    lane.refuseAll(new ZeusdError("stopping", "The daemon is stopping."));
    await clock.advance(0);
    release();
    expect(await again).toBeUndefined();
  });

  it("that itself hangs is told after as long as a call may take, and is done if it returns after all", async () => {
    owe();
    let release = (): void => {};
    attempt = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const settling = restoration.settle();
    await clock.advance(timeoutMs);
    expect(await settling).toBe("restoration on GPU 0 has not returned within 4 s; it may still take effect");
    await clock.advance(120_000);
    expect([tries, failures]).toEqual([[0], []]);
    release();
    await clock.advance(120_000);
    expect(tries).toEqual([0]);
    expect(log.lines.at(-1)).toMatch(/GPU 0 works again: restoration on GPU 0 returned after 124\.0 s, with success/);
  });

  it("that itself hung and failed then is tried again at once", async () => {
    owe();
    let fail = (_error: unknown): void => {};
    attempt = () => new Promise((_, reject) => (fail = reject));
    const settling = restoration.settle();
    await clock.advance(timeoutMs);
    await settling;
    attempt = works;
    fail(busy);
    await clock.advance(0);
    expect(tries).toEqual([0, timeoutMs]);
  });
});

describe("a lease that ends", () => {
  let machine: FakeMachine;
  let fleet: Fleet;
  let settings: Settings;
  let lease: Lease;
  const row = operationOf("gpu/set_power_limit");

  async function probe(): Promise<void> {
    fleet.adoptGpus(await machine.backends.gpus.probe(fleet.lostGpus));
  }

  async function write(mw: number, id = 0): Promise<void> {
    const command = { row, parameters: { power_limit_mw: mw }, block: true, devices: [id] };
    await fleet.run(command, fleet.select(command), { leases: new Map([[id, lease]]) });
  }

  async function lose(id: number): Promise<void> {
    machine.takeAway({ id, away: new ZeusdError("driver_error", "NVML error: sick") });
    machine.answer(`gpu ${id}`, "getClocks", new ZeusdError("gpu_lost", "NVML error: lost"));
    const command = { row: operationOf("gpu/get_clocks"), parameters: {}, block: true, devices: [id] };
    await fleet.run(command, fleet.select(command), {}).catch(() => {});
  }

  beforeEach(async () => {
    machine = createFakeMachine();
    rememberSettings(machine);
    ({ fleet, settings } = createFleet());
    await probe();
    const gpus = fleet.gpuMembers.map(({ uuid, name }) => ({ key: uuid ?? "", name }));
    lease = settings.leases.acquire({ peer: createHolder(101).peer }, { gpus, exclusive: false });
  });

  it("on a GPU that is away is put back when that is there again, and on the others at once", async () => {
    await write(250_000, 0);
    await write(250_000, 1);
    await lose(0);
    const outcomes = await fleet.end(lease, "released");
    expect([...outcomes]).toEqual([
      [0, "GPU 0 is away: NVML error: lost"],
      [1, "restored"],
    ]);
    expect(limits(machine)).toEqual(["250000@0", "250000@1", "300000@1"]);
    await clock.advance(120_000);
    await probe();
    expect(limits(machine)).toHaveLength(3);
    machine.takeAway();
    await probe();
    await clock.advance(0);
    expect(limits(machine).slice(3)).toEqual(["300000@0"]);
  });

  it("on a GPU whose lane is stuck is put back when that is back, and on the others at once", async () => {
    await write(250_000, 0);
    await write(250_000, 1);
    const release = machine.hold("gpu 0", "resetMemLockedClocks");
    const command = { row: operationOf("gpu/reset_mem_locked_clocks"), parameters: {}, block: true, devices: [0] };
    void fleet.run(command, fleet.select(command), {}).catch(() => {});
    await clock.advance(timeoutMs);
    const outcomes = await fleet.end(lease, "released");
    expect(outcomes.get(0)).toMatch(/^GPU 0 is stuck: reset_mem_locked_clocks has not returned for 4 s/);
    expect(outcomes.get(1)).toBe("restored");
    await clock.advance(600_000);
    expect(limits(machine)).toEqual(["250000@0", "250000@1", "300000@1"]);
    release();
    await clock.advance(0);
    expect(limits(machine).slice(3)).toEqual(["300000@0"]);
  });

  it("is tried again where the driver fails, which the log says", async () => {
    await write(250_000);
    machine.answer("gpu 0", "setPowerLimit", busy);
    expect((await fleet.end(lease, "released")).get(0)).toBe("NVML error: busy");
    await clock.advance(2_999);
    machine.answer("gpu 0", "setPowerLimit", {});
    await clock.advance(1);
    await clock.advance(120_000);
    expect(limits(machine)).toEqual(["250000@0", "300000@0", "300000@0", "300000@0"]);
    const line = "warn What leases have changed on GPU 0 could not be put back, and is tried again: NVML error: busy";
    expect(log.lines.filter((one) => one.startsWith("warn"))).toEqual([line, `${line} (1 more times in 10 s)`]);
    expect(log.lines).toContain("info GPU 0: power_limit is power_limit_mw=300000 again");
  });

  it("of several settings puts back those that it can, and tries the others again alone", async () => {
    await write(250_000);
    const clocks = operationOf("gpu/set_gpu_locked_clocks");
    const command = { row: clocks, parameters: { min_clock_mhz: 1, max_clock_mhz: 2 }, block: true, devices: [0] };
    await fleet.run(command, fleet.select(command), { leases: new Map([[0, lease]]) });
    machine.answer("gpu 0", "setPowerLimit", busy);
    const before = machine.calls.length;
    await fleet.end(lease, "released");
    machine.answer("gpu 0", "setPowerLimit", {});
    await clock.advance(1_000);
    expect(machine.calls.slice(before).map((call) => call.split(" ")[2])).toEqual([
      "setPowerLimit",
      "resetGpuLockedClocks",
      "setPowerLimit",
    ]);
  });

  it("puts back what its last write left, though that had not returned in time and failed then", async () => {
    await write(250_000);
    let fail = (_error: unknown): void => {};
    machine.answer("gpu 0", "setPowerLimit", () => new Promise((_, reject) => (fail = reject)));
    void write(240_000).catch(() => {});
    await clock.advance(timeoutMs);
    await fleet.end(lease, "released");
    expect(limits(machine)).toEqual(["250000@0", "240000@0"]);
    machine.answer("gpu 0", "setPowerLimit", {});
    fail(busy);
    await clock.advance(0);
    expect(limits(machine)).toEqual(["250000@0", "240000@0", "300000@0"]);
  });
});

describe("a GPU that comes back", () => {
  it("gets what a living lease wants, since it may have been reset, and nothing that was written without one", async () => {
    const machine = createFakeMachine();
    rememberSettings(machine);
    const { fleet, settings } = createFleet();
    fleet.adoptGpus(await machine.backends.gpus.probe(fleet.lostGpus));
    const [gpu] = fleet.gpuMembers;
    const key = gpu?.uuid ?? "";
    const holder = createHolder(101);
    const lease = settings.leases.acquire({ peer: holder.peer }, { gpus: [{ key, name: "GPU 0" }], exclusive: false });
    const limit = operationOf("gpu/set_power_limit");
    await gpu?.run({ row: limit, parameters: { power_limit_mw: 250_000 } }, { lease });
    await gpu?.run({ row: operationOf("gpu/set_persistence_mode"), parameters: { enabled: true } }, {});
    machine.answer("gpu 0", "getClocks", new ZeusdError("gpu_lost", "NVML error: lost"));
    await gpu?.run({ row: operationOf("gpu/get_clocks"), parameters: {} }, {}).catch(() => {});
    const before = machine.calls.length;
    fleet.adoptGpus(await machine.backends.gpus.probe(fleet.lostGpus));
    await clock.advance(0);
    expect(machine.calls.slice(before)).toEqual(['gpu 0 setPowerLimit {"power_limit_mw":250000}']);
    await holder.die();
    expect(limits(machine)).toEqual(["250000@0", "250000@0", "300000@0"]);
  });
});
