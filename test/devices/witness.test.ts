// Witnesses: each write is accounted for on each of its GPUs, once, and once more where it returns after it was given up.
import { beforeEach, describe, expect, it } from "vitest";
import type { Caller, Command, Ending, Known, ReadBack, Results, Witness } from "../../src/contract/command.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import type { Values } from "../../src/contract/field.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { Fleet } from "../../src/devices/fleet.ts";
import { capacity } from "../../src/devices/lane.ts";
import { drowsy } from "../../src/devices/wakefulness.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createFakeMachine, type FakeMachine, type FakeMachineOptions } from "../http/fake-machine.ts";
import { createSettings } from "../http/test-fleet.ts";
import { createQuietLog } from "../quiet-log.ts";

const timeoutMs = 4_000;
const lost = new ZeusdError("gpu_lost", "NVML error: device fell off the bus or has otherwise become inacessible");
const refusal = new ZeusdError("invalid_argument", "NVML error: a supplied argument was invalid");

let machine: FakeMachine;
let clock: FakeClock;
let fleet: Fleet;
/** All that the witness has heard. */
let endings: Told[];

interface Told extends Ending {
  readonly readBack?: ReadBack | undefined;
}

let witness: Witness;

function witnessFor(told: Told[]): Witness {
  return { ended: (ending, readBack) => void told.push({ ...ending, readBack }) };
}

beforeEach(() => setUp());

async function setUp(options: FakeMachineOptions = {}): Promise<void> {
  machine = createFakeMachine(options);
  clock = createFakeClock();
  const log = createQuietLog();
  endings = [];
  witness = witnessFor(endings);
  fleet = new Fleet({
    clock,
    log,
    gpuPollHz: 20,
    cpuPollHz: 10,
    timeoutMs,
    wakefulness: drowsy,
    ...createSettings(clock, log),
    lost: () => {},
    fatal: () => {},
  });
  await probe();
}

async function probe(): Promise<void> {
  fleet.adoptGpus(await machine.backends.gpus.probe(fleet.lostGpus));
}

interface Asked {
  readonly devices?: readonly number[];
  readonly parameters?: Values;
  readonly block?: boolean;
  readonly gone?: Caller["gone"];
  /** Absent where it is the usual one; none where nobody wants to know. */
  readonly witnessed?: Witness | "none";
}

/** Runs a write, by default one of GPU 0's power limit that waits; settles in any case. */
function write(
  name = "set_power_limit",
  { gone = () => false, witnessed = witness, ...over }: Asked = {},
): Promise<Results | string> {
  const row = operationOf(`gpu/${name}`);
  const parameters = row.name === "set_power_limit" ? { power_limit_mw: 200_000 } : {};
  const command: Command = { row, devices: [0], parameters, block: true, ...over };
  const caller = { arrivedMs: clock.monotonicMs(), gone };
  return fleet
    .run(command, fleet.select(command), { caller, witness: witnessed === "none" ? undefined : witnessed })
    .catch((error: unknown) => String(error));
}

interface Heard {
  readonly gpu: number;
  /** The code of the error, or what became of the reading back. */
  readonly how: string;
  readonly late: boolean;
}

const howOf = ({ error, readBack }: Told): string =>
  error instanceof ZeusdError ? error.code : `ok, ${readBack?.kind ?? "nothing is said of reading back"}`;

/** What the witness has heard so far. */
function heard(): readonly Heard[] {
  return endings.map((ending) => ({ gpu: ending.target.id, how: howOf(ending), late: ending.late }));
}

const onTime = (how: string, gpu = 0): Heard => ({ gpu, how, late: false });
const late = (how: string, gpu = 0): Heard => ({ gpu, how, late: true });

/** Lets everything come to its end. */
async function settle(): Promise<void> {
  await clock.advance(2_000);
}

/** The driver's calls of a GPU, without their parameters. */
const calls = (gpu = 0): readonly string[] =>
  machine.calls.filter((call) => call.startsWith(`gpu ${gpu} `)).map((call) => String(call.split(" ")[2]));

