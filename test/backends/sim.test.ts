// The simulated machines: their facts, what their driver refuses, and how their power follows limit, clocks and load.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cards } from "../../src/backends/sim/catalogue.ts";
import { simulatedGpu } from "../../src/backends/sim/gpu.ts";
import { shareAt, steady, type Load } from "../../src/backends/sim/load.ts";
import { simBackend } from "../../src/backends/sim/sim.ts";
import { StartError } from "../../src/contract/errors.ts";
import { gpuOperations } from "../../src/contract/operations.ts";
import { describeGpu } from "./describe-gpu.ts";

const week_ms = 7 * 24 * 3600 * 1000;
const settled_ms = 5000;
const invalid = { code: "invalid_argument", message: "NVML error: a supplied argument was invalid" };
const unsupported = {
  code: "not_supported",
  message: "NVML error: the requested operation is not available on the target device",
};

/** A machine with a clock that only the test moves. */
async function machine(name: string, load?: (gpu: number) => Load) {
  const clock = { ms: 1_000_000 };
  const sim = simBackend(name, { now: () => clock.ms, ...(load && { load }) });
  const gpus = (await sim.gpus.probe(new Set())).map((gpu) => {
    if ("away" in gpu) throw new Error(`GPU ${gpu.id} is away`);
    // Every row that a call answers is there: this is what the cast below rests on.
    for (const [call, { by }] of Object.entries(gpuOperations)) if (by === "call") expect(gpu).toHaveProperty(call);
    return gpu as Required<typeof gpu>;
  });
  return { gpus, cpus: await sim.cpus(), advance: (ms: number) => (clock.ms += ms), sim };
}

async function oneGpu(name: string, load?: Load) {
  const { gpus, advance } = await machine(name, load && (() => load));
  const [gpu] = gpus;
  if (!gpu) throw new Error(`${name} has no GPU`);
  const power_w = async () => (await gpu.getPower({})).power_mw / 1000;
  const energy_j = async () => (await gpu.getCumulativeEnergy({})).energy_mj / 1000;
  return { gpu, advance, power_w, energy_j };
}

for (const [model, { lacks }] of cards) {
  if (!lacks) describeGpu(`a simulated ${model}`, async () => ({ gpu: (await oneGpu(`1x${model}`)).gpu }));
}

