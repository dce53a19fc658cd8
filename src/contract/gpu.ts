// A GPU as the daemon sees it: facts, and one function for each row of the table that a call answers and its vendor can do.
import type { ZeusdError } from "./errors.ts";
import type { Fields, ValuesOf } from "./field.ts";
import type { gpuOperations, Operation } from "./operations.ts";

type Result<Row extends Operation> = Row extends { kind: "write" } ? void : ValuesOf<Row["result"]>;

/** The functions that a table asks of a device. One that a vendor lacks is absent; the caller is then told `not_supported`. */
export type Calls<Table extends Record<string, Operation & { parameters: Fields }>> = {
  readonly [Name in keyof Table as Table[Name] extends { by: "call" } ? Name : never]?: (
    parameters: ValuesOf<Table[Name]["parameters"]>,
  ) => Promise<Result<Table[Name]>>;
};

export interface GpuFacts {
  /** The NVML index. It stays with this GPU for as long as the daemon runs. */
  readonly id: number;
  readonly name: string;
  /** `GPU-…`, or null where the driver does not tell. */
  readonly uuid: string | null;
  /** `0000:41:00.0`, lower case, or null where the driver does not tell. */
  readonly pci_address: string | null;
  readonly cumulative_energy_available: boolean;
}

/** Calls throw a ZeusdError; they never block the event loop. */
export type Gpu = GpuFacts & Calls<typeof gpuOperations>;

/** A GPU that the driver counts but cannot open. Its id stays reserved. */
export interface AwayGpu {
  readonly id: number;
  readonly away: ZeusdError;
}

/** A vendor's way to find and drive GPUs. */
export interface GpuBackend {
  readonly name: string;
  /**
   * Looks for GPUs. Called again while something is missing: a GPU that was found before is returned as the same record,
   * unless its id is one of `lost`, those whose calls have failed with `gpu_lost` since: it is then opened anew, and found by
   * its UUID wherever the driver counts it now. Throws a ZeusdError with the reason when the driver as a whole is missing.
   */
  probe(lost: ReadonlySet<number>): Promise<readonly (Gpu | AwayGpu)[]>;
}
