// A CPU package as the daemon sees it: facts, and one function for each row of the table.
import type { Calls } from "./gpu.ts";
import type { cpuOperations } from "./operations.ts";

interface CpuFacts {
  /** The N of `intel-rapl:N`. */
  readonly id: number;
  readonly dram_available: boolean;
}

/** Calls throw a ZeusdError; they never block the event loop. */
export type Cpu = CpuFacts & Required<Calls<typeof cpuOperations>>;
