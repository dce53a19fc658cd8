// One daemon, the original or ours, over a driver and a powercap tree of its own that break when told to.
import { execFileSync, type ChildProcess, type SpawnOptions } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import type { NetConnectOpts } from "node:net";
import { dirname, join } from "node:path";
import { buildNvmlStub, nvmlFile } from "../../test/stub/build.ts";
import { startProgram } from "./children.ts";
import type { Outcome } from "./difference.ts";
import { perform, type Exchange } from "./exchange.ts";

export type Version = "0.5.0" | "0.2.0" | "0.1.0";

/** How both daemons are started. */
export interface Setup {
  readonly version: Version;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly mode?: "uds" | "tcp";
  readonly signingKey?: Buffer;
  /** Show them a powercap tree of ours at the usual place. */
  readonly cpus?: boolean;
  /** Streams are opened: the original goes on polling when they are closed, so readings of power say nothing. */
  readonly streams?: boolean;
}

export interface Daemon {
  readonly pid: number;
  readonly process: ChildProcess;
  ask(exchange: Exchange, thorough: boolean): Promise<Outcome>;
  stop(): Promise<void>;
}

/** The powercap tree, by its paths under intel-rapl: CPU 0 measures its memory, CPU 1 does not. */
const powercap: Readonly<Record<string, string>> = {
  "intel-rapl:0/name": "package-0\n",
  "intel-rapl:0/energy_uj": "1000000\n",
  "intel-rapl:0/max_energy_range_uj": "262143328850\n",
  "intel-rapl:0/intel-rapl:0:0/name": "core\n",
  "intel-rapl:0/intel-rapl:0:0/energy_uj": "500000\n",
  "intel-rapl:0/intel-rapl:0:0/max_energy_range_uj": "262143328850\n",
  "intel-rapl:0/intel-rapl:0:1/name": "dram\n",
  "intel-rapl:0/intel-rapl:0:1/energy_uj": "700000\n",
  "intel-rapl:0/intel-rapl:0:1/max_energy_range_uj": "65712999613\n",
  "intel-rapl:1/name": "package-1\n",
  "intel-rapl:1/energy_uj": "2000000\n",
  "intel-rapl:1/max_energy_range_uj": "262143328850\n",
};

/** Whether another tree can be shown at /sys/class in a mount namespace of its own. */
export function canFakePowercap(): boolean {
  try {
    execFileSync("unshare", ["-m", "mount", "--bind", "/tmp", "/sys/class"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** The words that start a program whose /sys/class is that folder. */
const underTree = (tree: string, words: readonly string[]): readonly string[] => [
  ...["unshare", "-m", "sh", "-c", 'mount --bind "$0" /sys/class && exec "$@"', tree],
  ...words,
];

/** Settings under which a program finds the stub of NVML, under both names that there have been. */
export function driverEnv(folder: string, more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const library = join(folder, "lib");
  mkdirSync(library, { recursive: true });
  for (const name of [nvmlFile, "libnvidia-ml.so"]) {
    rmSync(join(library, name), { force: true });
    symlinkSync(join(buildNvmlStub(), nvmlFile), join(library, name));
  }
  const stub = {
    NVML_STUB_LOG: join(folder, "calls"),
    NVML_STUB_FAULTS_FILE: join(folder, "faults"),
    NVML_STUB_ENERGY: "fixed",
  };
  return { PATH: process.env["PATH"], LD_LIBRARY_PATH: library, NO_COLOR: "1", ...stub, ...more };
}

/** `program` is the words that start it, without arguments. */
export async function startDaemon(program: readonly string[], folder: string, setup: Setup): Promise<Daemon> {
  const { version, args = [], env = {}, mode = "uds", signingKey, cpus = false, streams = false } = setup;
  mkdirSync(folder, { recursive: true });
  const socket = join(folder, "zeusd.sock");
  const tree = join(folder, "class");
  const write = (path: string, text: string | undefined): void => {
    const file = join(tree, "powercap/intel-rapl", path);
    if (text === undefined) return rmSync(file, { force: true });
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  };
  for (const [path, text] of Object.entries(powercap)) write(path, text);

  const words = [...program, ...(version === "0.5.0" ? ["serve"] : []), "--mode", mode];
  words.push(...(mode === "uds" ? ["--socket-path", socket] : ["--tcp-bind-address", "127.0.0.1:0"]), ...args);
  if (signingKey) {
    writeFileSync(join(folder, "key"), signingKey, { mode: 0o600 });
    words.push("--signing-key-path", join(folder, "key"));
  }
  const log = join(folder, "log");
  const output = openSync(log, "w");
  const options = { env: driverEnv(folder, env), stdio: ["ignore", output, output] } satisfies SpawnOptions;
  const child = startProgram(cpus ? underTree(tree, words) : words, options);
  closeSync(output);
  const listening = await lineOf(child, log, /Listening on (\S+)/);
  const to: NetConnectOpts = mode === "uds" ? { path: socket } : { host: "127.0.0.1", port: portOf(listening) };

  const calls = join(folder, "calls");
  const faults = join(folder, "faults");
  const fail = (rules: readonly string[]): void => {
    writeFileSync(`${faults}.new`, rules.join("\n"));
    renameSync(`${faults}.new`, faults);
  };
  return {
    pid: child.pid ?? 0,
    process: child,
    async ask(exchange, thorough) {
      fail(exchange.faults ?? []);
      for (const [path, text] of Object.entries(exchange.files ?? {})) write(path, text);
      // On a busy machine the calls of what was asked before, and not waited for, may still be to come.
      if (thorough) await new Promise((resolve) => setTimeout(resolve, 200));
      const before = callsIn(calls).length;
      const answer = await perform(to, exchange, thorough);
      await new Promise((resolve) => setTimeout(resolve, thorough ? 200 : 4));
      const asked = callsIn(calls).slice(before);
      return { ...answer, calls: asked.filter((line) => !streams || !polled.test(line)).toSorted() };
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** Waits for a line of a program's log; throws with the log when the program ends before. */
async function lineOf(child: ChildProcess, log: string, line: RegExp): Promise<string> {
  for (const end = Date.now() + 10_000; Date.now() < end;) {
    const found = line.exec(readFileSync(log, "utf8"));
    if (found) return found[1] ?? "";
    if (child.exitCode !== null) break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  child.kill("SIGKILL");
  throw new Error(`no ${line} from ${child.spawnargs.join(" ")}:\n${readFileSync(log, "utf8")}`);
}

const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(":") + 1));

/** What is asked at the start only, or again while a daemon looks for GPUs. */
const startUp = /^nvml(Init|Shutdown|ErrorString|System|DeviceGet(Count|Handle|Name|UUID|PciInfo|Index|Architecture))/;

const polled = /^nvmlDeviceGet(FieldValues|PowerUsage)/;

function callsIn(path: string): readonly string[] {
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  return lines.filter((line) => !startUp.test(line));
}
