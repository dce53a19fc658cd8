// The NVML backend over its stand-in, for the tests beside this file.
import { onTestFinished } from "vitest";
import { createNvmlBackend } from "../../src/backends/nvml/backend.ts";
import { systemClock } from "../../src/contract/clock.ts";
import type { Gpu, GpuBackend } from "../../src/contract/gpu.ts";
import { createNvmlStub, type NvmlStub, type NvmlStubOptions } from "../stub/nvml.ts";

export interface NvmlSubject {
  readonly stub: NvmlStub;
  readonly backend: GpuBackend;
}

/** A backend that has not looked for GPUs yet; its library goes away with the test. */
export function createSubject(options: NvmlStubOptions = {}): NvmlSubject {
  const stub = createNvmlStub(options);
  onTestFinished(() => stub.remove());
  return { stub, backend: createNvmlBackend({ clock: systemClock, names: [stub.path] }) };
}

/** The GPU of an index, as a probe finds it. */
export async function openGpu(backend: GpuBackend, id = 0): Promise<Gpu> {
  const found = (await backend.probe())[id];
  if (!found || "away" in found) throw new Error(`GPU ${id} is not there: ${found?.away.message}`);
  return found;
}