describe("the machine", () => {
  test("has as many GPUs as its name says, with ids from 0", async () => {
    for (const count of [1, 2, 9, 16]) {
      const { gpus } = await machine(`${count}xh100`);
      expect(gpus.map(({ id }) => id)).toEqual([...Array.from({ length: count }).keys()]);
    }
  });

  test("says in every GPU's name that it is simulated", async () => {
    for (const model of cards.keys()) {
      const { gpu } = await oneGpu(`1x${model}`);
      expect(gpu.name).toMatch(/^(NVIDIA|Tesla) .+ \(simulated\)$/);
    }
  });

  test.each(["", "h100", "0xh100", "17xh100", "100xh100", "8xfoo", "8x", "x8", "8xconstructor", "-1xh100", "8 xh100"])(
    "%j is refused with a sentence that names what is allowed",
    (name) => {
      expect(() => simBackend(name)).toThrow(StartError);
      expect(() => simBackend(name)).toThrow(/1 to 16.*h100.*rtx4090/);
    },
  );

  test("gives every GPU a UUID and a PCI address of its own, the same at every start", async () => {
    const [one, other] = [await machine("16xa100"), await machine("16xa100")];
    const names = (gpus: typeof one.gpus) => gpus.map(({ uuid, pci_address }) => [uuid, pci_address]);
    expect(names(one.gpus)).toEqual(names(other.gpus));
    expect(new Set(names(one.gpus).flat()).size).toBe(32);
    for (const { uuid, pci_address } of one.gpus) {
      expect(uuid).toMatch(/^GPU-[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
      expect(pci_address).toMatch(/^[\da-f]{4}:[\da-f]{2}:[\da-f]{2}\.0$/);
    }
  });

  test("answers a second probe with the same records", async () => {
    const { sim } = await machine("4xh100");
    const [first, second] = [await sim.gpus.probe(new Set()), await sim.gpus.probe(new Set())];
    expect(second.every((gpu, index) => gpu === first[index])).toBe(true);
  });

  test("has two CPU packages from four GPUs on, else one, with memory", async () => {
    for (const [name, packages] of [
      ["1xl4", 1],
      ["2xh200", 1],
      ["4xa100", 2],
      ["8xb200", 2],
    ] as const) {
      const { cpus } = await machine(name);
      expect(cpus.map(({ id, dram_available }) => [id, dram_available])).toEqual(
        [...Array.from({ length: packages }).keys()].map((id) => [id, true]),
      );
    }
  });
});

describe("the driver", () => {
  test("has a default limit within its constraints, and more than the card idles at", async () => {
    for (const [model, card] of cards) {
      const { gpu } = await oneGpu(`1x${model}`);
      const { min_power_limit_mw, max_power_limit_mw } = await gpu.getPowerLimitConstraints({});
      const { power_limit_mw } = await gpu.getPowerLimit({});
      expect(power_limit_mw).toBeGreaterThanOrEqual(min_power_limit_mw);
      expect(power_limit_mw).toBeLessThanOrEqual(max_power_limit_mw);
      expect(min_power_limit_mw).toBeGreaterThan(card.idle_w * 1000);
    }
  });

  test("takes limits within the constraints, ends included, and refuses others without changing anything", async () => {
    const { gpu } = await oneGpu("1xh100");
    for (const power_limit_mw of [200_000, 333_333, 700_000]) {
      await gpu.setPowerLimit({ power_limit_mw });
      expect(await gpu.getPowerLimit({})).toEqual({ power_limit_mw });
    }
    for (const power_limit_mw of [0, 199_999, 700_001, 4_294_967_295]) {
      await expect(gpu.setPowerLimit({ power_limit_mw })).rejects.toMatchObject(invalid);
    }
    expect(await gpu.getPowerLimit({})).toEqual({ power_limit_mw: 700_000 });
  });

  test("refuses clocks whose minimum is above their maximum, and takes any others, within its range or not", async () => {
    const { gpu } = await oneGpu("1xh100");
    const wrong = { min_clock_mhz: 1001, max_clock_mhz: 1000 };
    await expect(gpu.setGpuLockedClocks(wrong)).rejects.toMatchObject(invalid);
    await expect(gpu.setMemLockedClocks(wrong)).rejects.toMatchObject(invalid);
    for (const [min_clock_mhz, max_clock_mhz] of [
      [0, 1],
      [1000, 1000],
      [9000, 4_294_967_295],
    ] as const) {
      await gpu.setGpuLockedClocks({ min_clock_mhz, max_clock_mhz });
      await gpu.setMemLockedClocks({ min_clock_mhz, max_clock_mhz });
    }
  });

  test("remembers the persistence mode of each GPU", async () => {
    const { gpus } = await machine("2xh100");
    await gpus[1]?.setPersistenceMode({ enabled: true });
    expect(await gpus[0]?.getPersistenceMode({})).toEqual({ enabled: false });
    expect(await gpus[1]?.getPersistenceMode({})).toEqual({ enabled: true });
  });

  test("of a card before Ampere cannot lock memory clocks, but can lock and unlock the GPU's", async () => {
    const { gpu, advance, power_w } = await oneGpu("1xv100", steady(1));
    await expect(gpu.setMemLockedClocks({ min_clock_mhz: 800, max_clock_mhz: 877 })).rejects.toMatchObject(unsupported);
    await expect(gpu.resetMemLockedClocks({})).rejects.toMatchObject(unsupported);
    advance(settled_ms);
    const unlocked_w = await power_w();
    await gpu.setGpuLockedClocks({ min_clock_mhz: 200, max_clock_mhz: 500 });
    advance(settled_ms);
    expect(await power_w()).toBeLessThan(unlocked_w - 10);
    await gpu.resetGpuLockedClocks({});
    advance(settled_ms);
    expect(await power_w()).toBeCloseTo(unlocked_w, 2);
  });

  test("of a card before Volta has no energy counter and says so", async () => {
    const { gpu } = await oneGpu("1xp100");
    expect(gpu.cumulative_energy_available).toBe(false);
    await expect(gpu.getCumulativeEnergy({})).rejects.toMatchObject(unsupported);
    await expect(gpu.setGpuLockedClocks({ min_clock_mhz: 600, max_clock_mhz: 700 })).rejects.toMatchObject(unsupported);
  });
});

test("refuses the reads that its card lacks", async () => {
  const lacks = ["getDefaultPowerLimit", "getClocks", "getSupportedClocks", "getThrottleReasons"] as const;
  for (const card of cards.values()) {
    const gpu = simulatedGpu({ machine: "1", id: 0, card: { ...card, lacks }, now: () => 0, load: steady(1) });
    for (const call of lacks) await expect(gpu[call]?.({})).rejects.toMatchObject(unsupported);
  }
});

describe("clocks", () => {
  test("go from the card's highest to its lowest in steps of 15 MHz", async () => {
    for (const [model, { gpu_clock_mhz, memory_clocks_mhz }] of cards) {
      const { gpu } = await oneGpu(`1x${model}`);
      const supported = await gpu.getSupportedClocks({});
      expect(supported.memory_clocks_mhz).toEqual(memory_clocks_mhz);
      const clocks_mhz = supported.gpu_clocks_mhz;
      expect([clocks_mhz[0], clocks_mhz.at(-1)]).toEqual([gpu_clock_mhz.max, gpu_clock_mhz.min]);
      for (const [index, clock_mhz] of clocks_mhz.slice(0, -1).entries())
        expect(clock_mhz).toBe(gpu_clock_mhz.max - 15 * index);
    }
  });

  test("are the lowest of an idle GPU, and the highest of one at work that nothing holds down", async () => {
    const [idle, busy] = [await oneGpu("1xrtx3090", steady(0)), await oneGpu("1xrtx3090", steady(0.8))];
    expect(await idle.gpu.getClocks({})).toEqual({ gpu_clock_mhz: 210, memory_clock_mhz: 405 });
    expect(await busy.gpu.getClocks({})).toEqual({ gpu_clock_mhz: 2100, memory_clock_mhz: 9751 });
  });

  test("follow the locks, at the next one that the card has, and come back when they are unlocked", async () => {
    const { gpu } = await oneGpu("1xrtx3090", steady(0.8));
    await gpu.setGpuLockedClocks({ min_clock_mhz: 300, max_clock_mhz: 1400 });
    await gpu.setMemLockedClocks({ min_clock_mhz: 405, max_clock_mhz: 6000 });
    expect(await gpu.getClocks({})).toEqual({ gpu_clock_mhz: 1395, memory_clock_mhz: 5001 });
    await gpu.resetGpuLockedClocks({});
    await gpu.resetMemLockedClocks({});
    expect(await gpu.getClocks({})).toEqual({ gpu_clock_mhz: 2100, memory_clock_mhz: 9751 });
  });

  test("of the GPU fall with the power limit, and with them what it would draw", async () => {
    const { gpu } = await oneGpu("1xh100", steady(1));
    const clocks_mhz: number[] = [];
    for (const power_limit_mw of [700_000, 500_000, 350_000, 200_000]) {
      await gpu.setPowerLimit({ power_limit_mw });
      clocks_mhz.push((await gpu.getClocks({})).gpu_clock_mhz);
    }
    expect(clocks_mhz).toEqual([...new Set(clocks_mhz)].toSorted((one, other) => other - one));
    expect(clocks_mhz[0]).toBeLessThan(1980);
    expect(clocks_mhz.at(-1)).toBeGreaterThanOrEqual(210);
  });

  test("locked to what the power limit allows draw what the limit does, but for one step", async () => {
    const { gpu, advance, power_w } = await oneGpu("1xh100", steady(1));
    await gpu.setPowerLimit({ power_limit_mw: 400_000 });
    const { gpu_clock_mhz } = await gpu.getClocks({});
    await gpu.setPowerLimit({ power_limit_mw: 700_000 });
    await gpu.setGpuLockedClocks({ min_clock_mhz: gpu_clock_mhz, max_clock_mhz: gpu_clock_mhz });
    advance(settled_ms);
    expect(await power_w()).toBeLessThanOrEqual(400);
    expect(await power_w()).toBeGreaterThan(390);
  });
});

describe("a throttle reason", () => {
  const none = {
    gpu_idle: false,
    applications_clocks_setting: false,
    sw_power_cap: false,
    hw_slowdown: false,
    sync_boost: false,
    sw_thermal_slowdown: false,
    hw_thermal_slowdown: false,
    hw_power_brake_slowdown: false,
    display_clock_setting: false,
  };

  test("is not there while a GPU works at less than its limit and with unlocked clocks", async () => {
    expect(await (await oneGpu("1xh100", steady(0.5))).gpu.getThrottleReasons({})).toEqual(none);
  });

  test("is that nothing runs", async () => {
    const { gpu } = await oneGpu("1xh100", steady(0));
    await gpu.setPowerLimit({ power_limit_mw: 200_000 });
    expect(await gpu.getThrottleReasons({})).toEqual({ ...none, gpu_idle: true });
  });

  test("is the power limit for as long as it is below what the GPU asks for", async () => {
    const { gpu } = await oneGpu("1xh100", steady(0.5));
    await gpu.setPowerLimit({ power_limit_mw: 300_000 });
    expect(await gpu.getThrottleReasons({})).toEqual({ ...none, sw_power_cap: true });
    await gpu.setPowerLimit({ power_limit_mw: 500_000 });
    expect(await gpu.getThrottleReasons({})).toEqual(none);
  });

  test("is the clocks that are set for as long as they are locked below the highest", async () => {
    const { gpu } = await oneGpu("1xh100", steady(0.5));
    await gpu.setGpuLockedClocks({ min_clock_mhz: 300, max_clock_mhz: 1400 });
    expect(await gpu.getThrottleReasons({})).toEqual({ ...none, applications_clocks_setting: true });
    await gpu.setGpuLockedClocks({ min_clock_mhz: 300, max_clock_mhz: 1980 });
    expect(await gpu.getThrottleReasons({})).toEqual(none);
  });

  test("comes and goes with the load", async () => {
    const load: Load = [
      { share: 1, lasts_ms: 700 },
      { share: 0.5, lasts_ms: 200 },
      { share: 0, lasts_ms: 100 },
    ];
    const { gpu, advance } = await oneGpu("1xh100", load);
    const seen: unknown[] = [];
    for (const ms of [0, 699, 1, 199, 1, 99, 1]) {
      advance(ms);
      seen.push(await gpu.getThrottleReasons({}));
    }
    const [capped, idle] = [
      { ...none, sw_power_cap: true },
      { ...none, gpu_idle: true },
    ];
    expect(seen).toEqual([capped, capped, none, none, idle, idle, capped]);
    expect(shareAt(load, 1000 * 1000 + 950)).toBe(0);
  });
});

describe("power", () => {
  test("starts idle and approaches what the load asks for", async () => {
    const { advance, power_w } = await oneGpu("1xh100", steady(0.5));
    const readings = [await power_w()];
    for (let step = 0; step < 20; step++) {
      advance(100);
      readings.push(await power_w());
    }
    expect(readings[0]).toBe(72);
    expect(readings).toEqual(readings.toSorted((one, other) => one - other));
    expect(readings.at(-1)).toBeCloseTo(72 + 0.5 * (770 - 72), 1);
  });

  test("of an idle GPU stays where it is", async () => {
    const { advance, power_w, energy_j } = await oneGpu("1xa100", steady(0));
    advance(10_000);
    expect(await power_w()).toBe(60);
    expect(await energy_j()).toBeCloseTo(600, 6);
  });

  test("falls when the GPU clocks are locked lower, and comes back when they are unlocked", async () => {
    const { gpu, advance, power_w } = await oneGpu("1xa100", steady(1));
    const settled = async () => {
      advance(settled_ms);
      return power_w();
    };
    const unlocked_w = await settled();
    await gpu.setGpuLockedClocks({ min_clock_mhz: 210, max_clock_mhz: 900 });
    const at900_w = await settled();
    await gpu.setGpuLockedClocks({ min_clock_mhz: 300, max_clock_mhz: 300 });
    const at300_w = await settled();
    await gpu.resetGpuLockedClocks({});
    expect(at900_w).toBeLessThan(0.8 * unlocked_w);
    expect(at300_w).toBeLessThan(0.8 * at900_w);
    expect(await settled()).toBeCloseTo(unlocked_w, 2);
  });

  test("falls when the memory clock is locked lower, on cards that have a lower one", async () => {
    const { gpu, advance, power_w } = await oneGpu("1xrtx3090", steady(0.6));
    advance(settled_ms);
    const unlocked_w = await power_w();
    await gpu.setMemLockedClocks({ min_clock_mhz: 405, max_clock_mhz: 5001 });
    advance(settled_ms);
    expect(await power_w()).toBeLessThan(unlocked_w - 10);
    await gpu.resetMemLockedClocks({});
    advance(settled_ms);
    expect(await power_w()).toBeCloseTo(unlocked_w, 2);
  });

  test("differs from GPU to GPU under the default load, and is the same at every start", async () => {
    const machines = [await machine("8xh100"), await machine("8xh100")];
    const [first, second] = await Promise.all(
      machines.map(({ gpus, advance }) => {
        advance(12_345);
        return Promise.all(gpus.map(async (gpu) => (await gpu.getPower({})).power_mw));
      }),
    );
    expect(new Set(first).size).toBe(8);
    expect(second).toEqual(first);
  });
});

type Step =
  | { readonly do: "advance"; readonly ms: number }
  | { readonly do: "limit"; readonly mw: number }
  | { readonly do: "gpu" | "memory"; readonly low: number; readonly high: number }
  | { readonly do: "reset" };

const advances = fc.record({ do: fc.constant("advance" as const), ms: fc.double({ min: 0, max: 3000, noNaN: true }) });
const clocks = fc
  .tuple(fc.integer({ min: 0, max: 12_000 }), fc.integer({ min: 1, max: 12_000 }))
  .map(([one, other]) => ({ low: Math.min(one, other), high: Math.max(one, other) }));
const changes: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("limit" as const), mw: fc.integer({ min: 150_000, max: 600_000 }) }),
  clocks.map((range) => ({ do: "gpu" as const, ...range })),
  clocks.map((range) => ({ do: "memory" as const, ...range })),
  fc.constant({ do: "reset" as const }),
);
const steps = fc.array(fc.oneof(advances, changes), { maxLength: 12 });
const phase = fc.record({
  share: fc.double({ min: 0, max: 1, noNaN: true }),
  lasts_ms: fc.integer({ min: 20, max: 900 }),
});
const loads: fc.Arbitrary<Load> = fc.array(phase, { minLength: 1, maxLength: 5 });

