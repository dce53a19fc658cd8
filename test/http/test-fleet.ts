// A fleet over the fake machine, with nothing around it.
import type { Log } from "../../src/contract/log.ts";
import { Fleet } from "../../src/devices/fleet.ts";
import { drowsy } from "../../src/devices/wakefulness.ts";
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
    lost: () => {},
    fatal: () => {},
  });
  fleet.adoptGpus(await backends.gpus.probe(fleet.lostGpus));
  fleet.adoptCpus(await backends.cpus());
  return fleet;
}
