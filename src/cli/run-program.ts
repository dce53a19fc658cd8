// The program of `zeusd run`: started through a launcher that ties its life to ours, and how it ended.
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import type { Environment } from "../client/connect.ts";

export interface Program {
  kill(signal: NodeJS.Signals): void;
  /** Its exit code, or 128 + n if signal n ended it. Rejects if it could not be started at all. */
  readonly ended: Promise<number>;
}

/** It has our standard streams, our process group, and no other descriptor. */
export function startProgram(launcher: string, words: readonly string[], env: Environment): Program {
  const child = spawn(process.execPath, [launcher, String(process.pid), ...words], {
    stdio: "inherit",
    env: { ...env },
  });
  return {
    kill: (signal) => void child.kill(signal),
    ended: new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve(signal === null ? (code ?? 0) : exitCodeOf(signal)));
    }),
  };
}

/** As shells have it. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** Lets others see `zeusd run` as the holder of the lease, and not `node`. The command line stays what it is. */
export function nameOurselves(): void {
  try {
    writeFileSync("/proc/self/comm", "zeusd run");
  } catch {
    // Where /proc cannot be written to, we stay `node`.
  }
}

/** The environment that we were started with; `process.env` is ours to change, and we have. */
export function environmentAtStart(): Environment {
  try {
    const lines = readFileSync("/proc/self/environ", "utf8").split("\0");
    return Object.fromEntries(lines.filter((line) => line.includes("=", 1)).map((line) => divided(line)));
  } catch {
    return process.env;
  }
}

function divided(line: string): readonly [name: string, value: string] {
  const at = line.indexOf("=", 1);
  return [line.slice(0, at), line.slice(at + 1)];
}

/** Whether the terminal sends us its Ctrl-C, and so sends it to our child as well. */
export function inForeground(): boolean {
  const stat = readFileSync("/proc/self/stat", "utf8");
  // Source: proc(5). The name, in parentheses, may hold anything; field 5 is our process group, field 8 the terminal's.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[5 - 3] === fields[8 - 3];
}
