// The built daemon as a child process, which ends at the latest when its test does.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import {
  eventually,
  openConnection,
  openStream,
  request,
  type Answer,
  type Asked,
  type Connection,
  type Stream,
} from "./http-client.ts";

export const repository = join(import.meta.dirname, "../..");
const built = join(repository, "dist/zeusd.cjs");
if (!existsSync(built))
  throw new Error(
    `${built} is missing: these tests run the built daemon, so run "npm run build" first ("npm test" does)`,
  );

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Runs these copies of Node and the daemon, as this user. */
  readonly as?: { readonly command?: readonly string[]; readonly uid?: number; readonly gid?: number };
  /** A command line to put before the daemon's. */
  readonly through?: readonly string[];
}

interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Zeusd {
  readonly pid: number;
  stdout(): string;
  stderr(): string;
  /** The address of its `Listening on` line. Rejects with its log if it ends before it has one. */
  listening(): Promise<string>;
  /** Settles when its log holds this. */
  logged(text: string): Promise<void>;
  /** Settles when it has ended and all that it wrote has arrived. */
  readonly exit: Promise<Exit>;
  signal(name: NodeJS.Signals): void;
  /** Stops reading its log, as a log service that crashes does. */
  abandonLog(): void;
  request(target: string, asked?: Asked): Promise<Answer>;
  stream(target: string, asked?: Asked): Promise<Stream>;
  connect(): Promise<Connection>;
}

/** Inherits nothing from the environment of the tests but `PATH`. */
export function startZeusd(args: readonly string[], { env = {}, as = {}, through = [] }: StartOptions = {}): Zeusd {
  const { command = [process.execPath, built], ...user } = as;
  const [program = "", ...words] = [...through, ...command, ...args];
  const child = spawn(program, words, {
    ...user,
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  let ended = false;
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const exit = once(child, "close").then(([code, signal]) => {
    ended = true;
    return { code, signal } as Exit;
  });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await exit;
  });

  const address = (): string | undefined => /^Listening on (.+)\n/m.exec(stdout)?.[1];
  async function listening(): Promise<string> {
    await eventually(() => address() !== undefined || ended);
    const found = address();
    if (found === undefined) throw new Error(`zeusd ended before it listened:\n${stderr}`);
    return found;
  }
  return {
    pid: child.pid ?? 0,
    stdout: () => stdout,
    stderr: () => stderr,
    listening,
    logged: (text) => eventually(() => stderr.includes(text)),
    exit,
    signal: (name) => void child.kill(name),
    abandonLog: () => void child.stderr.destroy(),
    request: async (target, asked) => request(await listening(), target, asked),
    stream: async (target, asked) => openStream(await listening(), target, asked),
    connect: async () => openConnection(await listening()),
  };
}

/** Runs to its end a daemon that must not start, and gives back the one sentence that it says for it, after `Error: `. */
export async function refusal(args: readonly string[], options: StartOptions = {}): Promise<string> {
  const daemon = startZeusd(args, options);
  const exit = await daemon.exit;
  const said = daemon
    .stderr()
    .split("\n")
    .filter((line) => !isLogLine(line));
  expect({ exit, stdout: daemon.stdout(), said }).toEqual({
    exit: { code: 1, signal: null },
    stdout: "",
    said: [expect.stringMatching(/^Error: \S/), ""],
  });
  return String(said[0]).slice("Error: ".length);
}

function isLogLine(line: string): boolean {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z +(ERROR|WARN|INFO|DEBUG) \S/.test(line);
}
