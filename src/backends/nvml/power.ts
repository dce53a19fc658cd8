// The power that a GPU draws now, read in whichever way the GPU and its driver have.
import { ZeusdError } from "../../contract/errors.ts";
import { U32_MAX } from "../../contract/field.ts";
import { SymbolMissing } from "../../native/load.ts";
import { NvmlAnswer } from "./errors.ts";
import type { Handle, Nvml } from "./library.ts";

const instantPower = 186;
const gpuScope = 0;
/** Of parts such as Grace Hopper, where the GPU and a CPU share one module. */
const moduleScope = 1;

/**
 * A function that reads the power in mW. The way that worked is remembered and asked first. When none does, the error is
 * that of the way that was asked first.
 */
export function createPowerReader(nvml: Nvml, handle: Handle): () => Promise<number> {
  let ways = [
    () => nvml.field(handle, instantPower, gpuScope),
    () => nvml.field(handle, instantPower, moduleScope),
    () => nvml.number("nvmlDeviceGetPowerUsage", handle),
  ];

  return async () => {
    let refusal: unknown;
    for (const way of ways) {
      try {
        const power_mw = Math.min(await way(), U32_MAX);
        if (way !== ways[0]) ways = [way, ...ways.filter((other) => other !== way)];
        return power_mw;
      } catch (error) {
        if (!isUnavailable(error)) throw error;
        refusal ??= error;
      }
    }
    throw refusal;
  };
}

/**
 * Codes that say "not here": invalid argument, not supported, not found, function not found. The first can only mean
 * a field or scope that the driver does not know, since everything else about the question is right. 0 is a value that
 * cannot be read.
 */
const unavailable: ReadonlySet<number> = new Set([0, 2, 3, 6, 13]);

/** Whether this way to read is missing. Any other error, such as a GPU that fell off the bus, is news to be told. */
function isUnavailable(error: unknown): boolean {
  const cause = error instanceof ZeusdError ? error.cause : undefined;
  return cause instanceof SymbolMissing || (cause instanceof NvmlAnswer && unavailable.has(cause.code));
}
