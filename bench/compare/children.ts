// Starts programs, and sees to it that none outlives this one.
import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";

const living = new Set<ChildProcess>();

process.once("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

export function startProgram(words: readonly string[], options: SpawnOptions): ChildProcess {
  const [command = "", ...rest] = words;
  const child = spawn(command, rest, options);
  living.add(child);
  return child.once("exit", () => living.delete(child));
}