/** Makes a call of a GPU fail or succeed when the test says so. */
function hold(gpu = 0, call = "setPowerLimit"): { succeed(): void; fail(error: Error): void } {
  let succeed = (): void => {};
  let fail = (_error: Error): void => {};
  const held = new Promise<Values>((resolve, reject) => {
    succeed = () => resolve({});
    fail = reject;
  });
  machine.answer(`gpu ${gpu}`, call, () => held);
  return { succeed, fail };
}

describe("a write that waits is heard of once when it", () => {
  it("succeeds, after its value was read back, with the time at which it ended", async () => {
    await clock.advance(1_000);
    await write();
    expect(endings).toEqual([]);
    await settle();
    expect(heard()).toEqual([onTime("ok, done")]);
    expect(endings[0]).toMatchObject({
      target: { kind: "gpu", id: 0, name: "GPU 0", model: "Fake GPU 0" },
      endedMs: 1_000,
      readBack: {
        set: { power_limit: { power_limit_mw: 300_000 } },
        enforced: { power_limit: { power_limit_mw: 300_000 } },
      },
    });
  });

  it("succeeds where the driver cannot tell what is set, at once", async () => {
    await write("set_gpu_locked_clocks", { parameters: { min_clock_mhz: 1, max_clock_mhz: 2 } });
    expect(heard()).toEqual([onTime("ok, untold")]);
  });

  it("is refused by the driver, after what is set now was read back: some calls fail half-way", async () => {
    machine.answer("gpu 0", "setPowerLimit", refusal);
    await write();
    await settle();
    expect(heard()).toEqual([onTime("invalid_argument")]);
    expect(endings[0]).toMatchObject({
      error: refusal,
      endedMs: 0,
      readBack: { kind: "done", set: { power_limit: { power_limit_mw: 300_000 } } },
    });
    await settle();
    expect(endings).toHaveLength(1);
  });

  it("is not supported by the GPU", async () => {
    await setUp({ lacks: ["setPowerLimit"] });
    await write();
    await settle();
    expect(heard()).toEqual([onTime("not_supported")]);
  });

  it("fails in a way that nobody foresaw", async () => {
    const unforeseen = new TypeError("cannot read properties of undefined");
    machine.answer("gpu 0", "setPowerLimit", unforeseen);
    await write();
    await settle();
    expect(endings).toMatchObject([{ error: unforeseen, late: false }]);
  });

  it("is for several GPUs: once for each, whatever becomes of the others", async () => {
    machine.answer("gpu 0", "setPowerLimit", refusal);
    await write("set_power_limit", { devices: [0, 1] });
    await settle();
    expect(heard()).toEqual([onTime("invalid_argument"), onTime("ok, done", 1)]);
  });

  it("waits behind a call that does not return, and is dropped when its lane is stuck", async () => {
    const { succeed } = hold();
    void write("set_power_limit", { witnessed: "none" });
    await clock.advance(1);
    void write("reset_mem_locked_clocks");
    await clock.advance(timeoutMs);
    expect(heard()).toEqual([onTime("lane_stuck")]);
    succeed();
    await settle();
    expect(endings).toHaveLength(1);
  });

  it("is dropped before it began, since its time is up while the lane is not stuck", async () => {
    const first = hold(0, "setGpuLockedClocks");
    void write("set_gpu_locked_clocks", { witnessed: "none" });
    const second = hold(0, "setMemLockedClocks");
    await clock.advance(1_000);
    void write("set_mem_locked_clocks", { witnessed: "none" });
    void write();
    await clock.advance(1_000);
    first.succeed();
    await clock.advance(3_000);
    expect(heard()).toEqual([onTime("deadline")]);
    expect(String(endings[0]?.error)).toContain("was dropped before it began");
    second.succeed();
    await settle();
    expect([heard().length, calls()]).toEqual([1, ["setGpuLockedClocks", "setMemLockedClocks"]]);
  });

  it("has nobody waiting for it any more when its turn comes", async () => {
    const { succeed } = hold();
    void write("set_power_limit", { witnessed: "none" });
    void write("reset_gpu_locked_clocks", { gone: () => true });
    succeed();
    await settle();
    expect(heard()).toEqual([onTime("client_gone")]);
  });

  it("finds the queue full", async () => {
    const { succeed } = hold();
    for (let count = 0; count < capacity + 1; count += 1) {
      await write("set_power_limit", { block: false, witnessed: "none" });
    }
    await write("reset_gpu_locked_clocks");
    expect(heard()).toEqual([onTime("queue_full")]);
    succeed();
    await fleet.idle();
  });

  it("waits for a GPU that is lost meanwhile, which the write that met it is heard of as well", async () => {
    const { fail } = hold();
    void write();
    void write("reset_gpu_locked_clocks");
    fail(lost);
    await settle();
    expect(heard()).toEqual(
      [onTime("gpu_away"), onTime("gpu_lost")].toSorted((one, other) => (one.how < other.how ? -1 : 1)),
    );
  });

  it("is for a GPU that is away", async () => {
    machine.answer("gpu 0", "setPowerLimit", lost);
    await write("set_power_limit", { witnessed: "none" });
    await write();
    await settle();
    expect(heard()).toEqual([onTime("gpu_away")]);
  });

  it("still waits when the daemon stops", async () => {
    const { succeed } = hold();
    void write("set_power_limit", { witnessed: "none" });
    void write("reset_gpu_locked_clocks");
    await clock.advance(10);
    fleet.refuseAll(new ZeusdError("stopping", "The daemon is stopping."));
    await settle();
    expect(heard()).toEqual([onTime("stopping")]);
    succeed();
  });
});

