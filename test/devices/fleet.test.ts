// The fleet: order on each device, fan-out, and GPUs that come late.
import { describe, expect, it } from "vitest";
import type { Command } from "../../src/contract/command.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import type { AwayGpu, Gpu } from "../../src/contract/gpu.ts";
import { allOperations } from "../../src/contract/operations.ts";
import { Fleet } from "../../src/devices/fleet.ts";
import { keepProbing } from "../../src/devices/probing.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createFakeMachine, type FakeMachine } from "../http/fake-machine.ts";
import { createQuietLog } from "../quiet-log.ts";

function command(name: string, over: Partial<Command> = {}): Command {
  const row = allOperations.find((one) => one.name === name);
  if (!row) throw new Error(`no operation ${name}`);
  return { row, parameters: {}, block: true, ...over };
}

async function createFleet(machine: FakeMachine, clock: FakeClock = createFakeClock()): Promise<Fleet> {
  const fleet = new Fleet({ clock, log: createQuietLog(), gpuPollHz: 20, cpuPollHz: 10 });
  fleet.adoptGpus(await machine.backends.gpus.probe());
  return fleet;
}

/** Makes a call wait until the test lets it end. */
function hold(machine: FakeMachine, device: `gpu ${number}`, call: string): () => void {
  let release = (): void => {};
  const held = new Promise<Record<string, never>>((resolve) => {
    release = () => resolve({});
  });
  machine.answer(device, call, () => held);
  return release;
}

describe("commands", () => {
  it("run in the order in which they came: a blocking one ends after the earlier ones that nobody waited for", async () => {
    const machine = createFakeMachine();
    const fleet = await createFleet(machine);
    const release = hold(machine, "gpu 0", "setPowerLimit");
    for (const power_limit_mw of [1, 2, 3]) {
      await fleet.run(command("set_power_limit", { devices: [0], parameters: { power_limit_mw }, block: false }));
    }
    const last = fleet.run(command("reset_locked_clocks", { devices: [0] }));
    expect(machine.calls).toHaveLength(1);
    release();
    await last;
    expect(machine.calls.map((call) => call.split(" ").slice(2).join(" "))).toEqual([
      'setPowerLimit {"power_limit_mw":1}',
      'setPowerLimit {"power_limit_mw":2}',
      'setPowerLimit {"power_limit_mw":3}',
      "resetLockedClocks {}",
    ]);
  });

  it("wait for nobody on other GPUs, and reads wait behind writes", async () => {
    const machine = createFakeMachine();
    const fleet = await createFleet(machine);
    const release = hold(machine, "gpu 0", "setPowerLimit");
    const write = fleet.run(command("set_power_limit", { devices: [0], parameters: { power_limit_mw: 1 } }));
    await expect(fleet.run(command("get_power_limit", { devices: [1] }))).resolves.toEqual(
      new Map([[1, { power_limit_mw: 300_000 }]]),
    );
    const read = fleet.run(command("get_power_limit", { devices: [0] }));
    expect(machine.calls.some((call) => call.startsWith("gpu 0 getPowerLimit"))).toBe(false);
    release();
    await Promise.all([write, read]);
  });

  it("that a sick GPU fails are told to the log, once for many", async () => {
    const machine = createFakeMachine();
    const log = createQuietLog();
    const fleet = new Fleet({ clock: createFakeClock(), log, gpuPollHz: 20, cpuPollHz: 10 });
    fleet.adoptGpus(await machine.backends.gpus.probe());
    machine.answer("gpu 0", "getPowerLimit", new ZeusdError("driver_error", "NVML error: lost"));
    machine.answer("gpu 1", "getPowerLimit", new ZeusdError("invalid_argument", "NVML error: invalid"));
    for (let count = 0; count < 5; count += 1)
      await expect(fleet.run(command("get_power_limit"))).rejects.toThrow("lost");
    expect(log.lines).toEqual(["warn get_power_limit on GPU 0 failed: NVML error: lost"]);
  });

  it("are done when the fleet is idle, also those that nobody waits for", async () => {
    const machine = createFakeMachine();
    const fleet = await createFleet(machine);
    for (let count = 0; count < 5; count += 1) await fleet.run(command("reset_locked_clocks", { block: false }));
    await fleet.idle();
    expect(machine.calls).toHaveLength(10);
  });
});

describe("GPUs that are missing at the start", () => {
  function backendOf(probes: readonly (readonly (Gpu | AwayGpu)[] | Error)[]): {
    readonly name: string;
    probe(): Promise<readonly (Gpu | AwayGpu)[]>;
  } {
    let count = 0;
    return {
      name: "fake",
      async probe() {
        const found = probes[Math.min(count, probes.length - 1)] ?? [];
        count += 1;
        if (found instanceof Error) throw found;
        return found;
      },
    };
  }

  it("are looked for with back-off until the driver is there (13.2 #16)", async () => {
    const clock = createFakeClock();
    const log = createQuietLog();
    const fleet = new Fleet({ clock, log, gpuPollHz: 20, cpuPollHz: 10 });
    const gpus = await createFakeMachine().backends.gpus.probe();
    const missing = new ZeusdError("driver_error", "NVML error: NVIDIA driver is not loaded");
    const backend = backendOf([missing, missing, missing, gpus]);
    await keepProbing({ backend, clock, log, required: false, adopt: (found) => fleet.adoptGpus(found) });
    expect(fleet.gpus).toEqual([]);
    await clock.advance(5_000 + 10_000 + 20_000 - 1);
    expect(fleet.gpus).toEqual([]);
    await clock.advance(1);
    expect(fleet.gpus.map(({ id }) => id)).toEqual([0, 1]);
    expect(log.lines.at(-1)).toBe("info All GPUs are there now");
    expect(clock.pending).toBe(0);
  });

  it("stop a start that requires the driver, and are not looked for again", async () => {
    const clock = createFakeClock();
    const missing = new ZeusdError("driver_error", "NVML error: NVIDIA driver is not loaded");
    const parts = { backend: backendOf([missing]), clock, log: createQuietLog(), required: true, adopt: () => {} };
    await expect(keepProbing(parts)).rejects.toBe(missing);
    expect(clock.pending).toBe(0);
  });

  it("keep their ids, and take part once they can be opened (13.2 #16)", async () => {
    const clock = createFakeClock();
    const log = createQuietLog();
    const fleet = new Fleet({ clock, log, gpuPollHz: 20, cpuPollHz: 10 });
    const away = { id: 0, away: new ZeusdError("driver_error", "NVML error: lost") };
    const whole = await createFakeMachine().backends.gpus.probe();
    const degraded = await createFakeMachine({ away: [away] }).backends.gpus.probe();
    const backend = backendOf([degraded, whole]);
    await keepProbing({ backend, clock, log, required: false, adopt: (found) => fleet.adoptGpus(found) });
    expect(fleet.gpus.map(({ id }) => id)).toEqual([1]);
    const [driven] = fleet.gpus;
    await clock.advance(5_000);
    expect(fleet.gpus.map(({ id }) => id)).toEqual([0, 1]);
    expect(fleet.gpus[1]).toBe(driven);
    await expect(fleet.run(command("get_power", { devices: [0] }))).resolves.toEqual(
      new Map([[0, { power_mw: 50_000 }]]),
    );
  });
});
