// The NVML backend over its stand-in, for the tests beside this file.
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { createNvmlBackend } from "../../src/backends/nvml/backend.ts";
import { systemClock, type Clock } from "../../src/contract/clock.ts";
import type { Gpu, GpuBackend } from "../../src/contract/gpu.ts";
import { buildNvmlStub, nvmlFile } from "../stub/build.ts";
import { createNvmlStub, type NvmlStub, type NvmlStubOptions } from "../stub/nvml.ts";

export interface NvmlSubject {
  readonly stub: NvmlStub;
  readonly backend: GpuBackend;
}

export const nothingLost: ReadonlySet<number> = new Set();

/** A backend that has not looked for GPUs yet; its library goes away with the test. */
export function createSubject(options: NvmlStubOptions = {}, clock: Clock = systemClock): NvmlSubject {
  const stub = createNvmlStub(options);
  onTestFinished(() => stub.remove());
  return { stub, backend: createNvmlBackend({ clock, names: [stub.path], patienceMs: 30_000 }) };
}

/** A place for the library, in which one without some of its functions can be replaced by another, as an upgrade does. */
export function createInstallation(): {
  readonly path: string;
  readonly install: (omit: readonly string[]) => void;
} {
  const folder = mkdtempSync(join(tmpdir(), "zeusd-nvml-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, nvmlFile);
  return {
    path,
    install(omit) {
      rmSync(path, { force: true });
      copyFileSync(join(buildNvmlStub({ omit }), nvmlFile), path);
    },
  };
}

/** The GPU of an index, as a probe finds it. */
export async function openGpu(backend: GpuBackend, id = 0): Promise<Gpu> {
  const found = (await backend.probe(nothingLost))[id];
  if (!found || "away" in found) throw new Error(`GPU ${id} is not there: ${found?.away.message}`);
  return found;
}

/** A clock that stands still until its time is made to pass. */
export function createHandClock(): { readonly clock: Clock; readonly pass: () => void } {
  const waiting = new Set<() => void>();
  const after: Clock["after"] = (_, callback) => {
    waiting.add(callback);
    return () => waiting.delete(callback);
  };
  return {
    clock: { ...systemClock, after },
    pass() {
      for (const callback of waiting) callback();
    },
  };
}
