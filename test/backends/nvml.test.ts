// The NVML backend does what every GPU does, and asks the driver as the original does.
import { describe, expect, it } from "vitest";
import { describeGpu } from "./describe-gpu.ts";
import { createSubject, openGpu } from "./nvml-subject.ts";

describeGpu("a GPU that NVML drives", async () => ({ gpu: await openGpu(createSubject().backend) }));

describe("a GPU that NVML drives", () => {
  it("is known by its index, name, UUID and PCI address", async () => {
    const { backend } = createSubject();
    expect(await openGpu(backend, 1)).toMatchObject({
      id: 1,
      name: "Fake GPU 1",
      uuid: "GPU-00000000-0000-0000-0000-000000000001",
      pci_address: "0000:42:00.0",
      cumulative_energy_available: true,
    });
  });

  it("is set and read by itself", async () => {
    const { backend } = createSubject();
    const [one, other] = [await openGpu(backend, 0), await openGpu(backend, 1)];
    await one.setPowerLimit?.({ power_limit_mw: 200_000 });
    expect(await one.getPowerLimit?.({})).toEqual({ power_limit_mw: 200_000 });
    expect(await other.getPowerLimit?.({})).toEqual({ power_limit_mw: 300_000 });
    expect(await one.getPower?.({})).toEqual({ power_mw: 50_000 });
    expect(await other.getPower?.({})).toEqual({ power_mw: 50_001 });
  });

  it("tells a lower power limit as the one in force than the one that is set, if the driver enforces one", async () => {
    const { backend, stub } = createSubject();
    const [one, other] = [await openGpu(backend, 0), await openGpu(backend, 1)];
    stub.fail("nvmlDeviceGetEnforcedPowerLimit@0=value:250000");
    expect(await one.getEnforcedPowerLimit?.({})).toEqual({ power_limit_mw: 250_000 });
    expect(await one.getPowerLimit?.({})).toEqual({ power_limit_mw: 300_000 });
    expect(await other.getEnforcedPowerLimit?.({})).toEqual({ power_limit_mw: 300_000 });
  });

  it("hands the driver exactly what was asked", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend, 1);
    const before = stub.calls().length;
    await gpu.setPersistenceMode?.({ enabled: true });
    await gpu.setPersistenceMode?.({ enabled: false });
    await gpu.setPowerLimit?.({ power_limit_mw: 123_456 });
    await gpu.setGpuLockedClocks?.({ min_clock_mhz: 300, max_clock_mhz: 1400 });
    await gpu.resetGpuLockedClocks?.({});
    await gpu.setMemLockedClocks?.({ min_clock_mhz: 405, max_clock_mhz: 2619 });
    await gpu.resetMemLockedClocks?.({});
    await gpu.resetLockedClocks?.({});
    await gpu.getPower?.({});
    expect(stub.calls().slice(before)).toEqual([
      "nvmlDeviceSetPersistenceMode 1 1 -> 0",
      "nvmlDeviceSetPersistenceMode 1 0 -> 0",
      "nvmlDeviceSetPowerManagementLimit 1 123456 -> 0",
      "nvmlDeviceSetGpuLockedClocks 1 300 1400 -> 0",
      "nvmlDeviceResetGpuLockedClocks 1 -> 0",
      "nvmlDeviceSetMemoryLockedClocks 1 405 2619 -> 0",
      "nvmlDeviceResetMemoryLockedClocks 1 -> 0",
      "nvmlDeviceResetGpuLockedClocks 1 -> 0",
      "nvmlDeviceResetMemoryLockedClocks 1 -> 0",
      "nvmlDeviceGetFieldValues 1 186.0 -> 0",
    ]);
  });

  it.each([
    ["a small counter", "1234567", 1_234_567],
    ["a counter above 32 bits", "8589934592000", 8_589_934_592_000],
    ["the largest that a number holds exactly", "9007199254740991", 9_007_199_254_740_991],
    ["a counter above that, rounded", "18446744073709551615", 2 ** 64],
  ])("reads %s", async (_, value, energy_mj) => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`nvmlDeviceGetTotalEnergyConsumption@0=value:${value}`);
    expect(await gpu.getCumulativeEnergy?.({})).toEqual({ energy_mj });
  });

  it("keeps a whole 32-bit power limit on its way to the driver", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    await expect(gpu.setPowerLimit?.({ power_limit_mw: 4_294_967_295 })).rejects.toThrow("argument was invalid");
    expect(stub.calls().at(-1)).toBe("nvmlDeviceSetPowerManagementLimit 0 4294967295 -> 2");
  });

  it("unlocks the memory clocks even when the GPU clocks stay locked, and tells the GPU's error", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail("nvmlDeviceResetGpuLockedClocks=code:4", "nvmlDeviceResetMemoryLockedClocks=code:3");
    await expect(gpu.resetLockedClocks?.({})).rejects.toMatchObject({ code: "no_permission" });
    expect(stub.calls().at(-1)).toBe("nvmlDeviceResetMemoryLockedClocks 0 -> 3");
  });

  it("tells the memory's error when only the memory clocks stay locked", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail("nvmlDeviceResetMemoryLockedClocks=code:3");
    await expect(gpu.resetLockedClocks?.({})).rejects.toMatchObject({ code: "not_supported" });
  });
});

describe("a GPU whose driver call hangs", () => {
  it("leaves the event loop and the other GPUs alone, and answers when the call returns", async () => {
    const { backend, stub } = createSubject();
    const [one, other] = [await openGpu(backend, 0), await openGpu(backend, 1)];
    stub.fail("nvmlDeviceSetPowerManagementLimit@0=hang");
    const hung = one.setPowerLimit?.({ power_limit_mw: 150_000 });
    await stub.called("nvmlDeviceSetPowerManagementLimit 0 hangs");
    await other.setPowerLimit?.({ power_limit_mw: 150_000 });
    expect(await other.getPowerLimit?.({})).toEqual({ power_limit_mw: 150_000 });
    expect(await one.getPowerLimit?.({})).toEqual({ power_limit_mw: 300_000 });
    stub.fail();
    await hung;
    expect(await one.getPowerLimit?.({})).toEqual({ power_limit_mw: 150_000 });
  });

  it("leaves the event loop alone when the driver has one lock for all GPUs", async () => {
    const { backend, stub } = createSubject({ env: { NVML_STUB_LOCK: "1" } });
    const [one, other] = [await openGpu(backend, 0), await openGpu(backend, 1)];
    stub.fail("nvmlDeviceGetPowerManagementLimit@0=hang,code:15");
    const hung = one.getPowerLimit?.({});
    await stub.called("nvmlDeviceGetPowerManagementLimit 0 hangs");
    const waiting = other.getPowerLimit?.({});
    stub.fail();
    await expect(hung).rejects.toThrow("fell off the bus");
    expect(await waiting).toEqual({ power_limit_mw: 300_000 });
  });
});
