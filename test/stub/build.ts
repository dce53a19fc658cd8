// Compiles the stand-in for libnvidia-ml.so.1 with the system's C compiler, once for each variant of its source.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

const source = join(import.meta.dirname, "nvml.c");
const cache = join(import.meta.dirname, "../../node_modules/.cache/zeusd-stub");

export const nvmlFile = "libnvidia-ml.so.1";

export interface NvmlVariant {
  /** Functions that the library shall lack, as an older driver's would. */
  readonly omit?: readonly string[];
}

/** The folder that holds the compiled library. */
export function buildNvmlStub({ omit = [] }: NvmlVariant = {}): string {
  const text = readFileSync(source, "utf8");
  const unknown = omit.find((symbol) => !text.includes(` ${symbol}(`));
  if (unknown) throw new Error(`${source} has no ${unknown} to leave out`);
  // A function that is called something else is not there.
  const flags = ["-std=c11", "-O2", "-Wall", "-Wextra", ...omit.map((symbol) => `-D${symbol}=omitted_${symbol}`)];
  const folder = join(
    cache,
    createHash("sha256")
      .update(JSON.stringify([text, flags]))
      .digest("hex")
      .slice(0, 16),
  );
  if (!existsSync(folder)) compile(flags, folder);
  return folder;
}

/** Compiles beside the folder and renames, so that test runs that start together do not see half a library. */
function compile(flags: readonly string[], folder: string): void {
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(`${folder}-`);
  const link = ["-shared", "-fPIC", "-pthread", `-Wl,-soname,${nvmlFile}`, "-Wl,-Bsymbolic"];
  execFileSync("cc", [...flags, ...link, "-o", join(work, nvmlFile), source], { stdio: "inherit" });
  try {
    renameSync(work, folder);
  } catch (error) {
    rmSync(work, { recursive: true });
    if (!existsSync(folder)) throw error;
  }
}
