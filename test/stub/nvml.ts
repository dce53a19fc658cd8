// NVML for one test: a library of its own with GPUs of its own, which breaks when told to, and tells what it was asked.
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { vi } from "vitest";
import { loadLibrary } from "../../src/native/load.ts";
import { buildNvmlStub, nvmlFile, type NvmlVariant } from "./build.ts";

export interface NvmlStubOptions extends NvmlVariant {
  /** Further settings, such as `NVML_STUB_GPUS`; the head of nvml.c lists them. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface NvmlStub {
  /** The library's path. */
  readonly path: string;
  /** Makes the rules hold from the next call on, instead of those before. */
  fail(...rules: readonly string[]): void;
  /** The calls so far, one line each, in the order in which they ended. */
  calls(): readonly string[];
  /** Settles when the log has such a line. */
  called(line: string): Promise<void>;
  remove(): void;
}

export function createNvmlStub({ omit = [], env = {} }: NvmlStubOptions = {}): NvmlStub {
  // A copy under a name of its own is loaded as another library, and so with state of its own.
  const folder = mkdtempSync(join(tmpdir(), "zeusd-nvml-"));
  const path = join(folder, nvmlFile);
  const faults = join(folder, "faults");
  const log = join(folder, "log");
  copyFileSync(join(buildNvmlStub({ omit }), nvmlFile), path);

  const settings = { NVML_STUB_ROOTLESS: "1", NVML_STUB_FAULTS_FILE: faults, NVML_STUB_LOG: log, ...env };
  const library = withEnvironment(settings, () => loadLibrary([path], {}));
  const calls = (): readonly string[] => readFileSync(log, "utf8").split("\n").slice(0, -1);

  return {
    path,
    fail(...rules) {
      writeFileSync(`${faults}.new`, rules.join("\n"));
      renameSync(`${faults}.new`, faults);
    },
    calls,
    called: (line) => vi.waitUntil(() => calls().includes(line) || undefined, { interval: 2 }).then(() => {}),
    remove() {
      rmSync(folder, { recursive: true });
      library.unload();
    },
  };
}

/** The stub reads its settings when it is loaded, and only then. */
function withEnvironment<Result>(settings: Readonly<Record<string, string>>, work: () => Result): Result {
  const before = { ...process.env };
  Object.assign(process.env, settings);
  try {
    return work();
  } finally {
    for (const name of Object.keys(settings)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  }
}