type Bench = Awaited<ReturnType<typeof oneGpu>>;

async function take({ gpu, advance }: Bench, step: Step): Promise<void> {
  if (step.do === "advance") advance(step.ms);
  else if (step.do === "limit") await gpu.setPowerLimit({ power_limit_mw: step.mw });
  else if (step.do === "reset") {
    await gpu.resetGpuLockedClocks({});
    await gpu.resetMemLockedClocks({});
  } else {
    const range = { min_clock_mhz: step.low, max_clock_mhz: step.high };
    await (step.do === "gpu" ? gpu.setGpuLockedClocks(range) : gpu.setMemLockedClocks(range));
  }
}

describe("whatever is set, reset and waited for,", () => {
  test("energy is the integral of power", async () => {
    await fc.assert(
      fc.asyncProperty(loads, steps, async (load, script) => {
        const bench = await oneGpu("1xrtx4090", load);
        let integral_j = 0;
        let span_s = 0;
        for (const step of script) {
          if (step.do !== "advance") await take(bench, step);
          else {
            const pieces = Math.ceil(step.ms / 2);
            for (let piece = 0; piece < pieces; piece++) {
              const before_w = await bench.power_w();
              bench.advance(step.ms / pieces);
              integral_j += ((before_w + (await bench.power_w())) / 2) * (step.ms / pieces / 1000);
            }
            span_s += step.ms / 1000;
          }
        }
        // The trapezoids miss the kinks where the load changes; at most 50 times a second, 2 mJ each.
        expect(Math.abs((await bench.energy_j()) - integral_j)).toBeLessThan(0.002 + span_s * 0.1);
      }),
      { numRuns: 40 },
    );
  });

  test("energy never falls", async () => {
    await fc.assert(
      fc.asyncProperty(loads, steps, async (load, script) => {
        const bench = await oneGpu("1xrtx4090", load);
        let before_j = await bench.energy_j();
        for (const step of script) {
          await take(bench, step);
          const now_j = await bench.energy_j();
          expect(now_j).toBeGreaterThanOrEqual(before_j);
          before_j = now_j;
        }
      }),
    );
  });

  test("settled power is not above the limit", async () => {
    await fc.assert(
      fc.asyncProperty(loads, steps, fc.array(advances, { maxLength: 10 }), async (load, script, later) => {
        const bench = await oneGpu("1xrtx4090", load);
        for (const step of script) await take(bench, step);
        bench.advance(settled_ms);
        const { power_limit_mw } = await bench.gpu.getPowerLimit({});
        for (const step of later) {
          await take(bench, step);
          expect((await bench.gpu.getPower({})).power_mw).toBeLessThanOrEqual(power_limit_mw);
        }
      }),
    );
  });

  test("a wait in two parts, with a look or the same setting again between them, ends where one wait does", async () => {
    const long = fc.double({ min: 0, max: week_ms, noNaN: true });
    await fc.assert(
      fc.asyncProperty(
        loads,
        steps,
        long,
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (load, script, ms, part) => {
          const [whole, split] = [await oneGpu("1xrtx4090", load), await oneGpu("1xrtx4090", load)];
          for (const step of script) {
            await take(whole, step);
            await take(split, step);
            await split.energy_j();
          }
          whole.advance(ms);
          split.advance(ms * part);
          await split.gpu.setPowerLimit(await split.gpu.getPowerLimit({}));
          split.advance(ms - ms * part);
          const energy_j = await whole.energy_j();
          // The counters are cut off to 1 mJ and 1 mW; the clock itself is rounded after a week.
          expect(Math.abs((await split.energy_j()) - energy_j)).toBeLessThan(0.0015 + energy_j * 1e-10);
          expect(Math.abs((await split.power_w()) - (await whole.power_w()))).toBeLessThan(0.0025);
        },
      ),
    );
  });
});

