// One daemon, the original or ours, over the stub driver with eight GPUs.
import { type ChildProcess } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, symlinkSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { buildNvmlStub, nvmlFile } from "../test/stub/build.ts";
import { startProgram } from "./compare/children.ts";
import { onProcessor } from "./programs.ts";

export const gpus = 8;

/** Where the programs are, and how all daemons are started. */
export interface Programs {
  /** Holds 0.5.0/bin/zeusd and 0.2.0/bin/zeusd. */
  readonly originals: string;
  /** The built dist/zeusd.cjs. */
  readonly ours: string;
  readonly oursArgs: readonly string[];
  readonly logLevel: string;
}

export type Which = "ours" | "0.5.0" | "0.2.0";

export interface Setup {
  readonly which: Which;
  readonly args?: readonly string[];
  /** Settings of the stub. */
  readonly env?: Readonly<Record<string, string>>;
  /** The processor that it must stay on. */
  readonly processor?: number;
}

export interface Daemon {
  readonly socket: string;
  readonly pid: number;
  /** A daemon that is not measured must not run meanwhile. */
  pause(): void;
  resume(): void;
  processorSeconds(): number;
  residentMegabytes(): number;
  /** Where the stub writes how long its delayed calls slept. */
  readonly sleeps: string;
  stop(): Promise<void>;
}

export async function startDaemon(programs: Programs, folder: string, setup: Setup): Promise<Daemon> {
  mkdirSync(folder, { recursive: true });
  const log = join(folder, "log");
  const output = openSync(log, "w");
  const { socket, sleeps, child } = launch(programs, folder, setup, output);
  closeSync(output);
  await untilListening(child, socket, log);
  const pid = child.pid ?? 0;
  return {
    socket,
    sleeps,
    pid,
    pause: () => void child.kill("SIGSTOP"),
    resume: () => void child.kill("SIGCONT"),
    processorSeconds: () => processorSeconds(pid),
    residentMegabytes: () => Number(/VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024,
    stop: () => end(child),
  };
}

/** How long it takes until a daemon says that it listens, in milliseconds. */
export async function timeStart(programs: Programs, folder: string, which: Which): Promise<number> {
  mkdirSync(folder, { recursive: true });
  const began = performance.now();
  const { child } = launch({ ...programs, logLevel: "info" }, folder, { which }, "pipe");
  let said = "";
  const took = await new Promise<number>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        if (said.includes("Listening on")) resolve(performance.now() - began);
      });
    }
    child.once("exit", () => reject(new Error(`${which} ended before it listened: ${said}`)));
  });
  await end(child);
  return took;
}

interface Launched {
  readonly socket: string;
  readonly sleeps: string;
  readonly child: ChildProcess;
}

function launch(programs: Programs, folder: string, setup: Setup, output: number | "pipe"): Launched {
  const { which, args = [], env = {}, processor } = setup;
  const { originals, ours, oursArgs, logLevel } = programs;
  const socket = join(folder, "zeusd.sock");
  const sleeps = join(folder, "sleeps");
  const program = which === "ours" ? [process.execPath, ours] : [join(originals, which, "bin/zeusd")];
  const more = which === "ours" ? ["--log-level", logLevel, ...oursArgs] : [];
  const serve = which === "0.2.0" ? [] : ["serve"];
  const command = [...onProcessor(processor), ...program, ...serve, "--socket-path", socket, ...more, ...args];
  const settings = {
    PATH: process.env["PATH"],
    LD_LIBRARY_PATH: driver(folder),
    NO_COLOR: "1",
    RUST_LOG: logLevel,
    NVML_STUB_GPUS: String(gpus),
    NVML_STUB_ENERGY: "fixed",
    NVML_STUB_TIMES: sleeps,
    ...env,
  };
  return { socket, sleeps, child: startProgram(command, { env: settings, stdio: ["ignore", output, output] }) };
}

/** The stub's folder, under both names that the driver library has had. */
function driver(folder: string): string {
  const library = join(folder, "lib");
  mkdirSync(library);
  for (const name of [nvmlFile, "libnvidia-ml.so"]) symlinkSync(join(buildNvmlStub(), nvmlFile), join(library, name));
  return library;
}

async function untilListening(child: ChildProcess, socket: string, log: string): Promise<void> {
  for (const last = Date.now() + 10_000; Date.now() < last;) {
    if (await accepts(socket)) return;
    if (child.exitCode !== null) break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  child.kill("SIGKILL");
  throw new Error(`${child.spawnargs.join(" ")} does not listen:\n${readFileSync(log, "utf8")}`);
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => resolve(true));
    socket.once("error", () => resolve(false)).once("connect", () => socket.destroy());
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}

/** Fields 14 and 15 of the line, in hundredths of a second; the name before them may hold blanks. */
function processorSeconds(pid: number): number {
  const line = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
