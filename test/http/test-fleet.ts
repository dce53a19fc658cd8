// A fleet over the fake machine, with nothing around it.
import type { Clock } from "../../src/contract/clock.ts";
import { Events } from "../../src/contract/events.ts";
import { Health } from "../../src/contract/health.ts";
import type { Log } from "../../src/contract/log.ts";
import { Fleet } from "../../src/devices/fleet.ts";
import { drowsy } from "../../src/devices/wakefulness.ts";
import { Settings } from "../../src/settings/settings.ts";
import type { FakeClock } from "../fake-clock.ts";
import type { FakeMachine } from "./fake-machine.ts";

export async function startFleetOn({ backends }: FakeMachine, clock: FakeClock, log: Log): Promise<Fleet> {
  const fleet = new Fleet({
    clock,
    log,
    gpuPollHz: 20,
    cpuPollHz: 10,
    timeoutMs: 4_000,
    wakefulness: drowsy,
    ...createSettings(clock, log),
    lost: () => {},
    fatal: () => {},
  });
  fleet.adoptGpus(await backends.gpus.probe(fleet.lostGpus));
  fleet.adoptCpus(await backends.cpus());
  return fleet;
}

/** Settings that remember nothing over restarts, and the events that they tell. */
export function createSettings(
  clock: Clock,
  log: Log,
): {
  readonly settings: Settings;
  readonly events: Events;
  readonly health: Health;
} {
  const events = new Events(() => clock.epochMs());
  const health = new Health();
  const shared = { clock, log, events, health, reassert: false, openProcess: () => undefined };
  return { events, health, settings: new Settings(shared) };
}
