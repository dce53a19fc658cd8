// The driver that a daemon under test finds: the stub with GPUs of its own, or none that could be loaded.
import { copyFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import { buildNvmlStub, nvmlFile } from "../stub/build.ts";
import { readGpus, type StubGpu } from "../stub/gpus.ts";
import { createNvmlStub, type NvmlStub } from "../stub/nvml.ts";
import { createFolder } from "../folder.ts";
import { eventually } from "./http-client.ts";

export interface Driver extends Pick<NvmlStub, "fail" | "calls"> {
  /** What the daemon's environment must hold to find it. */
  readonly env: Readonly<Record<string, string>>;
  /** What its GPUs are set to, which outlives every daemon. */
  gpus(): readonly StubGpu[];
  /** Settles when the driver has logged this line so many times. */
  called(line: string | RegExp, times?: number): Promise<void>;
}

export interface DriverOptions {
  readonly gpus?: number;
  /** Further settings of the stub. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** A driver with so many GPUs, whose setters do not ask for root. */
export function createDriver({ gpus = 2, settings = {} }: DriverOptions = {}): Driver {
  const stub = createNvmlStub();
  onTestFinished(() => stub.remove());
  const folder = dirname(stub.path);
  const lines = (line: string | RegExp): number =>
    stub.calls().filter((call) => (typeof line === "string" ? call === line : line.test(call))).length;
  const state = join(folder, "gpus");
  return {
    env: {
      LD_LIBRARY_PATH: folder,
      NVML_STUB_ROOTLESS: "1",
      NVML_STUB_GPUS: String(gpus),
      NVML_STUB_STATE: state,
      NVML_STUB_FAULTS_FILE: join(folder, "faults"),
      NVML_STUB_LOG: join(folder, "log"),
      ...settings,
    },
    fail: (...rules) => stub.fail(...rules),
    calls: () => stub.calls(),
    gpus: () => readGpus(state, gpus),
    called: (line, times = 1) => eventually(() => lines(line) >= times),
  };
}

export interface MissingDriver {
  readonly env: Readonly<Record<string, string>>;
  /** Puts a working driver in its place. */
  install(): void;
}

/** No driver, even on a machine that has one: what is found first under its names is no library. */
export function createMissingDriver(): MissingDriver {
  const folder = createFolder();
  for (const name of [nvmlFile, "libnvidia-ml.so"]) writeFileSync(join(folder, name), "not a library");
  return {
    env: { LD_LIBRARY_PATH: folder, NVML_STUB_ROOTLESS: "1" },
    install() {
      copyFileSync(join(buildNvmlStub(), nvmlFile), join(folder, "new"));
      renameSync(join(folder, "new"), join(folder, nvmlFile));
    },
  };
}
