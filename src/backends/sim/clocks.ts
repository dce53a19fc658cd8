// The clocks of a simulated GPU, in MHz: which ones there are, what they run at, and why that is not higher.
import type { ValuesOf } from "../../contract/field.ts";
import type { gpuOperations } from "../../contract/operations.ts";
import type { Card } from "./catalogue.ts";
import { memoryClock, powerDemand, type Settings } from "./settings.ts";

type ResultOf<Read extends "getClocks" | "getThrottleReasons"> = ValuesOf<(typeof gpuOperations)[Read]["result"]>;

const step_mhz = 15;

/** Every 15 MHz from the highest down, and the lowest. */
export function gpuClocks({ gpu_clock_mhz: { min, max } }: Card): readonly number[] {
  const steps = Math.ceil((max - min) / step_mhz);
  return Array.from({ length: steps + 1 }, (_, step) => Math.max(min, max - step * step_mhz));
}

/** At rest the lowest there are; at work the highest that the locks allow and the power limit has power for. */
export function clocksNow(card: Card, settings: Readonly<Settings>, share: number): ResultOf<"getClocks"> {
  if (share === 0) return { gpu_clock_mhz: card.gpu_clock_mhz.min, memory_clock_mhz: memoryClock(card, 0) };
  const gpu_clock_mhz = gpuClocks(card).find(
    (clock_mhz) =>
      clock_mhz <= settings.gpu_clock_mhz && !isCapped(card, { ...settings, gpu_clock_mhz: clock_mhz }, share),
  );
  return {
    gpu_clock_mhz: gpu_clock_mhz ?? card.gpu_clock_mhz.min,
    memory_clock_mhz: settings.memory_clock_mhz,
  };
}

/** It is never too hot, and has neither a display nor other GPUs to keep pace with. */
export function throttleReasons(
  card: Card,
  settings: Readonly<Settings>,
  share: number,
): ResultOf<"getThrottleReasons"> {
  return {
    gpu_idle: share === 0,
    applications_clocks_setting: settings.gpu_clock_mhz < card.gpu_clock_mhz.max,
    sw_power_cap: isCapped(card, settings, share),
    hw_slowdown: false,
    sync_boost: false,
    sw_thermal_slowdown: false,
    hw_thermal_slowdown: false,
    hw_power_brake_slowdown: false,
    display_clock_setting: false,
  };
}

/** Whether the power limit grants less than the card asks for. */
function isCapped(card: Card, settings: Readonly<Settings>, share: number): boolean {
  return powerDemand(card, settings)(share) * 1000 > settings.power_limit_mw;
}
