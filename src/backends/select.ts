// Which backend drives the GPUs and CPUs of this machine.
import type { Clock } from "../contract/clock.ts";
import type { Config } from "../contract/config.ts";
import type { Cpu } from "../contract/cpu.ts";
import type { GpuBackend } from "../contract/gpu.ts";
import type { Log } from "../contract/log.ts";
import { raplCpus } from "./rapl/rapl.ts";
import { simBackend } from "./sim/sim.ts";

export interface Backends {
  readonly gpus: GpuBackend;
  cpus(): Promise<readonly Cpu[]>;
}

/** A simulated machine is never chosen by itself: only `--sim` and `--gpu-backend sim` ask for it. */
export async function selectBackends(config: Config, clock: Clock, log: Log): Promise<Backends> {
  const rapl = async (): Promise<readonly Cpu[]> => (await raplCpus({ ...rootOf(config), clock, log })).cpus;
  if (config.gpuBackend !== "sim") return { gpus: await nvml(config, clock), cpus: rapl };
  const machine = simBackend(config.sim);
  log.warn(`These GPUs are simulated (${config.sim}): nothing that is set reaches any hardware`);
  return { gpus: machine.gpus, cpus: config.powercapRoot === undefined ? machine.cpus : rapl };
}

/** How long a start waits for a driver and its GPUs, in ms: those that come later are taken in as well, unless there is no starting without. */
const startPatienceMs = 4_000;
/** Eight GPUs without persistence mode take a while to wake. */
const requiredPatienceMs = 30_000;

/** Loaded only where it is used: it brings the C signatures with it. */
async function nvml({ gpuBackend, deviceTimeoutMs }: Config, clock: Clock): Promise<GpuBackend> {
  const { createNvmlBackend } = await import("./nvml/backend.ts");
  const required = gpuBackend === "nvml";
  return createNvmlBackend({
    clock,
    firstPatienceMs: required ? requiredPatienceMs : Math.min(startPatienceMs, deviceTimeoutMs),
  });
}

function rootOf({ powercapRoot }: Config): { readonly root?: string } {
  return powercapRoot === undefined ? {} : { root: powercapRoot };
}
