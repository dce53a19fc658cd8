// A GPU that NVML drives: who it is, and one function for each operation.
import type { Gpu, GpuFacts } from "../../contract/gpu.ts";
import { getClocks, getSupportedClocks } from "./clocks.ts";
import { isMismatch, unknownValueError } from "./errors.ts";
import { nvmlUntil, type Handle, type Nvml } from "./library.ts";
import { createPowerReader } from "./power.ts";
import { getThrottleReasons } from "./throttle-reasons.ts";

/** A GPU that has a handle. It has no id yet: that may depend on what it tells about itself. */
export interface OpenGpu {
  readonly record: Omit<Gpu, "id">;
  /** Ends the use of its handle: the driver hears nothing of later calls. */
  close(): void;
}

/** Throws if the GPU does not tell its name; whatever else it does not tell is left out. */
export async function openGpu(nvml: Nvml, handle: Handle): Promise<OpenGpu> {
  const ending = new AbortController();
  const facts = await factsOf(nvml, handle);
  const record = { ...facts, ...callsOf(nvmlUntil(ending.signal, nvml), handle) };
  return { record, close: () => ending.abort() };
}

async function factsOf(nvml: Nvml, handle: Handle): Promise<Omit<GpuFacts, "id">> {
  return {
    name: await nvml.text("nvmlDeviceGetName", handle),
    uuid: await ifTold(nvml.text("nvmlDeviceGetUUID", handle)),
    pci_address: await ifTold(nvml.pciAddress(handle)),
    cumulative_energy_available: (await ifTold(nvml.number("nvmlDeviceGetTotalEnergyConsumption", handle))) !== null,
  };
}

function ifTold<Fact>(fact: Promise<Fact>): Promise<Fact | null> {
  return fact.catch((error: unknown) => {
    if (isMismatch(error)) throw error;
    return null;
  });
}

type GpuCalls = Required<Omit<Gpu, keyof GpuFacts>>;

function callsOf(nvml: Nvml, handle: Handle): GpuCalls {
  const readPower = createPowerReader(nvml, handle);
  return {
    setPersistenceMode: ({ enabled }) => nvml.run("nvmlDeviceSetPersistenceMode", handle, enabled ? 1 : 0),
    setPowerLimit: ({ power_limit_mw }) => nvml.run("nvmlDeviceSetPowerManagementLimit", handle, power_limit_mw),
    setGpuLockedClocks: ({ min_clock_mhz, max_clock_mhz }) =>
      nvml.run("nvmlDeviceSetGpuLockedClocks", handle, min_clock_mhz, max_clock_mhz),
    resetGpuLockedClocks: () => nvml.run("nvmlDeviceResetGpuLockedClocks", handle),
    setMemLockedClocks: ({ min_clock_mhz, max_clock_mhz }) =>
      nvml.run("nvmlDeviceSetMemoryLockedClocks", handle, min_clock_mhz, max_clock_mhz),
    resetMemLockedClocks: () => nvml.run("nvmlDeviceResetMemoryLockedClocks", handle),
    getCumulativeEnergy: async () => ({
      energy_mj: await nvml.number("nvmlDeviceGetTotalEnergyConsumption", handle),
    }),
    getPower: async () => ({ power_mw: await readPower() }),
    getPowerLimit: async () => ({ power_limit_mw: await nvml.number("nvmlDeviceGetPowerManagementLimit", handle) }),
    getEnforcedPowerLimit: async () => ({
      power_limit_mw: await nvml.number("nvmlDeviceGetEnforcedPowerLimit", handle),
    }),
    getPowerLimitConstraints: () => getPowerLimitConstraints(nvml, handle),
    getDefaultPowerLimit: async () => ({
      power_limit_mw: await nvml.number("nvmlDeviceGetPowerManagementDefaultLimit", handle),
    }),
    getPersistenceMode: () => getPersistenceMode(nvml, handle),
    getClocks: () => getClocks(nvml, handle),
    getSupportedClocks: () => getSupportedClocks(nvml, handle),
    getThrottleReasons: () => getThrottleReasons(nvml, handle),
  };
}

async function getPowerLimitConstraints(nvml: Nvml, handle: Handle) {
  const [min = 0, max = 0] = await nvml.numbers(2, "nvmlDeviceGetPowerManagementLimitConstraints", handle);
  return { min_power_limit_mw: min, max_power_limit_mw: max };
}

async function getPersistenceMode(nvml: Nvml, handle: Handle): Promise<{ enabled: boolean }> {
  const mode = await nvml.number("nvmlDeviceGetPersistenceMode", handle);
  if (mode > 1) throw unknownValueError("nvmlDeviceGetPersistenceMode", mode);
  return { enabled: mode === 1 };
}