describe("a write whose call returns after its caller was answered is heard of twice:", () => {
  it("with its deadline, and then late with its success, which is read back", async () => {
    const { succeed } = hold();
    void write();
    await clock.advance(timeoutMs);
    expect(heard()).toEqual([onTime("deadline")]);
    await clock.advance(10_000);
    succeed();
    await clock.advance(0);
    expect(endings).toHaveLength(1);
    await settle();
    expect(heard()).toEqual([onTime("deadline"), late("ok, done")]);
    expect(endings.map(({ endedMs }) => endedMs)).toEqual([timeoutMs, timeoutMs + 10_000]);
  });

  it("with its deadline, and then late with its failure", async () => {
    const { fail } = hold();
    void write();
    await clock.advance(timeoutMs + 1_000);
    fail(refusal);
    await settle();
    expect(heard()).toEqual([onTime("deadline"), late("invalid_argument")]);
  });

  it("with its deadline, and then late with the loss of its GPU", async () => {
    const { fail } = hold();
    void write();
    await clock.advance(timeoutMs + 1_000);
    fail(lost);
    await settle();
    expect(heard()).toEqual([onTime("deadline"), late("gpu_lost")]);
  });

  it("with the daemon's stop, and then late if it still returns in time", async () => {
    const { succeed } = hold();
    void write();
    await clock.advance(10);
    fleet.refuseAll(new ZeusdError("stopping", "The daemon is stopping."));
    await clock.advance(0);
    expect(heard()).toEqual([onTime("deadline")]);
    succeed();
    await settle();
    expect(heard()).toEqual([onTime("deadline"), late("ok, done")]);
  });

  it("on that GPU alone, where it is for several", async () => {
    const { succeed } = hold();
    void write("set_power_limit", { devices: [0, 1] });
    await clock.advance(timeoutMs);
    succeed();
    await settle();
    expect(heard().toSorted((one, other) => one.gpu - other.gpu)).toEqual([
      onTime("deadline"),
      late("ok, done"),
      onTime("ok, done", 1),
    ]);
  });
});

