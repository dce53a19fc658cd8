// Looking for GPUs that are missing: how often, how long, and what the log hears of it.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import type { AwayGpu, Gpu, GpuBackend } from "../../src/contract/gpu.ts";
import { Probing } from "../../src/devices/probing.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";

const notLoaded = new ZeusdError("driver_error", "NVML error: NVIDIA driver is not loaded");
const mismatch = new ZeusdError("driver_mismatch", "NVML error: RM detects a driver/library version mismatch");

function gpu(id: number): Gpu {
  return { id, name: `Fake GPU ${id}`, uuid: null, pci_address: null, cumulative_energy_available: false };
}

function away(id: number, reason = "NVML error: lost"): AwayGpu {
  return { id, away: new ZeusdError("driver_error", reason) };
}

let clock: FakeClock;
let log: ReturnType<typeof createQuietLog>;
/** What the driver answers from now on. */
let answer: readonly (Gpu | AwayGpu)[] | Error | Promise<readonly (Gpu | AwayGpu)[]>;
let lost: Set<number>;
/** When the driver was asked, in ms, and which GPUs it was told were lost. */
let asked: { readonly atMs: number; readonly lost: readonly number[] }[];
let adopted: (readonly (Gpu | AwayGpu)[])[];
let broken: ZeusdError[];

beforeEach(() => {
  clock = createFakeClock();
  log = createQuietLog();
  answer = [gpu(0), gpu(1)];
  lost = new Set();
  asked = [];
  adopted = [];
  broken = [];
});

function createProbing({ required = false } = {}): Probing {
  const backend: GpuBackend = {
    name: "fake",
    async probe(ids) {
      asked.push({ atMs: clock.monotonicMs(), lost: [...ids] });
      const found = await answer;
      if (found instanceof Error) throw found;
      return found;
    },
  };
  return new Probing({
    backend,
    clock,
    log,
    required,
    lost: () => lost,
    adopt: (found) => void adopted.push(found),
    fatal: (error) => void broken.push(error),
  });
}

const times = (): readonly number[] => asked.map(({ atMs }) => atMs);

describe("at the start", () => {
  it("the driver is asked once when nothing is missing", async () => {
    await createProbing().start();
    await clock.advance(600_000);
    expect(times()).toEqual([0]);
    expect(adopted).toEqual([answer]);
    expect(log.lines).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  it("a driver that is missing keeps nobody from starting, unless it is required", async () => {
    answer = notLoaded;
    await createProbing().start();
    expect(log.lines).toEqual([
      "warn No GPUs: NVML error: NVIDIA driver is not loaded (going on looking, at least every 60 s)",
    ]);
    const pending = clock.pending;
    await expect(createProbing({ required: true }).start()).rejects.toBe(notLoaded);
    expect(clock.pending).toBe(pending);
  });

  it("a GPU that cannot be opened keeps nobody from starting, also where the driver is required", async () => {
    answer = [away(0), gpu(1)];
    await createProbing({ required: true }).start();
    expect(adopted).toEqual([answer]);
    expect(log.lines).toEqual([
      "warn GPU 0 cannot be opened: NVML error: lost (going on looking, at least every 60 s)",
    ]);
  });

  it("a driver that was replaced under its library stops it, required or not", async () => {
    answer = mismatch;
    for (const required of [false, true]) await expect(createProbing({ required }).start()).rejects.toBe(mismatch);
    expect(clock.pending).toBe(0);
    expect(broken).toEqual([]);
  });
});

describe("what is missing", () => {
  it("is looked for after 1 s, 2 s, 4 s and so on, at last every minute, for ever (13.2 #16)", async () => {
    answer = notLoaded;
    await createProbing().start();
    await clock.advance(303_000);
    expect(times()).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303].map((atS) => 1_000 * atS));
    answer = [gpu(0)];
    await clock.advance(60_000);
    expect(adopted).toEqual([[gpu(0)]]);
    expect(log.lines.at(-1)).toBe("info All GPUs are there now");
    expect(clock.pending).toBe(0);
  });

  it("is told to the log when it changes, not each time", async () => {
    answer = notLoaded;
    await createProbing().start();
    await clock.advance(10_000);
    answer = [away(0), away(1)];
    await clock.advance(60_000);
    answer = [gpu(0), away(1)];
    await clock.advance(600_000);
    expect(log.lines.map((line) => line.replace(/ \(going on .*\)$/, ""))).toEqual([
      "warn No GPUs: NVML error: NVIDIA driver is not loaded",
      "warn GPU 0 cannot be opened: NVML error: lost; GPU 1 cannot be opened: NVML error: lost",
      "warn GPU 1 cannot be opened: NVML error: lost",
    ]);
  });

  it("is taken in as it comes: what is there serves while the rest is looked for", async () => {
    answer = [away(0), gpu(1)];
    await createProbing().start();
    answer = [gpu(0), gpu(1)];
    await clock.advance(1_000);
    expect(adopted).toEqual([
      [away(0), gpu(1)],
      [gpu(0), gpu(1)],
    ]);
  });

  it("may be any GPU at all: a driver that has none is asked again", async () => {
    answer = [];
    await createProbing().start();
    expect(log.lines).toEqual(["warn The driver has no GPUs (going on looking, at least every 60 s)"]);
    answer = [gpu(0)];
    await clock.advance(1_000);
    expect(adopted.at(-1)).toEqual([gpu(0)]);
  });

  it("is not looked for twice at once, however long the driver takes", async () => {
    answer = notLoaded;
    await createProbing().start();
    let end = (_found: readonly Gpu[]): void => {};
    answer = new Promise((resolve) => (end = resolve));
    await clock.advance(600_000);
    expect(times()).toEqual([0, 1_000]);
    end([gpu(0)]);
    await clock.advance(0);
    expect(adopted).toEqual([[gpu(0)]]);
  });

  it("ends the process when it turns out that the driver was replaced under its library", async () => {
    answer = notLoaded;
    await createProbing().start();
    answer = mismatch;
    await clock.advance(1_000);
    expect(broken).toEqual([mismatch]);
    await clock.advance(600_000);
    expect(times()).toEqual([0, 1_000]);
  });
});

