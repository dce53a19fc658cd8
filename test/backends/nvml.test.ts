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
    await gpu.getPower?.({});
    await gpu.getDefaultPowerLimit?.({});
    await gpu.getClocks?.({});
    await gpu.getSupportedClocks?.({});
    await gpu.getThrottleReasons?.({});
    expect(stub.calls().slice(before)).toEqual([
      "nvmlDeviceSetPersistenceMode 1 1 -> 0",
      "nvmlDeviceSetPersistenceMode 1 0 -> 0",
      "nvmlDeviceSetPowerManagementLimit 1 123456 -> 0",
      "nvmlDeviceSetGpuLockedClocks 1 300 1400 -> 0",
      "nvmlDeviceResetGpuLockedClocks 1 -> 0",
      "nvmlDeviceSetMemoryLockedClocks 1 405 2619 -> 0",
      "nvmlDeviceResetMemoryLockedClocks 1 -> 0",
      "nvmlDeviceGetFieldValues 1 186.0 -> 0",
      "nvmlDeviceGetPowerManagementDefaultLimit 1 -> 0",
      "nvmlDeviceGetClockInfo 1 1 -> 0",
      "nvmlDeviceGetClockInfo 1 2 -> 0",
      "nvmlDeviceGetSupportedMemoryClocks 1 512 -> 0",
      "nvmlDeviceGetSupportedGraphicsClocks 1 2619 512 -> 0",
      "nvmlDeviceGetCurrentClocksThrottleReasons 1 -> 0",
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

  it("tells the clocks that it runs at, its own apart from its memory's", async () => {
    const { backend } = createSubject();
    const [one, other] = [await openGpu(backend, 0), await openGpu(backend, 1)];
    await one.setGpuLockedClocks?.({ min_clock_mhz: 300, max_clock_mhz: 1200 });
    expect(await one.getClocks?.({})).toEqual({ gpu_clock_mhz: 1200, memory_clock_mhz: 2619 });
    await other.setMemLockedClocks?.({ min_clock_mhz: 405, max_clock_mhz: 1593 });
    expect(await other.getClocks?.({})).toEqual({ gpu_clock_mhz: 1980, memory_clock_mhz: 1593 });
  });
});

describe("the clocks that a GPU has", () => {
  const memoryList = "nvmlDeviceGetSupportedMemoryClocks";
  const gpuList = "nvmlDeviceGetSupportedGraphicsClocks";
  const down = (from: number, length: number, step: number): readonly number[] =>
    Array.from({ length }, (_, index) => from - index * step);

  it("are told highest first, its own as they are at the highest clock of its memory", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`${memoryList}@0=value:3`);
    expect(await gpu.getSupportedClocks?.({})).toEqual({
      memory_clocks_mhz: [2619, 2618, 2617],
      gpu_clocks_mhz: down(1980, 119, 15),
    });
    expect(stub.calls().at(-1)).toBe(`${gpuList} 0 2619 512 -> 0`);
  });

  it.each([511, 512, 513, 1979])(
    "are all told when they are %i, with the room that the driver asks for",
    async (length) => {
      const { backend, stub } = createSubject();
      const gpu = await openGpu(backend);
      stub.fail(`${memoryList}@0=value:${length}`, `${gpuList}@0=value:${length}`);
      expect(await gpu.getSupportedClocks?.({})).toEqual({
        memory_clocks_mhz: down(2619, length, 1),
        gpu_clocks_mhz: down(1980, length, 1),
      });
      const asked = stub.calls().filter((line) => line.startsWith(gpuList));
      const first = `${gpuList} 0 2619 512 -> ${length > 512 ? 7 : 0}`;
      expect(asked).toEqual(length > 512 ? [first, `${gpuList} 0 2619 ${length} -> 0`] : [first]);
    },
  );

  it("are asked for once more only when there is not room enough, and then the driver's refusal is told", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`${memoryList}@0=code:7`);
    const text = "NVML error: an input argument is not large enough";
    await expect(gpu.getSupportedClocks?.({})).rejects.toMatchObject({ code: "driver_error", message: text });
    expect(stub.calls().slice(-2)).toEqual([`${memoryList} 0 512 -> 7`, `${memoryList} 0 512 -> 7`]);
  });

  it("are not asked for again when the driver refuses for another reason", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`${gpuList}@0=code:3`);
    await expect(gpu.getSupportedClocks?.({})).rejects.toMatchObject({ code: "not_supported" });
    expect(stub.calls().slice(-2)).toEqual([`${memoryList} 0 512 -> 0`, `${gpuList} 0 2619 512 -> 3`]);
  });

  it("are none where the memory has none", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`${memoryList}@0=value:0`);
    expect(await gpu.getSupportedClocks?.({})).toEqual({ memory_clocks_mhz: [], gpu_clocks_mhz: [] });
  });
});

describe("the reasons why a GPU does not run faster", () => {
  const symbol = "nvmlDeviceGetCurrentClocksThrottleReasons";

  /** The names of those that hold while the driver gives these bits. */
  async function reasonsFor(bits: bigint): Promise<readonly string[]> {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(`${symbol}@0=value:${bits}`);
    const reasons = await gpu.getThrottleReasons?.({});
    return Object.entries(reasons ?? {}).flatMap(([name, holds]) => (holds ? [name] : []));
  }

  it.each([
    [0x1n, "gpu_idle"],
    [0x2n, "applications_clocks_setting"],
    [0x4n, "sw_power_cap"],
    [0x8n, "hw_slowdown"],
    [0x10n, "sync_boost"],
    [0x20n, "sw_thermal_slowdown"],
    [0x40n, "hw_thermal_slowdown"],
    [0x80n, "hw_power_brake_slowdown"],
    [0x100n, "display_clock_setting"],
  ])("has for the bit %i the name %s", async (bit, name) => {
    expect(await reasonsFor(bit)).toEqual([name]);
  });

  it("can be none, or several", async () => {
    expect(await reasonsFor(0n)).toEqual([]);
    expect(await reasonsFor(0x4n + 0x8n + 0x40n)).toEqual(["sw_power_cap", "hw_slowdown", "hw_thermal_slowdown"]);
  });

  it("leave out what only a newer driver knows, in the upper bits as well", async () => {
    expect(await reasonsFor(0x200n)).toEqual([]);
    expect(await reasonsFor(2n ** 63n + 2n ** 32n + 0x1n)).toEqual(["gpu_idle"]);
    expect(await reasonsFor(2n ** 64n - 0x200n)).toEqual([]);
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
