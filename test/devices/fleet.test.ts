// The fleet: order on each device, fan-out, and GPUs that come late, go away and come back.
import { beforeEach, describe, expect, it } from "vitest";
import type { Caller, Command, Results, Sample } from "../../src/contract/command.ts";
import { CommandFailed, messageOf, ZeusdError } from "../../src/contract/errors.ts";
import type { AwayGpu } from "../../src/contract/gpu.ts";
import type { DeviceKind } from "../../src/contract/operations.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { Fleet } from "../../src/devices/fleet.ts";
import { drowsy } from "../../src/devices/wakefulness.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createFakeMachine, type FakeMachine } from "../http/fake-machine.ts";
import { createSettings } from "../http/test-fleet.ts";
import { createQuietLog } from "../quiet-log.ts";

const timeoutMs = 4_000;
const lost = new ZeusdError("gpu_lost", "NVML error: device fell off the bus or has otherwise become inacessible");

let machine: FakeMachine;
let clock: FakeClock;
let log: ReturnType<typeof createQuietLog>;
let fleet: Fleet;
/** How often the fleet has said that a GPU should be looked for. */
let searches: number;
let broken: ZeusdError[];

beforeEach(() => setUp(createFakeMachine()));

async function setUp(subject: FakeMachine): Promise<void> {
  machine = subject;
  clock = createFakeClock();
  log = createQuietLog();
  searches = 0;
  broken = [];
  fleet = new Fleet({
    clock,
    log,
    gpuPollHz: 20,
    cpuPollHz: 10,
    timeoutMs,
    wakefulness: drowsy,
    ...createSettings(clock, log),
    lost: () => void (searches += 1),
    fatal: (error) => void broken.push(error),
  });
  await probe();
  fleet.adoptCpus(await machine.backends.cpus());
}

async function probe(): Promise<void> {
  fleet.adoptGpus(await machine.backends.gpus.probe(fleet.lostGpus));
}

function command(name: string, over: Partial<Command> & { readonly device?: DeviceKind } = {}): Command {
  const { device = "gpu", ...rest } = over;
  return { row: operationOf(`${device}/${name}`), parameters: {}, block: true, ...rest };
}

async function run(name: string, over: Parameters<typeof command>[1] = {}): Promise<Results> {
  const caller: Caller = { arrivedMs: clock.monotonicMs(), gone: () => false };
  return runFor(caller, name, over);
}

async function runFor(caller: Caller, ...[name, over]: Parameters<typeof command>): Promise<Results> {
  const asked = command(name, over);
  return fleet.run(asked, fleet.select(asked), { caller });
}

interface Outcome {
  readonly results: readonly number[];
  readonly errors: Readonly<Record<number, string>>;
  readonly worst?: string;
}

/** Which devices succeeded, and the codes of those that did not. Settles in any case, so that it may be awaited late. */
async function outcome(running: Promise<Results>): Promise<Outcome> {
  try {
    return { results: [...(await running).keys()], errors: {} };
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    const errors = Object.fromEntries([...error.errors].map(([id, { code }]) => [id, code]));
    return { results: [...error.results.keys()], errors, worst: error.worst.code };
  }
}

/** Follows the power of a device. */
function follow(device: DeviceKind, id: number): { readonly samples: Sample[]; readonly end: () => void } {
  const samples: Sample[] = [];
  const stream = command("stream_power", { device, devices: [id] });
  return { samples, end: fleet.follow(fleet.select(stream), (_, sample) => samples.push(sample)) };
}

const callsOf = (device: string): readonly string[] => machine.calls.filter((call) => call.startsWith(device));

