// What every GPU does, whoever drives it: the contract that backends are held to.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { U32_MAX, type Field, type Values } from "../../src/contract/field.ts";
import type { Gpu } from "../../src/contract/gpu.ts";
import { gpuOperations, type Operation, type Row } from "../../src/contract/operations.ts";

export interface GpuSubject {
  readonly gpu: Gpu;
  /** Takes down what drives the GPU. */
  readonly end?: () => void | Promise<void>;
}

const rows: readonly Row[] = Object.entries<Operation>(gpuOperations)
  .map(([call, row]) => ({ ...row, call }))
  .filter(({ by }) => by === "call");
const writes = rows.filter(({ kind }) => kind === "write");
const reads = rows.filter(({ kind }) => kind === "read");
const ranges = writes.flatMap((row) => (row.range ? [{ ...row, range: row.range }] : []));
/** Each write that has a read of the same thing. */
const settings = writes.flatMap((write) => {
  const read = reads.find(({ name }) => name === write.name.replace(/^set_/, "get_"));
  return read ? [{ name: write.name, write, read }] : [];
});

export function describeGpu(name: string, makeSubject: () => GpuSubject | Promise<GpuSubject>): void {
  describe(`${name} is a GPU`, () => {
    let subject: GpuSubject;
    const call = (row: Row, parameters: Values = {}): Promise<unknown> => callGpu(subject.gpu, row, parameters);

    beforeEach(async () => {
      subject = await makeSubject();
    });
    afterEach(() => subject.end?.());

    it("says who it is", () => {
      const { gpu } = subject;
      expect(gpu.id).toBeGreaterThanOrEqual(0);
      expect(gpu.name).not.toBe("");
      expect(gpu.uuid ?? "GPU-").toMatch(/^GPU-/);
      expect(gpu.pci_address ?? "0000:00:00.0").toMatch(/^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.0$/);
      expect(gpu.cumulative_energy_available).toBeTypeOf("boolean");
    });

    it.each(rows)("can do $name", ({ call: method }) => {
      expect(Reflect.get(subject.gpu, method)).toBeTypeOf("function");
    });

    it.each(reads)("answers $name with the fields of its row", async (row) => {
      const values = await call(row);
      expect(Object.keys(values as Values)).toEqual(Object.keys(row.result));
      for (const [field, value] of Object.entries(values as Values)) expectFits(row.result[field], value);
    });

    it.each(writes)("answers $name with nothing", async (row) => {
      expect(await call(row, await usual(subject.gpu, row))).toBeUndefined();
    });

    it.each(settings)("gives back what $name set", async ({ write, read }) => {
      for (const values of await choices(subject.gpu, write)) {
        await call(write, values);
        expect(await call(read)).toEqual(values);
      }
    });

    it.each(ranges)("refuses $name with its limits in the wrong order", async (row) => {
      const [low, high] = row.range;
      const wrong = { ...(await usual(subject.gpu, row)), [low]: 1200, [high]: 1199 };
      await expect(call(row, wrong)).rejects.toMatchObject({ code: "invalid_argument", status: 400 });
    });

    it.each(ranges)("refuses $name to a clock of 0", async (row) => {
      const [low, high] = row.range;
      const wrong = { [low]: 0, [high]: 0 };
      await expect(call(row, wrong)).rejects.toMatchObject({ code: "invalid_argument", status: 400 });
    });

    it("takes the power limits from the lowest to the highest that it names", async () => {
      const { min_power_limit_mw, max_power_limit_mw } = await constraints(subject.gpu);
      expect(min_power_limit_mw).toBeGreaterThan(0);
      expect(max_power_limit_mw).toBeGreaterThanOrEqual(min_power_limit_mw);
      await subject.gpu.setPowerLimit?.({ power_limit_mw: min_power_limit_mw });
      await subject.gpu.setPowerLimit?.({ power_limit_mw: max_power_limit_mw });
    });

    it("starts with a power limit that it would take", async () => {
      const { min_power_limit_mw, max_power_limit_mw } = await constraints(subject.gpu);
      const limit = await subject.gpu.getPowerLimit?.({});
      expect(limit?.power_limit_mw).toBeGreaterThanOrEqual(min_power_limit_mw);
      expect(limit?.power_limit_mw).toBeLessThanOrEqual(max_power_limit_mw);
    });

    it("refuses a power limit below its lowest or above its highest, and keeps the one it has", async () => {
      const { min_power_limit_mw, max_power_limit_mw } = await constraints(subject.gpu);
      const before = await subject.gpu.getPowerLimit?.({});
      for (const power_limit_mw of [0, min_power_limit_mw - 1, max_power_limit_mw + 1, U32_MAX]) {
        const refused = subject.gpu.setPowerLimit?.({ power_limit_mw });
        await expect(refused).rejects.toMatchObject({ code: "invalid_argument", status: 400 });
      }
      expect(await subject.gpu.getPowerLimit?.({})).toEqual(before);
    });

    it("enforces the power limit that is set", async () => {
      const { min_power_limit_mw, max_power_limit_mw } = await constraints(subject.gpu);
      for (const power_limit_mw of [max_power_limit_mw, min_power_limit_mw]) {
        await subject.gpu.setPowerLimit?.({ power_limit_mw });
        expect(await subject.gpu.getEnforcedPowerLimit?.({})).toEqual({ power_limit_mw });
      }
    });

    it("draws more than nothing, and not much more than its highest power limit", async () => {
      const { max_power_limit_mw } = await constraints(subject.gpu);
      const power = await subject.gpu.getPower?.({});
      expect(power?.power_mw).toBeGreaterThan(0);
      expect(power?.power_mw).toBeLessThan(2 * max_power_limit_mw);
    });

    it("has an energy counter that never falls, if it has one", async () => {
      if (!subject.gpu.cumulative_energy_available) return;
      const first = await subject.gpu.getCumulativeEnergy?.({});
      const second = await subject.gpu.getCumulativeEnergy?.({});
      expect(second?.energy_mj).toBeGreaterThanOrEqual(first?.energy_mj ?? Infinity);
    });

    it("has a default power limit that it would take, whatever is set", async () => {
      const { min_power_limit_mw, max_power_limit_mw } = await constraints(subject.gpu);
      const before = await subject.gpu.getDefaultPowerLimit?.({});
      expect(before?.power_limit_mw).toBeGreaterThanOrEqual(min_power_limit_mw);
      expect(before?.power_limit_mw).toBeLessThanOrEqual(max_power_limit_mw);
      await subject.gpu.setPowerLimit?.({ power_limit_mw: min_power_limit_mw });
      expect(await subject.gpu.getDefaultPowerLimit?.({})).toEqual(before);
    });

    it("has clocks for itself and its memory, each named once, highest first", async () => {
      const supported = await subject.gpu.getSupportedClocks?.({});
      for (const clocks_mhz of [supported?.gpu_clocks_mhz ?? [], supported?.memory_clocks_mhz ?? []]) {
        expect(clocks_mhz.length).toBeGreaterThan(0);
        expect(clocks_mhz).toEqual([...new Set(clocks_mhz)].toSorted((one, other) => other - one));
      }
    });

    it("runs at clocks above nothing, and not above the highest that it has", async () => {
      const supported = await subject.gpu.getSupportedClocks?.({});
      const clocks = await subject.gpu.getClocks?.({});
      expect(clocks?.gpu_clock_mhz).toBeGreaterThan(0);
      expect(clocks?.gpu_clock_mhz).toBeLessThanOrEqual(supported?.gpu_clocks_mhz[0] ?? 0);
      expect(clocks?.memory_clock_mhz).toBeGreaterThan(0);
      expect(clocks?.memory_clock_mhz).toBeLessThanOrEqual(supported?.memory_clocks_mhz[0] ?? 0);
    });

    it("is slowed down by neither heat nor its power supply while its hardware does not slow it down", async () => {
      const reasons = await subject.gpu.getThrottleReasons?.({});
      if (reasons?.hw_slowdown) return;
      expect(reasons).toMatchObject({ hw_thermal_slowdown: false, hw_power_brake_slowdown: false });
    });

    it("unlocks clocks that were never locked", async () => {
      await subject.gpu.resetGpuLockedClocks?.({});
      await subject.gpu.resetMemLockedClocks?.({});
    });
  });
}