describe("a write that nobody waits for is heard of once when it", () => {
  it("succeeds", async () => {
    await write("set_power_limit", { block: false });
    await settle();
    expect(heard()).toEqual([onTime("ok, done")]);
  });

  it("is refused by the driver after its reply", async () => {
    machine.answer("gpu 0", "setPowerLimit", refusal);
    await write("set_power_limit", { block: false });
    await settle();
    expect(heard()).toEqual([onTime("invalid_argument")]);
  });

  it("is not supported by the GPU", async () => {
    await setUp({ lacks: ["setPowerLimit"] });
    await write("set_power_limit", { block: false });
    await settle();
    expect(heard()).toEqual([onTime("not_supported")]);
  });

  it("is dropped, since what runs before it does not return", async () => {
    const { succeed } = hold();
    void write("set_power_limit", { witnessed: "none" });
    await write("reset_gpu_locked_clocks", { block: false });
    await write("reset_mem_locked_clocks", { block: false });
    await clock.advance(timeoutMs);
    expect(heard()).toEqual([onTime("lane_stuck"), onTime("lane_stuck")]);
    succeed();
    await settle();
    expect([endings.length, calls()]).toEqual([2, ["setPowerLimit"]]);
  });

  it("waits for a GPU that is lost meanwhile", async () => {
    const { fail } = hold();
    void write("set_power_limit", { witnessed: "none" });
    await write("reset_gpu_locked_clocks", { block: false });
    fail(lost);
    await settle();
    expect(heard()).toEqual([onTime("gpu_away")]);
  });

  it("still waits when the daemon stops", async () => {
    hold();
    void write("set_power_limit", { witnessed: "none" });
    await write("reset_gpu_locked_clocks", { block: false });
    fleet.refuseAll(new ZeusdError("stopping", "The daemon is stopping."));
    await settle();
    expect(heard()).toEqual([onTime("stopping")]);
  });

  it("is still run by the driver when the daemon ends", async () => {
    hold();
    await write("set_power_limit", { block: false });
    await clock.advance(10);
    fleet.refuseAll(new ZeusdError("stopping", "The daemon is stopping."));
    await clock.advance(500);
    // Once more at the very end, as the daemon does.
    fleet.refuseAll(new ZeusdError("stopping", "The daemon has stopped."));
    fleet.stopReadingBack();
    expect(heard()).toEqual([onTime("deadline")]);
  });
});

it("a write that nobody waits for, and whose own call does not return, is heard of when its lane is stuck and late when it returns", async () => {
  const { succeed } = hold();
  await write("set_power_limit", { block: false });
  await clock.advance(timeoutMs);
  expect(heard()).toEqual([onTime("deadline")]);
  succeed();
  await settle();
  expect(heard()).toEqual([onTime("deadline"), late("ok, done")]);
});

it("a write that nobody waits for, and that fails after its lane was stuck, is heard of late with its failure", async () => {
  const { fail } = hold();
  await write("set_power_limit", { block: false });
  await clock.advance(timeoutMs + 500);
  fail(refusal);
  await settle();
  expect(heard()).toEqual([onTime("deadline"), late("invalid_argument")]);
});

it("a write that nobody waits for, and that is refused before it is queued, is heard of by nobody: its caller is told", async () => {
  hold();
  void write("set_power_limit", { witnessed: "none" });
  await clock.advance(timeoutMs);
  expect(await write("reset_gpu_locked_clocks", { block: false, devices: [0, 1] })).toContain("GPU 0 is stuck");
  await settle();
  expect(endings).toEqual([]);
});

it("no ending changes after it was told", async () => {
  await write();
  await settle();
  const before = structuredClone(endings[0]?.before);
  await write();
  await settle();
  expect(endings[0]?.before).toEqual(before);
});