describe("commands", () => {
  it("run in the order in which they came: a blocking one ends after the earlier ones that nobody waited for", async () => {
    const release = machine.hold("gpu 0", "setPowerLimit");
    for (const power_limit_mw of [1, 2, 3]) {
      await run("set_power_limit", { devices: [0], parameters: { power_limit_mw }, block: false });
    }
    const last = run("reset_locked_clocks", { devices: [0] });
    expect(machine.calls).toHaveLength(1);
    release();
    await last;
    expect(machine.calls.map((call) => call.split(" ").slice(2).join(" "))).toEqual([
      'setPowerLimit {"power_limit_mw":1}',
      'setPowerLimit {"power_limit_mw":2}',
      'setPowerLimit {"power_limit_mw":3}',
      "resetGpuLockedClocks {}",
      "resetMemLockedClocks {}",
    ]);
  });

  it("wait for nobody on other GPUs, and reads wait behind writes", async () => {
    const release = machine.hold("gpu 0", "setPowerLimit");
    const write = run("set_power_limit", { devices: [0], parameters: { power_limit_mw: 1 } });
    await expect(run("get_power_limit", { devices: [1] })).resolves.toEqual(
      new Map([[1, { power_limit_mw: 300_000 }]]),
    );
    const read = run("get_power_limit", { devices: [0] });
    expect(callsOf("gpu 0 getPowerLimit")).toEqual([]);
    release();
    await Promise.all([write, read]);
  });

  it("that a sick GPU fails are told to the log, once for many", async () => {
    machine.answer("gpu 0", "getPowerLimit", new ZeusdError("driver_error", "NVML error: sick"));
    machine.answer("gpu 1", "getPowerLimit", new ZeusdError("invalid_argument", "NVML error: invalid"));
    for (let count = 0; count < 5; count += 1) await expect(run("get_power_limit")).rejects.toThrow("sick");
    expect(log.lines).toEqual(["warn get_power_limit on GPU 0 failed: NVML error: sick"]);
  });

  it("of clients that have gone are told to the log once, and their number 10 s later", async () => {
    const release = machine.hold("gpu 0", "setPowerLimit");
    await run("set_power_limit", { devices: [0], block: false });
    const gone: Caller = { arrivedMs: clock.monotonicMs(), gone: () => true };
    const left = [1, 2, 3].map(() => outcome(runFor(gone, "set_power_limit", { devices: [0] })));
    release();
    for (const { errors } of await Promise.all(left)) expect(errors).toEqual({ 0: "client_gone" });
    expect(callsOf("gpu 0")).toHaveLength(1);
    const line = "warn set_power_limit on GPU 0 failed: dropped, since its client had gone";
    expect(log.lines).toEqual([line]);
    await clock.advance(10_000);
    expect(log.lines).toEqual([line, `${line} (2 more times in 10 s)`]);
  });

  it("are done when the fleet is idle, also those that nobody waits for", async () => {
    for (let count = 0; count < 5; count += 1) await run("reset_locked_clocks", { block: false });
    await fleet.idle();
    // Each is two calls on each of two GPUs.
    expect(machine.calls).toHaveLength(20);
  });

  it("that run can be told, with their GPU and since when", async () => {
    machine.hold("gpu 1", "setPowerLimit");
    void outcome(run("set_power_limit"));
    await clock.advance(1_500);
    expect(fleet.running()).toEqual(["set_power_limit on GPU 1 (1.5 s)"]);
  });

  it("are all answered when the fleet is told to refuse, whatever they wait for", async () => {
    machine.hold("gpu 0", "setPowerLimit");
    machine.hold("cpu 0", "getCumulativeEnergy");
    const waiting = [
      run("set_power_limit"),
      run("get_power_limit", { devices: [0] }),
      run("get_cumulative_energy", { device: "cpu", parameters: { cpu: true, dram: false } }),
      run("get_power", { device: "cpu" }),
    ].map(outcome);
    await clock.advance(0);
    fleet.refuseAll(new ZeusdError("stopping", "enough"));
    expect(await Promise.all(waiting)).toEqual([
      { results: [1], errors: { 0: "deadline" }, worst: "deadline" },
      { results: [], errors: { 0: "stopping" }, worst: "stopping" },
      { results: [1], errors: { 0: "deadline" }, worst: "deadline" },
      { results: [], errors: { 0: "stopping", 1: "stopping" }, worst: "stopping" },
    ]);
  });
});

