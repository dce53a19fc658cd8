// What clients read when the driver refuses: NVML's return codes, functions that an old driver lacks, odd values.
import { describe, expect, it } from "vitest";
import { createSubject, openGpu } from "./nvml-subject.ts";

const answers: readonly (readonly [code: number, status: number, text: string])[] = [
  [1, 500, "NVML was not first initialized with `Nvml::init()`"],
  [2, 400, "a supplied argument was invalid"],
  [3, 400, "the requested operation is not available on the target device"],
  [4, 403, "the current user does not have permission to perform this operation"],
  [5, 500, "NVML was already initialized"],
  [6, 500, "a query to find an object was unsuccessful"],
  [7, 500, "an input argument is not large enough"],
  [8, 500, "device's external power cables are not properly attached"],
  [9, 500, "NVIDIA driver is not loaded"],
  [10, 500, "the provided timeout was reached"],
  [11, 500, "NVIDIA kernel detected an interrupt issue with a device"],
  [12, 500, "a shared library couldn't be found or loaded"],
  [13, 500, "a function couldn't be found in a shared library"],
  [14, 500, "the infoROM is corrupted"],
  [15, 500, "device fell off the bus or has otherwise become inacessible"],
  [16, 500, "device requires a reset before it can be used again"],
  [17, 500, "device control has been blocked by the operating system/cgroups"],
  [18, 500, "RM detects a driver/library version mismatch"],
  [19, 500, "operation cannot be performed because the GPU is currently in use"],
  [20, 500, "insufficient memory"],
  [21, 500, "no data"],
  [22, 500, "the requested vgpu operation is not available on the target device because ECC is enabled"],
  [23, 500, "unexpected enum variant value: 23"],
  [29, 500, "unexpected enum variant value: 29"],
  [998, 500, "unexpected enum variant value: 998"],
  [999, 500, "an internal driver error occurred"],
];

describe("a refusal of NVML", () => {
  it.each(answers)("with code %i is status %i: %s", async (code, status, text) => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail(
      `nvmlDeviceSetPowerManagementLimit=code:${code}`,
      `nvmlDeviceGetTotalEnergyConsumption=code:${code}`,
      `nvmlDeviceGetPersistenceMode=code:${code}`,
    );
    const error = { message: `NVML error: ${text}`, status };
    await expect(gpu.setPowerLimit?.({ power_limit_mw: 200_000 })).rejects.toMatchObject(error);
    await expect(gpu.getCumulativeEnergy?.({})).rejects.toMatchObject(error);
    await expect(gpu.getPersistenceMode?.({})).rejects.toMatchObject(error);
  });

  it("names the function and the code as its cause", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail("nvmlDeviceResetGpuLockedClocks=code:19");
    await expect(gpu.resetGpuLockedClocks?.({})).rejects.toMatchObject({
      code: "driver_error",
      cause: { message: "nvmlDeviceResetGpuLockedClocks answered code 19" },
    });
  });

  it.each([
    ["gpu_lost", [1, 9, 15, 16]],
    ["driver_mismatch", [18]],
    ["driver_error", [5, 6, 10, 11, 17, 19, 999]],
  ] as const)("tells %s from the rest", async (code, answered) => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    for (const each of answered) {
      stub.fail(`nvmlDeviceGetPowerManagementLimit=code:${each}`);
      await expect(gpu.getPowerLimit?.({})).rejects.toMatchObject({ code, status: 500 });
    }
  });

  it("strikes the GPU that it is about, and no other", async () => {
    const { backend, stub } = createSubject();
    const [one, other] = [await openGpu(backend, 0), await openGpu(backend, 1)];
    stub.fail("nvmlDeviceSetPowerManagementLimit@0=code:4");
    await expect(one.setPowerLimit?.({ power_limit_mw: 200_000 })).rejects.toMatchObject({ status: 403 });
    await other.setPowerLimit?.({ power_limit_mw: 200_000 });
  });
});

describe("a driver that lacks a function", () => {
  it("breaks the operation that needs it, and no other", async () => {
    const { backend } = createSubject({ omit: ["nvmlDeviceSetMemoryLockedClocks"] });
    const gpu = await openGpu(backend);
    await expect(gpu.setMemLockedClocks?.({ min_clock_mhz: 405, max_clock_mhz: 2619 })).rejects.toMatchObject({
      code: "driver_error",
      status: 500,
      message: expect.stringMatching(
        /^NVML error: function symbol failed to load: .*nvmlDeviceSetMemoryLockedClocks/,
      ) as string,
    });
    await gpu.setGpuLockedClocks?.({ min_clock_mhz: 300, max_clock_mhz: 1200 });
  });

  it("still has its GPUs found when it cannot tell who they are beyond their name", async () => {
    const omit = ["nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetTotalEnergyConsumption"];
    const gpu = await openGpu(createSubject({ omit }).backend);
    expect(gpu).toMatchObject({ uuid: null, pci_address: null, cumulative_energy_available: false });
    await expect(gpu.getCumulativeEnergy?.({})).rejects.toThrow("function symbol failed to load");
  });
});

describe("the persistence mode", () => {
  it("is an error when the driver gives a value that NVML does not know", async () => {
    const { backend, stub } = createSubject();
    const gpu = await openGpu(backend);
    stub.fail("nvmlDeviceGetPersistenceMode=value:7");
    await expect(gpu.getPersistenceMode?.({})).rejects.toMatchObject({
      message: "NVML error: unexpected enum variant value: 7",
      status: 500,
    });
  });
});