describe("energy", () => {
  test("of a week that nobody looked at is that of a week that was looked at every minute", async () => {
    const [unseen, seen] = [await oneGpu("1xh100"), await oneGpu("1xh100")];
    unseen.advance(week_ms);
    for (let minute = 0; minute < 7 * 24 * 60; minute++) {
      seen.advance(60_000);
      await seen.gpu.setPowerLimit({ power_limit_mw: 700_000 });
    }
    const energy_j = await seen.energy_j();
    expect(energy_j).toBeGreaterThan((week_ms / 1000) * 300);
    expect(Math.abs((await unseen.energy_j()) - energy_j) / energy_j).toBeLessThan(1e-9);
  });

  test("of the CPU and its memory is counted in µJ, and only what is asked for is told", async () => {
    const { cpus, advance } = await machine("4xh100");
    advance(60_000);
    for (const cpu of cpus) {
      const both = await cpu.getCumulativeEnergy({ cpu: true, dram: true });
      expect(Number(both.cpu_energy_uj)).toBeGreaterThan(60 * 60e6);
      expect(Number(both.dram_energy_uj)).toBeGreaterThan(60 * 8e6);
      expect(await cpu.getCumulativeEnergy({ cpu: true, dram: false })).toEqual({ ...both, dram_energy_uj: null });
      expect(await cpu.getCumulativeEnergy({ cpu: false, dram: true })).toEqual({ ...both, cpu_energy_uj: null });
      expect(await cpu.supportsDramEnergy({})).toEqual({ dram_available: true });
    }
    expect(await cpus[0]?.getCumulativeEnergy({ cpu: true, dram: true })).not.toEqual(
      await cpus[1]?.getCumulativeEnergy({ cpu: true, dram: true }),
    );
  });
});
