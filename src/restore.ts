// `zeusd restore`: puts back, without a daemon, what leases have changed and nobody holds any more.
import { existsSync } from "node:fs";
import type { Clock } from "./contract/clock.ts";
import type { Config } from "./contract/config.ts";
import { Events } from "./contract/events.ts";
import { Health } from "./contract/health.ts";
import type { Log } from "./contract/log.ts";
import type { Fleet } from "./devices/fleet.ts";
import type { Settings } from "./settings/settings.ts";
import { describeValue } from "./settings/knobs.ts";
import { startFleet } from "./start-fleet.ts";
import { startSettings } from "./start-settings.ts";

export interface RestoreParts {
  /** Also what somebody holds. */
  readonly all: boolean;
  readonly clock: Clock;
  readonly log: Log;
  /** The effective uid; 0 is root. */
  readonly euid: number;
  readonly stdout: (text: string) => void;
}

/** How long a driver that hangs is waited for, in ms: a unit's stop must come to its end. */
const patienceMs = 5_000;

/** Gives back whether nothing is left to be put back. Throws a StartError for what cannot even be tried. */
export async function restore(config: Config, parts: RestoreParts): Promise<boolean> {
  const { all, clock, stdout } = parts;
  const { stateDir } = config;
  // A daemon that changes nothing has nothing to remember, and one on a port of the system's choice does not.
  if (stateDir === undefined || !existsSync(stateDir)) {
    stdout(`Nothing to put back: ${stateDir === undefined ? "nothing is remembered" : `there is no ${stateDir}`}\n`);
    return true;
  }
  const health = new Health();
  const events = new Events(() => clock.epochMs());
  events.listen((event) => {
    if (event.event !== "restored") return;
    stdout(`GPU ${event.gpu}: ${event.setting} is ${describeValue(event.value)} again\n`);
  });
  // A daemon that runs on it puts back by itself.
  const required = { ...config, stateDirRequired: true };
  const { settings, setAside, close } = startSettings(required, { ...parts, health, events });
  try {
    if (setAside) {
      stdout("The journal could not be used, and is set aside; look at what is set, and set by hand what should be\n");
      return false;
    }
    if (all) for (const lease of settings.leases.all) settings.leases.end(lease, "forced");
    if (settings.missing.length === 0) {
      stdout("Nothing to put back\n");
      return true;
    }
    const fleet = await startFleet(config, parts, { settings, events, health, broken: () => {} });
    return await settleAll(fleet, settings, parts);
  } finally {
    close();
  }
}

async function settleAll(fleet: Fleet, settings: Settings, { clock, stdout }: RestoreParts): Promise<boolean> {
  const waiting = new Map<string, string>(settings.missing.map((key) => [key, `${key} is not there`]));
  const owing = fleet.gpuMembers.filter((gpu) => gpu.settings?.owes);
  for (const { name } of owing) waiting.set(name, `the driver has not returned for ${patienceMs / 1000} s`);
  const settled = owing.map(async (gpu) => {
    const outcome = await gpu.settle();
    if (outcome === undefined) waiting.delete(gpu.name);
    else waiting.set(gpu.name, outcome);
  });
  await Promise.race([Promise.all(settled), new Promise<void>((resolve) => void clock.after(patienceMs, resolve))]);
  for (const [gpu, reason] of waiting) stdout(`${gpu} has still to be put back: ${reason}\n`);
  return waiting.size === 0;
}
