// What the GPUs of a stub are set to, read from outside of any daemon: from the file that NVML_STUB_STATE names.
import { readFileSync } from "node:fs";
import type { Setting } from "../../src/contract/operations.ts";

/**
 * A GPU's settings as text: the power limit in mW, `on` or `off`, and a range of clocks in MHz as in `300-1500`, or `unlocked`.
 */
export type StubGpu = Readonly<Record<Setting, string>>;

/** How a stub's GPU is set before anybody sets it. */
export const untouchedGpu: StubGpu = {
  power_limit: "300000",
  gpu_clocks: "unlocked",
  memory_clocks: "unlocked",
  persistence_mode: "off",
};

/** Source: `struct state` and `struct gpu` of nvml.c. */
const gpusAt = 16;
const gpuBytes = 24;

/** Untouched ones where no process has loaded the stub yet. */
export function readGpus(path: string, count: number): readonly StubGpu[] {
  const bytes = contentOf(path);
  return Array.from({ length: count }, (_, id) => (bytes ? gpuAt(bytes, gpusAt + gpuBytes * id) : untouchedGpu));
}

function gpuAt(bytes: Buffer, at: number): StubGpu {
  const field = (index: number): number => bytes.readUInt32LE(at + 4 * index);
  return {
    power_limit: String(field(0)),
    gpu_clocks: clocksText(field(2), field(3)),
    memory_clocks: clocksText(field(4), field(5)),
    persistence_mode: field(1) === 1 ? "on" : "off",
  };
}

function clocksText(minMhz: number, maxMhz: number): string {
  return maxMhz === 0 ? "unlocked" : `${minMhz}-${maxMhz}`;
}

function contentOf(path: string): Buffer | undefined {
  try {
    const bytes = readFileSync(path);
    return bytes.length > gpusAt && bytes.readUInt32LE(0) === 1 ? bytes : undefined;
  } catch {
    return undefined;
  }
}