describe("a device that hangs", () => {
  it("costs whoever asked for several only its own result; the status is the numerically largest", async () => {
    machine.hold("gpu 0", "setPowerLimit");
    const first = outcome(run("set_power_limit"));
    await clock.advance(timeoutMs);
    expect(await first).toEqual({ results: [1], errors: { 0: "deadline" }, worst: "deadline" });
    const second = await outcome(run("get_power_limit"));
    expect(second).toEqual({ results: [1], errors: { 0: "lane_stuck" }, worst: "lane_stuck" });
    machine.hold("gpu 1", "setPowerLimit");
    const third = outcome(run("set_power_limit"));
    await clock.advance(timeoutMs);
    expect(await third).toEqual({ results: [], errors: { 0: "lane_stuck", 1: "deadline" }, worst: "deadline" });
  });

  it("may still do what was asked, which is said of writes only", async () => {
    const asked = { setPowerLimit: "set_power_limit", getPersistenceMode: "get_persistence_mode" };
    const texts: string[] = [];
    for (const [index, [call, name]] of Object.entries(asked).entries()) {
      machine.hold(`gpu ${index}`, call);
      const told = run(name, { devices: [index] }).catch((error: unknown) => texts.push(messageOf(error)));
      await clock.advance(timeoutMs);
      await told;
    }
    expect(texts).toEqual([
      "0: set_power_limit on GPU 0 has not returned within 4 s; it may still take effect",
      "1: get_persistence_mode on GPU 1 has not returned within 4 s",
    ]);
  });

  it("holds up no command of another, nor of the CPUs", async () => {
    machine.hold("gpu 0", "setPowerLimit");
    machine.hold("cpu 0", "getCumulativeEnergy");
    const energy = { device: "cpu", parameters: { cpu: true, dram: true } } as const;
    void outcome(run("set_power_limit", { devices: [0] }));
    void outcome(run("get_cumulative_energy", { ...energy, devices: [0] }));
    await clock.advance(60_000);
    expect(await outcome(run("set_power_limit", { devices: [1] }))).toEqual({ results: [1], errors: {} });
    expect(await outcome(run("get_cumulative_energy", energy))).toMatchObject({ results: [1], worst: "lane_stuck" });
  });

  it("for its commands has its power followed all the same, be it a GPU or a CPU", async () => {
    machine.hold("gpu 0", "setPowerLimit");
    void outcome(run("set_power_limit", { devices: [0] }));
    const gpu = follow("gpu", 0);
    await clock.advance(60_000);
    machine.answer("gpu 0", "getPower", { power_mw: 1 });
    await clock.advance(50);
    expect(gpu.samples.map(({ values }) => values)).toEqual([{ power_mw: 50_000 }, { power_mw: 1 }]);
    expect(callsOf("gpu 0 getPower").length).toBeGreaterThan(1_000);
    gpu.end();

    const release = machine.hold("cpu 1", "getCumulativeEnergy", { cpu_energy_uj: 1_000_000 });
    void outcome(run("get_cumulative_energy", { device: "cpu", devices: [1], parameters: { cpu: true, dram: false } }));
    machine.answer("cpu 1", "getCumulativeEnergy", { cpu_energy_uj: 1_000_000 });
    const cpu = follow("cpu", 1);
    await clock.advance(60_000);
    expect(cpu.samples.map(({ values }) => values)).toEqual([{ cpu_mw: 0, dram_mw: null }]);
    release();
    cpu.end();
  });

  it("for its power takes commands all the same, be it a GPU or a CPU", async () => {
    machine.hold("gpu 0", "getPower", { power_mw: 1 });
    machine.hold("cpu 1", "getCumulativeEnergy", { cpu_energy_uj: 1_000_000 });
    const [gpu, cpu] = [follow("gpu", 0), follow("cpu", 1)];
    await clock.advance(60_000);
    machine.answer("cpu 1", "getCumulativeEnergy", { cpu_energy_uj: 1_000_000 });
    expect(await outcome(run("set_power_limit", { devices: [0] }))).toEqual({ results: [0], errors: {} });
    const energy = { device: "cpu", devices: [1], parameters: { cpu: true, dram: false } } as const;
    expect(await outcome(run("get_cumulative_energy", energy))).toEqual({ results: [1], errors: {} });
    expect(await outcome(run("get_power", { device: "cpu", devices: [1] }))).toMatchObject({ worst: "lane_stuck" });
    expect([gpu.samples, cpu.samples]).toEqual([[], []]);
    gpu.end();
    cpu.end();
  });

  it("takes no command that nobody waits for: that is refused as a whole, and no GPU sees it", async () => {
    machine.hold("gpu 1", "setPowerLimit");
    void outcome(run("set_power_limit", { devices: [1] }));
    await clock.advance(timeoutMs);
    await expect(run("reset_locked_clocks", { block: false })).rejects.toMatchObject({ code: "lane_stuck" });
    await clock.advance(0);
    expect(callsOf("gpu 0")).toEqual([]);
  });

  it("drops what nobody waits for and had not begun, and the log says so", async () => {
    const release = machine.hold("gpu 0", "setPowerLimit");
    await run("set_power_limit", { devices: [0], block: false });
    await run("reset_locked_clocks", { devices: [0], block: false });
    await clock.advance(timeoutMs);
    release();
    await fleet.idle();
    expect(callsOf("gpu 0")).toHaveLength(1);
    expect(log.lines.join("\n")).toMatch(
      /warn Dropped commands for GPU 0 that had been accepted, 1 of them: GPU 0 is stuck/,
    );
  });
});

