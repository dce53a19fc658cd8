// Simulated machines: for trying the daemon without a GPU, and for tests.
import type { Cpu } from "../../contract/cpu.ts";
import type { GpuBackend } from "../../contract/gpu.ts";
import { simulatedCpu } from "./cpu.ts";
import { simulatedGpu } from "./gpu.ts";
import { serving, training, type Load } from "./load.ts";
import { parseMachine } from "./machine.ts";

interface SimOptions {
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
  /** What each GPU is busy with, by id. By default each trains at a pace of its own. */
  readonly load?: (gpu: number) => Load;
}

interface SimulatedMachine {
  readonly gpus: GpuBackend;
  readonly cpus: () => Promise<readonly Cpu[]>;
}

/**
 * A machine by name, such as `8xh100`: a count of 1 to 16, an "x" and a card of the catalogue. It has two CPU packages from
 * four GPUs on, else one. Its clock starts when it is made, with every GPU idle and every energy counter at zero.
 * Throws a StartError that names what is allowed.
 */
export function simBackend(
  name: string,
  { now = () => performance.now(), load = training }: SimOptions = {},
): SimulatedMachine {
  const { count, card } = parseMachine(name);
  const gpus = Array.from({ length: count }, (_, id) => simulatedGpu({ machine: name, id, card, now, load: load(id) }));
  const cpus = Array.from({ length: count >= 4 ? 2 : 1 }, (_, id) => simulatedCpu({ id, now, load: serving(id) }));
  return { gpus: { name: "sim", probe: async () => gpus }, cpus: async () => cpus };
}
