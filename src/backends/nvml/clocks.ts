// The clocks of a GPU that NVML drives, in MHz: what they run at now, and which ones there are.
import type { ValuesOf } from "../../contract/field.ts";
import type { gpuOperations } from "../../contract/operations.ts";
import type { Handle, Nvml } from "./library.ts";

type Clocks = ValuesOf<(typeof gpuOperations)["getClocks"]["result"]>;
type SupportedClocks = ValuesOf<(typeof gpuOperations)["getSupportedClocks"]["result"]>;

const smClock = 1;
const memoryClock = 2;

export async function getClocks(nvml: Nvml, handle: Handle): Promise<Clocks> {
  return {
    gpu_clock_mhz: await nvml.number("nvmlDeviceGetClockInfo", handle, smClock),
    memory_clock_mhz: await nvml.number("nvmlDeviceGetClockInfo", handle, memoryClock),
  };
}

/** The GPU's clocks depend on the memory's: these are the ones at its highest. */
export async function getSupportedClocks(nvml: Nvml, handle: Handle): Promise<SupportedClocks> {
  const memory_clocks_mhz = highestFirst(await nvml.list("nvmlDeviceGetSupportedMemoryClocks", handle));
  const [highest_mhz] = memory_clocks_mhz;
  if (highest_mhz === undefined) return { memory_clocks_mhz, gpu_clocks_mhz: [] };
  const gpu_clocks_mhz = await nvml.list("nvmlDeviceGetSupportedGraphicsClocks", handle, highest_mhz);
  return { memory_clocks_mhz, gpu_clocks_mhz: highestFirst(gpu_clocks_mhz) };
}

/** NVML does not promise an order. */
function highestFirst(clocks_mhz: readonly number[]): readonly number[] {
  return clocks_mhz.toSorted((one, other) => other - one);
}