describe("a GPU that goes away later", () => {
  it("is looked for after 1 s, as one that is lost, and then with back-off", async () => {
    const probing = createProbing();
    await probing.start();
    await clock.advance(100_000);
    answer = [away(0), gpu(1)];
    lost.add(0);
    probing.hasten();
    await clock.advance(7_000);
    expect(asked.slice(1)).toEqual([1, 3, 7].map((afterS) => ({ atMs: 100_000 + 1_000 * afterS, lost: [0] })));
    answer = [gpu(0), gpu(1)];
    lost.clear();
    await clock.advance(8_000);
    expect(log.lines.at(-1)).toBe("info All GPUs are there now");
    await clock.advance(600_000);
    expect(asked).toHaveLength(5);
  });

  it("does not wait for the back-off that another missing GPU has come to", async () => {
    answer = [away(0), gpu(1)];
    const probing = createProbing();
    await probing.start();
    await clock.advance(200_000);
    asked = [];
    lost.add(1);
    probing.hasten();
    await clock.advance(1_000);
    expect(asked).toEqual([{ atMs: 201_000, lost: [1] }]);
  });

  it("while the driver is being asked is looked for after that, and the log hears nothing empty", async () => {
    answer = [away(0), gpu(1)];
    const probing = createProbing();
    await probing.start();
    let end = (_found: readonly Gpu[]): void => {};
    answer = new Promise((resolve) => (end = resolve));
    await clock.advance(1_000);
    lost.add(1);
    probing.hasten();
    end([gpu(0), gpu(1)]);
    answer = [gpu(0), gpu(1)];
    await clock.advance(0);
    expect(times()).toEqual([0, 1_000]);
    lost.clear();
    await clock.advance(1_000);
    expect(times()).toEqual([0, 1_000, 2_000]);
    for (const line of log.lines) expect(line).toMatch(/GPU/);
    expect(log.lines.at(-1)).toBe("info All GPUs are there now");
  });

  it("and comes back, again and again, is looked for less and less often", async () => {
    const probing = createProbing();
    await probing.start();
    for (const afterS of [1, 2, 4, 8, 16, 32, 60, 60]) {
      asked = [];
      const lostAtMs = clock.monotonicMs();
      probing.hasten();
      await clock.advance(1_000 * afterS);
      expect(times()).toEqual([lostAtMs + 1_000 * afterS]);
      await clock.advance(100);
    }
  });

  it("and then stays for a minute is looked for after 1 s again", async () => {
    const probing = createProbing();
    await probing.start();
    for (let count = 0; count < 4; count += 1) {
      probing.hasten();
      await clock.advance(8_000);
    }
    await clock.advance(60_000);
    asked = [];
    const lostAtMs = clock.monotonicMs();
    probing.hasten();
    await clock.advance(1_000);
    expect(times()).toEqual([lostAtMs + 1_000]);
  });

  it("together with others is looked for as soon as one alone, be it for the first time or again", async () => {
    const probing = createProbing();
    await probing.start();
    for (const afterS of [1, 2, 4]) {
      asked = [];
      const lostAtMs = clock.monotonicMs();
      for (let count = 0; count < 8; count += 1) {
        probing.hasten();
        await clock.advance(10);
      }
      await clock.advance(1_000 * afterS);
      expect(times()).toHaveLength(1);
      expect((times()[0] ?? 0) - lostAtMs).toBeLessThanOrEqual(1_000 * afterS + 80);
    }
  });
});