it("a command that nobody waits for is refused by all its GPUs when the queue of one is full (13.2 #7)", async () => {
  const release = machine.hold("gpu 1", "setPowerLimit");
  const write = { devices: [1], parameters: { power_limit_mw: 1 }, block: false };
  let accepted = 0;
  const fill = async (): Promise<void> => {
    for (;;) {
      await run("set_power_limit", write);
      accepted += 1;
    }
  };
  await expect(fill()).rejects.toMatchObject({ code: "queue_full" });
  await expect(run("set_power_limit", { ...write, devices: [0, 1] })).rejects.toMatchObject({ code: "queue_full" });
  expect(await outcome(run("get_power_limit"))).toEqual({
    results: [0],
    errors: { 1: "queue_full" },
    worst: "queue_full",
  });
  const refusals = log.lines.filter((line) =>
    line.startsWith("warn set_power_limit on GPU 1 was refused: 1024 commands"),
  );
  expect(refusals).toHaveLength(1);
  release();
  await fleet.idle();
  expect(callsOf("gpu 0 setPowerLimit")).toEqual([]);
  expect(callsOf("gpu 1 setPowerLimit")).toHaveLength(accepted);
});

describe("GPUs that are missing at the start", () => {
  const away: AwayGpu = { id: 0, away: new ZeusdError("driver_error", "NVML error: sick") };

  it("keep their ids, and take part once they can be opened (13.2 #16)", async () => {
    await setUp(createFakeMachine({ away: [away] }));
    expect(fleet.gpus.map(({ id }) => id)).toEqual([1]);
    expect(await outcome(run("get_power", { devices: [0] }))).toMatchObject({ errors: { 0: "gpu_away" } });
    await expect(run("get_power")).resolves.toEqual(new Map([[1, { power_mw: 50_001 }]]));
    const [driven] = fleet.gpus;
    machine.takeAway();
    await probe();
    expect(fleet.gpus.map(({ id }) => id)).toEqual([0, 1]);
    expect(fleet.gpus[1]).toBe(driven);
    await expect(run("get_power", { devices: [0] })).resolves.toEqual(new Map([[0, { power_mw: 50_000 }]]));
    expect(searches).toBe(0);
  });

  it("are all GPUs where the driver is not there, and a device that does not exist is one that is not known", async () => {
    await setUp(createFakeMachine({ gpus: 0 }));
    expect(await outcome(run("get_power"))).toEqual({ results: [], errors: {} });
    await expect(run("get_power", { devices: [0] })).rejects.toMatchObject({ code: "unknown_device", available: [] });
  });
});