/** Calls the function of a row, whose parameters the table types and this suite takes from it. */
function callGpu(gpu: Gpu, row: Row, parameters: Values): Promise<unknown> {
  const method: unknown = Reflect.get(gpu, row.call);
  if (typeof method !== "function") throw new Error(`GPU ${gpu.id} has no ${row.call}`);
  return (method as (parameters: Values) => Promise<unknown>)(parameters);
}

async function constraints(gpu: Gpu): Promise<{ min_power_limit_mw: number; max_power_limit_mw: number }> {
  const limits = await gpu.getPowerLimitConstraints?.({});
  if (!limits) throw new Error(`GPU ${gpu.id} has no power limit constraints`);
  return limits;
}

/** Parameters that a row's function takes. */
async function usual(gpu: Gpu, row: Row): Promise<Values> {
  const [values = {}] = await choices(gpu, row);
  return values;
}

async function choices(gpu: Gpu, row: Row): Promise<readonly Values[]> {
  if ("enabled" in row.parameters) return [{ enabled: true }, { enabled: false }];
  if ("power_limit_mw" in row.parameters) {
    const { min_power_limit_mw, max_power_limit_mw } = await constraints(gpu);
    return [{ power_limit_mw: max_power_limit_mw }, { power_limit_mw: min_power_limit_mw }];
  }
  if (row.range) return [{ min_clock_mhz: 1200, max_clock_mhz: 1200 }];
  return [{}];
}

function expectFits(field: Field | undefined, value: unknown): void {
  if (field?.type === "boolean") {
    expect(value).toBeTypeOf("boolean");
    return;
  }
  if (field?.type === "list of u32") expect(value).toBeInstanceOf(Array);
  for (const number of Array.isArray(value) ? (value as readonly unknown[]) : [value]) {
    expect(number).toSatisfy(Number.isSafeInteger);
    expect(number).toBeGreaterThanOrEqual(0);
    if (field?.type !== "u64") expect(number).toBeLessThanOrEqual(U32_MAX);
  }
}