describe("what was there before", () => {
  const beforeOf = async (running: Promise<unknown>): Promise<Known | undefined> => {
    const already = endings.length;
    await running;
    await settle();
    expect(endings).toHaveLength(already + 1);
    return endings.at(-1)?.before;
  };

  it("is nothing for the first write of a setting", async () => {
    expect(await beforeOf(write())).toEqual({});
  });

  it("is what was read back of the write before, with its age when the driver was called", async () => {
    await write();
    await clock.advance(5_000);
    // It was read 50 ms after it was set.
    expect(await beforeOf(write())).toEqual({ power_limit: { power_limit_mw: 300_000, age_ms: 4_950 } });
  });

  it("is what was set by the write before where that was not read back, as in a burst", async () => {
    await write("set_power_limit", { parameters: { power_limit_mw: 1 } });
    await clock.advance(10);
    await write("set_power_limit", { parameters: { power_limit_mw: 2 } });
    await settle();
    expect(endings.map(({ before }) => before)).toEqual([{}, { power_limit: { power_limit_mw: 1, age_ms: 10 } }]);
    expect(heard()).toEqual([onTime("ok, superseded"), onTime("ok, done")]);
  });

  it("is what a client has read", async () => {
    const command = { row: operationOf("gpu/get_persistence_mode"), parameters: {}, block: true };
    await fleet.run(command, fleet.select(command), { caller: { arrivedMs: 0, gone: () => false } });
    await clock.advance(7);
    const before = await beforeOf(write("set_persistence_mode", { parameters: { enabled: true } }));
    expect(before).toEqual({ persistence_mode: { enabled: false, age_ms: 7 } });
  });

  it("is what is known when the call begins, not when the command is queued", async () => {
    const { succeed } = hold();
    void write("set_power_limit", { parameters: { power_limit_mw: 1 } });
    void write("set_power_limit", { parameters: { power_limit_mw: 2 } });
    await clock.advance(100);
    succeed();
    await settle();
    expect(endings.map(({ before }) => before)).toEqual([{}, { power_limit: { power_limit_mw: 1, age_ms: 0 } }]);
  });

  it("is known of both settings of a write that changes two", async () => {
    await write("set_gpu_locked_clocks", { parameters: { min_clock_mhz: 1, max_clock_mhz: 2 } });
    await clock.advance(10);
    await write("reset_mem_locked_clocks");
    expect(await beforeOf(write("reset_locked_clocks"))).toEqual({
      gpu_clocks: { min_clock_mhz: 1, max_clock_mhz: 2, age_ms: 10 },
      memory_clocks: { age_ms: 0 },
    });
  });

  it("stays what it was when a write fails", async () => {
    await write();
    await settle();
    machine.answer("gpu 0", "setPowerLimit", refusal);
    await write("set_power_limit", { parameters: { power_limit_mw: 5 } });
    await settle();
    machine.answer("gpu 0", "setPowerLimit", {});
    expect(await beforeOf(write())).toMatchObject({ power_limit: { power_limit_mw: 300_000 } });
  });

  /** What is known before a write after one that has failed; nothing is read back in between. */
  async function beforeAfter(failure: Error): Promise<Known | undefined> {
    await write("set_power_limit", { parameters: { power_limit_mw: 1 }, witnessed: "none" });
    machine.answer("gpu 0", "setPowerLimit", failure);
    await write("set_power_limit", { parameters: { power_limit_mw: 2 }, witnessed: "none" });
    machine.answer("gpu 0", "setPowerLimit", {});
    await clock.advance(10);
    return beforeOf(write());
  }

  it.each(["invalid_argument", "not_supported", "no_permission"] as const)(
    "stays known when the driver refuses a write with %s: then nothing was changed",
    async (code) => {
      const known = { power_limit: { power_limit_mw: 1, age_ms: 10 } };
      expect(await beforeAfter(new ZeusdError(code, "NVML error: no"))).toEqual(known);
    },
  );

  it.each([new ZeusdError("driver_error", "NVML error: an unexpected error"), new TypeError("unforeseen")])(
    "is nothing any more once a write has failed otherwise: it may be half done (%s)",
    async (failure) => {
      expect(await beforeAfter(failure)).toEqual({});
    },
  );

  it("is that of the GPU itself, and not of another", async () => {
    await write();
    await settle();
    expect(await beforeOf(write("set_power_limit", { devices: [1] }))).toEqual({});
  });

  it("is nothing again for a GPU that was lost and opened anew: it may have been reset", async () => {
    await write();
    await settle();
    machine.answer("gpu 0", "setPersistenceMode", lost);
    await write("set_persistence_mode", { parameters: { enabled: true }, witnessed: "none" });
    await probe();
    expect(await beforeOf(write())).toEqual({});
  });

  it("is not what a call has set on a GPU that was given up meanwhile", async () => {
    const { succeed } = hold();
    void write("set_power_limit", { parameters: { power_limit_mw: 7 } });
    fleet.adoptGpus([{ id: 0, away: lost }]);
    machine.answer("gpu 0", "getPowerLimit", lost);
    await probe();
    succeed();
    await clock.advance(0);
    machine.answer("gpu 0", "setPowerLimit", {});
    await write();
    expect(endings.find(({ before }) => Object.keys(before).length > 0)).toBeUndefined();
  });

  it("is told of late endings as of others", async () => {
    await write();
    await clock.advance(1_050);
    const { succeed } = hold();
    void write();
    await clock.advance(timeoutMs);
    succeed();
    await settle();
    const known = { power_limit: { power_limit_mw: 300_000, age_ms: 1_000 } };
    expect(endings.slice(1).map(({ before }) => before)).toEqual([known, known]);
  });
});

