// Why the clocks of a GPU that NVML drives are not higher: NVML's set of bits, by name.
import type { ValuesOf } from "../../contract/field.ts";
import type { gpuOperations } from "../../contract/operations.ts";
import type { Handle, Nvml } from "./library.ts";

type ThrottleReasons = ValuesOf<(typeof gpuOperations)["getThrottleReasons"]["result"]>;

/** The bits are nvml.h's nvmlClocksThrottleReason…; one that is not among them is a newer driver's, and ignored. */
export async function getThrottleReasons(nvml: Nvml, handle: Handle): Promise<ThrottleReasons> {
  const reasons = await nvml.bits("nvmlDeviceGetCurrentClocksThrottleReasons", handle);
  const has = (bit: number): boolean => (reasons & bit) !== 0;
  return {
    gpu_idle: has(0x1),
    applications_clocks_setting: has(0x2),
    sw_power_cap: has(0x4),
    hw_slowdown: has(0x8),
    sync_boost: has(0x10),
    sw_thermal_slowdown: has(0x20),
    hw_thermal_slowdown: has(0x40),
    hw_power_brake_slowdown: has(0x80),
    display_clock_setting: has(0x100),
  };
}
