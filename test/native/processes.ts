// Real processes for a test to watch, and what this machine says of them by other means than the subject's.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { onTestFinished } from "vitest";

export interface Sleeper {
  readonly pid: number;
  /** Kills it with SIGKILL, and resolves when it is gone and was waited for. */
  kill(): Promise<void>;
}

/** A process that does nothing until it is killed, which is when the test ends, at the latest. */
export function startSleeper(): Sleeper {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  const { pid } = child;
  if (pid === undefined) throw new Error("sleep cannot be started");
  const ended = once(child, "exit");
  onTestFinished(() => void child.kill("SIGKILL"));
  return {
    pid,
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** When a process began: of one with an ordinary name. */
export function startedOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[21]);
}

/** A process and those that it descends from at this moment, by number. */
export function lineageNow(pid: number): readonly number[] {
  const [, parent = "0"] = readFileSync(`/proc/${pid}/status`, "utf8").match(/^PPid:\t(\d+)$/m) ?? [];
  return Number(parent) === 0 ? [pid] : [pid, ...lineageNow(Number(parent))];
}

/** The numbers of this process's descriptors whose kind, as /proc puts it, has `kind` in it. */
export function descriptorsOfThisProcess(kind: string): readonly string[] {
  return readdirSync("/proc/self/fd").filter((name) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`).includes(kind);
    } catch {
      return false;
    }
  });
}

export function pidfdsOfThisProcess(): readonly string[] {
  return descriptorsOfThisProcess("pidfd");
}