describe("reading back", () => {
  it("is left out without a witness: the driver hears of the writes alone", async () => {
    for (const block of [true, false]) await write("set_power_limit", { witnessed: "none", block });
    await write("set_persistence_mode", { witnessed: "none", parameters: { enabled: true } });
    await clock.advance(60_000);
    expect(machine.calls).toHaveLength(3);
    expect(clock.pending).toBe(0);
  });

  it("of back-to-back writes comes once, after all of them", async () => {
    for (let count = 0; count < 100; count += 1) {
      await write();
      await clock.advance(10);
    }
    expect(calls()).toEqual(Array(100).fill("setPowerLimit"));
    await settle();
    expect(calls().slice(100).toSorted()).toEqual(["getEnforcedPowerLimit", "getPowerLimit"]);
    expect(heard()).toEqual([...Array<Heard>(99).fill(onTime("ok, superseded")), onTime("ok, done")]);
  });

  it("of writes that wait for each other comes once, after all of them", async () => {
    for (let count = 0; count < 100; count += 1) await write("set_power_limit", { block: count % 2 === 0 });
    await settle();
    expect(calls().slice(0, 100)).toEqual(Array(100).fill("setPowerLimit"));
    expect(calls()).toHaveLength(102);
    expect(endings).toHaveLength(100);
  });

  it("of one GPU asks no other", async () => {
    await write();
    await settle();
    expect(calls(1)).toEqual([]);
  });

  it("that fails is told with its reason, and the write has succeeded all the same", async () => {
    machine.answer("gpu 0", "getPowerLimit", new ZeusdError("driver_error", "NVML error: sick"));
    await write();
    await settle();
    expect(endings).toMatchObject([{ late: false, readBack: { kind: "failed", reason: "NVML error: sick" } }]);
    expect(endings[0]?.error).toBeUndefined();
  });

  it("that does not return is told as failed, and its lane is stuck as with any other call", async () => {
    hold(0, "getPowerLimit");
    await write();
    await clock.advance(50 + timeoutMs);
    const reason = "get_power_limit on GPU 0 has not returned within 4 s";
    expect(endings).toMatchObject([{ readBack: { kind: "failed", reason } }]);
  });

  it("waits for no GPU that is lost before: what was set there nobody knows", async () => {
    await write();
    machine.answer("gpu 0", "setPersistenceMode", lost);
    await write("set_persistence_mode", { parameters: { enabled: true }, witnessed: "none" });
    await settle();
    expect(endings).toMatchObject([{ readBack: { kind: "failed", reason: `GPU 0 is away: ${lost.message}` } }]);
  });

  it("is given up when the daemon ends, so that all witnesses have heard all", async () => {
    await write("set_power_limit", { devices: [0, 1] });
    fleet.stopReadingBack();
    expect(heard()).toEqual([onTime("ok, failed"), onTime("ok, failed", 1)]);
    expect(endings[0]?.readBack).toMatchObject({ reason: expect.stringContaining("stopped") });
    await settle();
    expect([endings.length, machine.calls.length]).toEqual([2, 2]);
  });
});
