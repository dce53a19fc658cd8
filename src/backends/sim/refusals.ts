// What the simulated driver refuses, in NVML's words.
import { ZeusdError } from "../../contract/errors.ts";
import type { Calls } from "../../contract/gpu.ts";
import type { gpuOperations } from "../../contract/operations.ts";

/** As NVML's return code 2. */
export function refuseInvalid(wrong: boolean): void {
  if (wrong) throw new ZeusdError("invalid_argument", "NVML error: a supplied argument was invalid");
}

/** These calls, as refused by a driver that knows them on a card that does not: NVML's return code 3. */
export function refusing(names: readonly (keyof Calls<typeof gpuOperations>)[]): Calls<typeof gpuOperations> {
  return Object.fromEntries(names.map((name) => [name, refuseUnsupported]));
}

async function refuseUnsupported(): Promise<never> {
  throw new ZeusdError("not_supported", "NVML error: the requested operation is not available on the target device");
}
