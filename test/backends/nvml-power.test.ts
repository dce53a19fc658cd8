// How the power is read: from the GPU's field, else the module's, else the old function, and never papering over a loss.
import { describe, expect, it } from "vitest";
import { createSubject, openGpu } from "./nvml-subject.ts";

const noField = "field186.0=code:3";

/** The questions about power that a subject's driver was asked. */
function questions(calls: readonly string[]): readonly string[] {
  return calls.filter((line) => /FieldValues|PowerUsage/.test(line));
}

describe("the power of a GPU", () => {
  it("is read from the field of its module when it has none of its own (13.2 #17)", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(noField, "field186.1=value:712000");
    expect(await gpu.getPower?.({})).toEqual({ power_mw: 712_000 });
  });

  it.each([2, 3, 6, 13])("is read by the old function when both fields answer code %i", async (code) => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`field186.0=code:${code}`, `field186.1=code:${code}`, "nvmlDeviceGetPowerUsage=value:77000");
    expect(await gpu.getPower?.({})).toEqual({ power_mw: 77_000 });
  });

  it.each([3, 13])("is read by the old function when fields as such answer code %i", async (code) => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`nvmlDeviceGetFieldValues=code:${code}`);
    expect(await gpu.getPower?.({})).toEqual({ power_mw: 50_000 });
  });

  it("is read by the old function when the driver has no fields (13.2 #17)", async () => {
    const gpu = await openGpu(createSubject({ omit: ["nvmlDeviceGetFieldValues"] }).backend);
    expect(await gpu.getPower?.({})).toEqual({ power_mw: 50_000 });
  });

  it("is asked for in the way that worked before", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(noField);
    await gpu.getPower?.({});
    await gpu.getPower?.({});
    expect(questions(stub.calls())).toEqual([
      "nvmlDeviceGetFieldValues 0 186.0 -> 0",
      "nvmlDeviceGetFieldValues 0 186.1 -> 0",
      "nvmlDeviceGetPowerUsage 0 -> 0",
      "nvmlDeviceGetPowerUsage 0 -> 0",
    ]);
  });

  it("is looked for anew when the way that worked is gone", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(noField);
    await gpu.getPower?.({});
    stub.fail("nvmlDeviceGetPowerUsage=code:3", "field186.0=value:61000");
    expect(await gpu.getPower?.({})).toEqual({ power_mw: 61_000 });
  });

  it("is found for each GPU by itself", async () => {
    const { backend, stub } = createSubject();
    const [one, other] = [await openGpu(backend, 0), await openGpu(backend, 1)];
    stub.fail("field186.0@0=code:3", "field186.1@0=value:700000");
    expect(await one.getPower?.({})).toEqual({ power_mw: 700_000 });
    expect(await other.getPower?.({})).toEqual({ power_mw: 50_001 });
  });

  it.each([4, 10, 15, 16, 999])("is an error when its field answers code %i, not another reading", async (code) => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`field186.0=code:${code}`);
    await expect(gpu.getPower?.({})).rejects.toThrow(/^NVML error: /);
    expect(questions(stub.calls())).toHaveLength(1);
  });

  it("is an error when the GPU is lost while another way is tried", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(noField, "nvmlDeviceGetPowerUsage=code:15");
    await expect(gpu.getPower?.({})).rejects.toThrow("device fell off the bus");
  });

  it("is not supported when no way is", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(noField, "nvmlDeviceGetPowerUsage=code:3");
    await expect(gpu.getPower?.({})).rejects.toMatchObject({
      message: "NVML error: the requested operation is not available on the target device",
      status: 400,
    });
  });
});

describe("the value of the power's field", () => {
  it.each([
    [1, "0", 0],
    [1, "4294967295", 4_294_967_295],
    [2, "250000", 250_000],
    [2, "4294967296", 4_294_967_295],
    [3, "250000", 250_000],
    [3, "4294967295", 4_294_967_295],
    [3, "4294967296", 4_294_967_295],
    [3, "18446744073709551615", 4_294_967_295],
  ])("of type %i and %s is %i mW (13.2 #18)", async (type, value, power_mw) => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`field186.0=type:${type},value:${value}`);
    expect(await gpu.getPower?.({})).toEqual({ power_mw });
  });

  it.each([0, 4, 5, 6, 99])("of type %i is passed over for the old function", async (type) => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`field186.0=type:${type}`);
    expect(await gpu.getPower?.({})).toEqual({ power_mw: 50_000 });
  });

  it.each([
    [0, 400, "a supplied argument was invalid"],
    [4, 400, "a supplied argument was invalid"],
    [5, 500, "unexpected enum variant value: 5"],
    [99, 500, "unexpected enum variant value: 99"],
  ])("of type %i is status %i when there is no other way", async (type, status, text) => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`field186.0=type:${type}`, "nvmlDeviceGetPowerUsage=code:3");
    await expect(gpu.getPower?.({})).rejects.toMatchObject({ message: `NVML error: ${text}`, status });
  });
});
