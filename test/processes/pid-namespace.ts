// A pid namespace: processes in it get the numbers that a test chooses, so that one can have the number of another that has ended.
import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";
import { isRoot } from "./ordinary-user.ts";

interface Begun {
  readonly words: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** A file for what it prints. */
  readonly output?: string;
  /** The number that it shall have; by default any. */
  readonly pid?: number;
}

export interface PidNamespace {
  /** Gives back its number in there. */
  start(what: Begun): Promise<number>;
  /** Settles when it has ended and its number is free, if it is to end. */
  signal(pid: number, signal: NodeJS.Signals): Promise<void>;
}

const unshare = ["unshare", "--pid", "--fork", "--mount-proc"];
const numbering = "/proc/sys/kernel/ns_last_pid";

/** Whether this machine lets us have one, and choose numbers in it. In one of an ordinary user's there are no other users. */
export function canChoosePids(): boolean {
  if (!isRoot) return false;
  const [command = "", ...words] = unshare;
  return spawnSync(command, [...words, "sh", "-c", `echo 500 > ${numbering}`], { stdio: "ignore" }).status === 0;
}

/** Process 1 of the namespace: starts and ends what it is told to, by lines of JSON. */
const program = `
  const { openSync, closeSync, writeFileSync } = require("node:fs");
  const { spawn } = require("node:child_process");
  const { once } = require("node:events");
  const children = new Map();
  const say = (line) => process.stdout.write(JSON.stringify(line) + "\\n");
  const begin = ({ words, env, output = "/dev/null" }) => {
    const file = openSync(output, "a");
    const child = spawn(words[0], words.slice(1), { env: { PATH: process.env.PATH, ...env }, stdio: ["ignore", file, file] });
    closeSync(file);
    children.set(child.pid, child);
    return child;
  };
  const end = async (child) => {
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    children.delete(child.pid);
  };
  const work = {
    async start({ pid, ...what }) {
      for (let tries = 0; tries < 100; tries += 1) {
        if (pid !== undefined) writeFileSync("${numbering}", String(pid - 1));
        const child = begin(what);
        if (pid === undefined || child.pid === pid) return child.pid;
        // A thread somewhere took the number.
        child.kill("SIGKILL");
        await end(child);
      }
      throw new Error("the number " + pid + " is not to be had");
    },
    async signal({ pid, signal }) {
      const child = children.get(pid);
      child.kill(signal);
      if (signal !== "SIGSTOP" && signal !== "SIGCONT") await end(child);
    },
  };
  require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const { id, what, ...rest } = JSON.parse(line);
    work[what](rest).then((result) => say({ id, result }), (error) => say({ id, error: String(error) }));
  });
`;

interface Said {
  readonly id: number;
  readonly result?: number;
  readonly error?: string;
}

/** All processes in it end with the test. */
export function createPidNamespace(): PidNamespace {
  const [command = "", ...words] = [...unshare, "--kill-child", process.execPath, "-e", program];
  const child = spawn(command, words, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  const waiting = new Map<number, (said: Said) => void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    const said = JSON.parse(line) as Said;
    waiting.get(said.id)?.(said);
  });
  let orders = 0;
  const order = (what: string, rest: object): Promise<number> =>
    new Promise((resolve, reject) => {
      orders += 1;
      waiting.set(orders, ({ result = 0, error }) => {
        if (error === undefined) resolve(result);
        else reject(new Error(error));
      });
      child.stdin.write(`${JSON.stringify({ id: orders, what, ...rest })}\n`);
    });
  return {
    start: (what) => order("start", what),
    signal: async (pid, signal) => void (await order("signal", { pid, signal })),
  };
}
