// An ordinary user to run the daemon as: whoever runs the tests, or nobody where that is root.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { repository, type StartOptions } from "./zeusd.ts";

export const isRoot = process.geteuid?.() === 0;
const nobody = { uid: 65_534, gid: 65_534 };

/** To be called once per file, outside its tests. Takes a copy of the daemon and of Node where that user cannot read them. */
export function ordinaryUser(): Required<Pick<StartOptions, "as">> {
  if (!isRoot) return { as: {} };
  const command = [process.execPath, join(repository, "dist/zeusd.cjs")];
  return { as: { ...nobody, command: runs(command) ? command : copyOf(command) } };
}

function runs([node = "", entry = ""]: readonly string[]): boolean {
  return spawnSync(node, [entry, "--version"], { ...nobody, cwd: "/" }).status === 0;
}

function copyOf(command: readonly string[]): readonly string[] {
  const folder = mkdtempSync(join(tmpdir(), "zeusd-copy-"));
  chmodSync(folder, 0o755);
  afterAll(() => rmSync(folder, { recursive: true }));
  for (const part of ["package.json", "dist", ...dependencies()]) {
    cpSync(join(repository, part), join(folder, part), { recursive: true, dereference: true });
  }
  cpSync(process.execPath, join(folder, "node"));
  const copy = [join(folder, "node"), join(folder, "dist/zeusd.cjs")];
  if (!runs(copy))
    throw new Error(`uid ${nobody.uid} can run neither ${command.join(" ")} nor a copy of it in ${folder}`);
  return copy;
}

/** The folders of the packages that the daemon needs. */
function dependencies(): readonly string[] {
  const lock: unknown = JSON.parse(readFileSync(join(repository, "package-lock.json"), "utf8"));
  const { packages } = lock as { readonly packages: Readonly<Record<string, { readonly dev?: boolean }>> };
  const needed = Object.keys(packages).filter((folder) => folder !== "" && !packages[folder]?.dev);
  return needed.filter((folder) => existsSync(join(repository, folder)));
}