describe("a GPU that goes away", () => {
  it("fails the call that meets it, and then is away, with the reason; the others never notice", async () => {
    machine.answer("gpu 0", "setPowerLimit", lost);
    expect(await outcome(run("set_power_limit"))).toEqual({
      results: [1],
      errors: { 0: "gpu_lost" },
      worst: "gpu_lost",
    });
    await expect(run("set_power_limit", { devices: [0] })).rejects.toThrow(`GPU 0 is away: ${lost.message}`);
    const [first] = await Promise.allSettled([run("get_power", { devices: [0] })]);
    expect(first).toMatchObject({
      reason: { worst: { code: "gpu_away", status: 503, retryAfterS: expect.any(Number) } },
    });
    expect(callsOf("gpu 0")).toHaveLength(1);
    expect(await outcome(run("set_power_limit", { devices: [1] }))).toEqual({ results: [1], errors: {} });
    expect([...fleet.lostGpus]).toEqual([0]);
    expect(searches).toBe(1);
    expect(log.lines).toContain(`error GPU 0 is lost: ${lost.message}; looking for it`);
  });

  it("is left out where all are meant, and known by its names where it is", async () => {
    machine.answer("gpu 0", "setPowerLimit", lost);
    await outcome(run("set_power_limit"));
    expect(fleet.gpus.map(({ id }) => id)).toEqual([1]);
    expect(await outcome(run("get_power"))).toEqual({ results: [1], errors: {} });
    for (const name of ["GPU-00000000-0000-0000-0000-000000000000", "0000:41:00.0"]) {
      expect(await outcome(run("get_power", { devices: [name] }))).toMatchObject({ errors: { 0: "gpu_away" } });
    }
  });

  it("refuses what waits for it, and no GPU sees a command for several that nobody waits for", async () => {
    let fail = (_error: unknown): void => {};
    machine.answer("gpu 0", "setPowerLimit", () => new Promise((_, reject) => (fail = reject)));
    const first = outcome(run("set_power_limit", { devices: [0] }));
    const waiting = outcome(run("get_power_limit", { devices: [0] }));
    await run("reset_locked_clocks", { devices: [0], block: false });
    fail(lost);
    expect(await first).toMatchObject({ errors: { 0: "gpu_lost" } });
    expect(await waiting).toMatchObject({ errors: { 0: "gpu_away" } });
    const several = run("reset_locked_clocks", { devices: [0, 1], block: false });
    await expect(several).rejects.toMatchObject({ code: "gpu_away" });
    await fleet.idle();
    expect(machine.calls).toHaveLength(1);
    expect(log.lines.join("\n")).toMatch(
      /warn Dropped commands for GPU 0 that had been accepted, 1 of them: GPU 0 is away/,
    );
  });

  it("comes back under its id, driven anew, and the log says so", async () => {
    machine.answer("gpu 0", "setPowerLimit", lost);
    await outcome(run("set_power_limit"));
    const [other] = fleet.gpus;
    machine.takeAway({ id: 0, away: new ZeusdError("driver_error", "NVML error: still sick") });
    await probe();
    await expect(run("get_power", { devices: [0] })).rejects.toThrow("GPU 0 is away: NVML error: still sick");
    expect([...fleet.lostGpus]).toEqual([0]);
    machine.answer("gpu 0", "setPowerLimit", {});
    machine.takeAway();
    await probe();
    expect(await outcome(run("set_power_limit"))).toEqual({ results: [0, 1], errors: {} });
    expect(fleet.gpus[1]).toBe(other);
    expect(fleet.lostGpus.size).toBe(0);
    expect(log.lines.at(-1)).toBe("warn GPU 0 is there again");
  });

  it("has its power streams stand still, and go on when it is back", async () => {
    const { samples, end } = follow("gpu", 0);
    await clock.advance(0);
    machine.answer("gpu 0", "getPower", lost);
    await clock.advance(1_000);
    expect([...fleet.lostGpus]).toEqual([0]);
    expect(searches).toBe(1);
    const calls = machine.calls.length;
    await clock.advance(1_000);
    expect(machine.calls).toHaveLength(calls);
    machine.answer("gpu 0", "getPower", { power_mw: 1 });
    await probe();
    await clock.advance(50);
    expect(samples.map(({ values }) => values)).toEqual([{ power_mw: 50_000 }, { power_mw: 1 }]);
    end();
  });

  it("is not lost again by what a call says that was begun before it came back", async () => {
    let fail = (_error: unknown): void => {};
    machine.answer("gpu 0", "setPowerLimit", () => new Promise((_, reject) => (fail = reject)));
    const late = outcome(run("set_power_limit", { devices: [0] }));
    machine.answer("gpu 0", "getPower", lost);
    const { end } = follow("gpu", 0);
    await clock.advance(0);
    end();
    await probe();
    fail(lost);
    expect(await late).toMatchObject({ errors: { 0: "gpu_lost" } });
    expect(fleet.gpus.map(({ id }) => id)).toEqual([0, 1]);
    expect(fleet.lostGpus.size).toBe(0);
    expect(searches).toBe(1);
  });

  it("is not taken for well because of a look at it that had begun before", async () => {
    const looking = machine.backends.gpus.probe(fleet.lostGpus);
    machine.answer("gpu 0", "setPowerLimit", lost);
    await outcome(run("set_power_limit"));
    fleet.adoptGpus(await looking);
    expect(await outcome(run("get_power", { devices: [0] }))).toMatchObject({ errors: { 0: "gpu_away" } });
    expect([...fleet.lostGpus]).toEqual([0]);
  });

  it("without a call having met it is away as soon as a look at it says so, and refuses what waits for it", async () => {
    const release = machine.hold("gpu 0", "setPowerLimit");
    const running = outcome(run("set_power_limit", { devices: [0] }));
    const waiting = outcome(run("get_power_limit", { devices: [0] }));
    fleet.adoptGpus([{ id: 0, away: lost }]);
    expect(await waiting).toMatchObject({ errors: { 0: "gpu_away" } });
    expect(fleet.gpus.map(({ id }) => id)).toEqual([1]);
    release();
    expect(await running).toEqual({ results: [0], errors: {} });
    await probe();
    expect(fleet.gpus.map(({ id }) => id)).toEqual([0, 1]);
    expect(await outcome(run("get_power_limit", { devices: [0] }))).toEqual({ results: [0], errors: {} });
  });

  it("and was opened anew before anybody noticed is driven by its new record", async () => {
    const other = createFakeMachine();
    fleet.adoptGpus(await other.backends.gpus.probe(fleet.lostGpus));
    expect(await outcome(run("set_power_limit"))).toEqual({ results: [0, 1], errors: {} });
    expect([machine.calls.length, other.calls.length]).toEqual([0, 2]);
    expect(log.lines).toEqual([]);
  });

  it("while a call of it hangs takes no command until that returns, though it is back", async () => {
    const release = machine.hold("gpu 0", "setPowerLimit");
    void outcome(run("set_power_limit", { devices: [0] }));
    machine.answer("gpu 0", "getPower", lost);
    const { end } = follow("gpu", 0);
    await clock.advance(timeoutMs);
    end();
    await probe();
    expect(await outcome(run("get_power_limit", { devices: [0] }))).toMatchObject({ errors: { 0: "lane_stuck" } });
    release();
    await fleet.idle();
    expect(await outcome(run("get_power_limit", { devices: [0] }))).toEqual({ results: [0], errors: {} });
  });

  it("because the driver was replaced under its library breaks the daemon, with the reason", async () => {
    const mismatch = new ZeusdError("driver_mismatch", "NVML error: RM detects a driver/library version mismatch");
    machine.answer("gpu 0", "setPowerLimit", mismatch);
    expect(await outcome(run("set_power_limit"))).toMatchObject({ errors: { 0: "driver_mismatch" } });
    expect(broken).toEqual([mismatch]);
    expect(searches).toBe(0);
  });
});
