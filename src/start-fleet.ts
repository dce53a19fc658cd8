// Starts the fleet: finds the devices, gives them what they need to run, and goes on looking for those that are missing.
import { availableParallelism } from "node:os";
import { selectBackends } from "./backends/select.ts";
import type { Config } from "./contract/config.ts";
import { StartError, ZeusdError } from "./contract/errors.ts";
import type { DaemonParts } from "./daemon.ts";
import type { Events } from "./contract/events.ts";
import type { Health } from "./contract/health.ts";
import { checkDrift } from "./devices/drift-check.ts";
import { Fleet } from "./devices/fleet.ts";
import { Probing } from "./devices/probing.ts";
import { createWakefulness, drowsy, type Wakefulness } from "./devices/wakefulness.ts";
import { createAlarm } from "./native/alarm.ts";
import { createYield } from "./native/libc.ts";
import type { Settings } from "./settings/settings.ts";

/** What the fleet shares with others. */
export interface FleetShares {
  readonly events: Events;
  readonly health: Health;
  readonly settings: Settings;
  /** Hears when only a new process can drive the devices. */
  readonly broken: (reason: Error) => void;
}

type FleetOrigin = Pick<DaemonParts, "clock" | "log" | "threads" | "backends">;

/** Throws a StartError for a driver that is required and missing, or was replaced, and for too few threads. */
export async function startFleet(config: Config, parts: FleetOrigin, shares: FleetShares): Promise<Fleet> {
  const { clock, log, threads } = parts;
  const { events, health, settings, broken } = shares;
  const backends = parts.backends ?? (await selectBackends(config, clock, log));
  const { gpuPowerPollHz: gpuPollHz, cpuPowerPollHz: cpuPollHz, deviceTimeoutMs: timeoutMs } = config;
  const wakefulness = chooseWakefulness(config);
  const lost = (): void => probing.hasten();
  const rates = { gpuPollHz, cpuPollHz };
  const fleet = new Fleet({
    clock,
    log,
    ...rates,
    timeoutMs,
    wakefulness,
    events,
    health,
    settings,
    lost,
    fatal: broken,
  });
  let started = false;
  let told: string | undefined;
  const probing = new Probing({
    backend: backends.gpus,
    clock,
    log,
    required: config.gpuBackend === "nvml",
    lost: () => fleet.lostGpus,
    adopt(found) {
      fleet.adoptGpus(found);
      const shortage = shortageOfThreads(fleet, threads);
      if (started && shortage !== undefined && shortage !== told) log.warn(shortage);
      told = shortage;
    },
    fatal: broken,
  });
  await probing.start().catch((error: unknown) => {
    throw startError(config, error);
  });
  fleet.adoptCpus(await backends.cpus());
  const shortage = shortageOfThreads(fleet, threads);
  if (shortage !== undefined) throw new StartError(shortage);
  started = true;
  checkDrift(fleet, clock, 1000 * config.driftCheckS, () => settings.lookAfterJournal());
  return fleet;
}

function startError({ gpuBackend }: Config, error: unknown): unknown {
  if (!(error instanceof ZeusdError)) return error;
  const { code, message } = error;
  const text =
    code === "driver_mismatch"
      ? `${message}; start again once the NVIDIA driver that is loaded and its library are of one version`
      : `Cannot use --gpu-backend ${gpuBackend}: ${message}; install or load the NVIDIA driver, or use auto to start without GPUs`;
  return new StartError(text, { cause: error });
}

/** With one processor a loop that polls would keep the driver's thread from running. */
function chooseWakefulness({ busyPollUs }: Config): Wakefulness {
  if (busyPollUs === 0 || availableParallelism() === 1) return drowsy;
  return createWakefulness(busyPollUs, {
    nowMs: () => performance.now(),
    nextTurn: setImmediate,
    createAlarm,
    yieldProcessor: createYield(),
  });
}

/** How many threads are left to everything but driver calls. */
const spareThreads = 8;

/** A call that hangs keeps its thread: there must be enough for all lanes to hang, and still for others to be served. */
function shortageOfThreads({ lanes }: Fleet, threads = Infinity): string | undefined {
  if (lanes + spareThreads <= threads) return undefined;
  return `${threads} threads are too few for the driver calls of ${lanes / 2} devices; start with --num-workers ${lanes + spareThreads}`;
}
