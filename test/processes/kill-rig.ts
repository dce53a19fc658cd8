// What the rounds of the kill matrix are played on: a daemon, and how its writes look to it, to its driver and in its journal.
import { settings, type Setting } from "../../src/contract/operations.ts";
import { createFile, everything, rule } from "./governed.ts";
import { createLeaseRig, type LeaseRig } from "./lease-rig.ts";
import { isRoot } from "./ordinary-user.ts";

export const gpuCount = 2;

/** Writes over the socket belong to their process, except root's, which are those without a lease. */
export async function createKillRig(): Promise<LeaseRig> {
  const root = rule("root", "uids = [0]", everything, "restore_on_exit = false");
  const policy = createFile("policy.toml", root + rule("others", "anyone = true", everything));
  // Who looks after drift reads what the rounds let hang.
  const args = ["--drift-check-s", "0", "--restore-on-exit", ...(isRoot ? ["--policy", policy] : [])];
  const rig = await createLeaseRig({ gpus: gpuCount, args });
  await rig.start();
  return rig;
}

/** The functions of the driver for a setting. Clocks cannot be read. */
export const symbols: Readonly<
  Record<Setting, { readonly getter?: string; readonly setter: string; readonly reset?: string }>
> = {
  power_limit: { getter: "nvmlDeviceGetPowerManagementLimit", setter: "nvmlDeviceSetPowerManagementLimit" },
  persistence_mode: { getter: "nvmlDeviceGetPersistenceMode", setter: "nvmlDeviceSetPersistenceMode" },
  gpu_clocks: { setter: "nvmlDeviceSetGpuLockedClocks", reset: "nvmlDeviceResetGpuLockedClocks" },
  memory_clocks: { setter: "nvmlDeviceSetMemoryLockedClocks", reset: "nvmlDeviceResetMemoryLockedClocks" },
};

export const readable = settings.filter((setting) => symbols[setting].getter !== undefined);

export function settersOf(setting: Setting): readonly string[] {
  const { setter, reset } = symbols[setting];
  return reset === undefined ? [setter] : [setter, reset];
}

/** The target of a write, of a value as the stub's GPUs show it. */
export function targetOf(gpu: number, setting: Setting, value: string, block: boolean): string {
  const end = `?gpu_ids=${gpu}&block=${block}`;
  if (setting === "power_limit") return `/gpu/set_power_limit${end}&power_limit_mw=${value}`;
  if (setting === "persistence_mode") return `/gpu/set_persistence_mode${end}&enabled=${value === "on"}`;
  const which = setting === "gpu_clocks" ? "gpu" : "mem";
  if (value === "unlocked") return `/gpu/reset_${which}_locked_clocks${end}`;
  const [min, max] = value.split("-");
  return `/gpu/set_${which}_locked_clocks${end}&min_clock_mhz=${min}&max_clock_mhz=${max}`;
}

/** A value of the journal or the daemon as the stub's GPUs show it. */
export function valueText(value: Readonly<Record<string, unknown>>): string {
  const { power_limit_mw, enabled, min_clock_mhz, max_clock_mhz } = value;
  if (power_limit_mw !== undefined) return String(power_limit_mw);
  if (enabled !== undefined) return enabled === true ? "on" : "off";
  return min_clock_mhz === undefined ? "unlocked" : `${min_clock_mhz}-${max_clock_mhz}`;
}
