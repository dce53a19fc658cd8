// What unlocks all clocks: two operations in one, both of which are tried, with nothing in between.
import { beforeEach, describe, expect, it } from "vitest";
import type { Command, Ending, Witness } from "../../src/contract/command.ts";
import { CommandFailed, ZeusdError } from "../../src/contract/errors.ts";
import type { Values } from "../../src/contract/field.ts";
import { operationOf } from "../../src/contract/rights.ts";
import type { Fleet } from "../../src/devices/fleet.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createFakeMachine, type FakeMachine, type FakeMachineOptions } from "../http/fake-machine.ts";
import { startFleetOn } from "../http/test-fleet.ts";
import { createQuietLog } from "../quiet-log.ts";

const sick = new ZeusdError("driver_error", "NVML error: sick");
const refused = new ZeusdError("not_supported", "NVML error: not supported");
const lost = new ZeusdError("gpu_lost", "NVML error: device fell off the bus or has otherwise become inacessible");
const gpuClocks = "gpu 0 resetGpuLockedClocks {}";
const memoryClocks = "gpu 0 resetMemLockedClocks {}";

let machine: FakeMachine;
let clock: FakeClock;
let fleet: Fleet;

beforeEach(() => setUp());

async function setUp(options: FakeMachineOptions = {}): Promise<void> {
  machine = createFakeMachine(options);
  clock = createFakeClock();
  fleet = await startFleetOn(machine, clock, createQuietLog());
}

function commandOf(name: string, parameters: Values = {}): Command {
  return { row: operationOf(`gpu/${name}`), devices: [0], parameters, block: true };
}

/** The code of GPU 0's error, or `done`. */
async function run(name: string, parameters: Values = {}, witness?: Witness): Promise<string> {
  const command = commandOf(name, parameters);
  const caller = { arrivedMs: clock.monotonicMs(), gone: () => false };
  try {
    await fleet.run(command, fleet.select(command), { caller, witness });
    return "done";
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    return error.errors.get(0)?.code ?? "none";
  }
}

describe("reset_locked_clocks", () => {
  it("unlocks the GPU's clocks, and then the memory's", async () => {
    expect(await run("reset_locked_clocks")).toBe("done");
    expect(machine.calls).toEqual([gpuClocks, memoryClocks]);
  });

  it("unlocks the memory's clocks even when the GPU's stay locked, and tells the GPU's error", async () => {
    for (const [first, second] of [
      [sick, undefined],
      [sick, refused],
      [refused, sick],
    ]) {
      await setUp();
      machine.answer("gpu 0", "resetGpuLockedClocks", first ?? {});
      machine.answer("gpu 0", "resetMemLockedClocks", second ?? {});
      expect(await run("reset_locked_clocks")).toBe(first?.code);
      expect(machine.calls).toEqual([gpuClocks, memoryClocks]);
    }
  });

  it("tells the memory's error when only its clocks stay locked", async () => {
    machine.answer("gpu 0", "resetMemLockedClocks", refused);
    expect(await run("reset_locked_clocks")).toBe("not_supported");
    expect(machine.calls).toEqual([gpuClocks, memoryClocks]);
  });

  it.each([
    ["resetGpuLockedClocks", memoryClocks],
    ["resetMemLockedClocks", gpuClocks],
  ])("of a GPU that lacks %s is refused by a dry run, and else does the other part", async (lack, left) => {
    await setUp({ lacks: [lack] });
    const command = commandOf("reset_locked_clocks");
    expect(() => fleet.rehearse(command, fleet.select(command))).toThrow(/_locked_clocks is not supported by GPU 0/);
    expect(machine.calls).toEqual([]);
    expect(await run("reset_locked_clocks")).toBe("not_supported");
    expect(machine.calls).toEqual([left]);
  });

  it("asks a GPU for nothing more that its first part has found to be lost", async () => {
    machine.answer("gpu 0", "resetGpuLockedClocks", lost);
    expect(await run("reset_locked_clocks")).toBe("gpu_lost");
    expect(machine.calls).toEqual([gpuClocks]);
  });

  it("has nothing run in its lane between the two", async () => {
    const release = machine.hold("gpu 0", "resetGpuLockedClocks");
    const outcomes = [
      run("reset_locked_clocks"),
      run("get_persistence_mode"),
      run("set_power_limit", { power_limit_mw: 1 }),
      run("reset_locked_clocks"),
    ];
    await clock.advance(10);
    expect(machine.calls).toEqual([gpuClocks]);
    release();
    expect(await Promise.all(outcomes)).toEqual(["done", "done", "done", "done"]);
    expect(machine.calls).toEqual([
      gpuClocks,
      memoryClocks,
      "gpu 0 getPersistenceMode {}",
      'gpu 0 setPowerLimit {"power_limit_mw":1}',
      gpuClocks,
      memoryClocks,
    ]);
  });

  it("is one command to its caller, whose deadline is for both parts, and to the log and the lane", async () => {
    machine.hold("gpu 0", "resetMemLockedClocks");
    const outcome = run("reset_locked_clocks");
    await clock.advance(1_500);
    expect(fleet.running()).toEqual(["reset_locked_clocks on GPU 0 (1.5 s)"]);
    await clock.advance(2_500);
    expect(await outcome).toBe("deadline");
    expect(await run("get_power_limit")).toBe("lane_stuck");
  });

  it("is heard of once by its witness, with what both parts were before", async () => {
    const endings: Ending[] = [];
    const witness: Witness = { ended: (ending) => void endings.push(ending) };
    await run("set_gpu_locked_clocks", { min_clock_mhz: 1, max_clock_mhz: 2 });
    await run("set_mem_locked_clocks", { min_clock_mhz: 3, max_clock_mhz: 4 });
    machine.answer("gpu 0", "resetMemLockedClocks", sick);
    await run("reset_locked_clocks", {}, witness);
    await clock.advance(2_000);
    expect(endings).toMatchObject([
      {
        error: sick,
        before: {
          gpu_clocks: { min_clock_mhz: 1, max_clock_mhz: 2 },
          memory_clocks: { min_clock_mhz: 3, max_clock_mhz: 4 },
        },
      },
    ]);
  });

  it("has what is known of each of its settings change by the result of its own part", async () => {
    await run("set_gpu_locked_clocks", { min_clock_mhz: 1, max_clock_mhz: 2 });
    await run("set_mem_locked_clocks", { min_clock_mhz: 3, max_clock_mhz: 4 });
    const [member] = fleet.gpuMembers;
    const known = (): unknown =>
      (["gpu_clocks", "memory_clocks"] as const).map((setting) => member?.lastKnown.setting(setting)?.values);
    machine.answer("gpu 0", "resetMemLockedClocks", refused);
    await run("reset_locked_clocks");
    expect(known()).toEqual([{}, { min_clock_mhz: 3, max_clock_mhz: 4 }]);
    machine.answer("gpu 0", "resetMemLockedClocks", sick);
    await run("reset_locked_clocks");
    expect(known()).toEqual([{}, undefined]);
  });
});
