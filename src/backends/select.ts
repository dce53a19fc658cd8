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
  if (config.gpuBackend !== "sim") return { gpus: await nvml(clock, config.deviceTimeoutMs), cpus: rapl };
  const machine = simBackend(config.sim);
  log.warn(`These GPUs are simulated (${config.sim}): nothing that is set reaches any hardware`);
  return { gpus: machine.gpus, cpus: config.powercapRoot === undefined ? machine.cpus : rapl };
}

/** Loaded only where it is used: it brings the C signatures with it. */
async function nvml(clock: Clock, patienceMs: number): Promise<GpuBackend> {
  const { createNvmlBackend } = await import("./nvml/backend.ts");
  return createNvmlBackend({ clock, patienceMs });
}

function rootOf({ powercapRoot }: Config): { readonly root?: string } {
  return powercapRoot === undefined ? {} : { root: powercapRoot };
}
