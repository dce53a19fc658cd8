// The daemons under fuzz: the built program as processes, over a driver that writes down what it is asked.
import { spawn, type ChildProcess } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { issueToken } from "../../src/access/token.ts";
import { apiGroups } from "../../src/contract/operations.ts";
import { buildNvmlStub, nvmlFile } from "../stub/build.ts";
import type { Authorizations } from "./http-grammar.ts";
import { allow, isWrite, putBack, symbols, use, type Allowance } from "./http-writes.ts";

export interface Daemon {
  readonly name: string;
  /** Whether it lets nobody here write. */
  readonly readOnly: boolean;
  /** Whether it lets nobody here use any GPU but 0. */
  readonly firstOnly: boolean;
  readonly loopback: boolean;
  readonly authorizations: Authorizations;
  connect(): Socket;
  /** The driver's calls since the last time, in order, without what they returned. */
  newCalls(): readonly string[];
  /** Whether its log says that this call was made to put a setting back; each line says so once. Waits a little for it. */
  hasPutBack(call: string): Promise<boolean>;
  /** Releases what leases there are, so that it holds on to nobody. */
  releaseLeases(): Promise<void>;
  /** What is wrong with its audit, once it has ended: it must have a line for each of the driver's calls, and no other. */
  auditTrouble(): string | undefined;
  /** What it has logged since the last time that it should not have. */
  newTrouble(): string | undefined;
  isAlive(): boolean;
  residentMegabytes(): number;
  descriptors(): readonly string[];
  /** Ends it properly; gives back how it ended. */
  stop(): Promise<string>;
}

const key = "k".repeat(32);
const uid = process.getuid?.() ?? 0;

const policy = `[[rule]]
name = "reader of one"
uids = [${uid}]
allow = ["gpu-read"]
gpus = [0]

[[rule]]
name = "someone else"
uids = [34009]
allow = ${JSON.stringify(apiGroups)}
`;

interface Plan {
  readonly name: string;
  readonly args: (file: (name: string, text: string) => string) => readonly string[];
  readonly readOnly?: boolean;
  readonly firstOnly?: boolean;
  readonly tcp?: boolean;
  readonly audit?: boolean;
  readonly authorizations?: Authorizations;
}

export async function startDaemons(program: string, folder: string): Promise<readonly Daemon[]> {
  const tokens = await authorizationsOf();
  const plans: readonly Plan[] = [
    { name: "open", args: () => [] },
    { name: "policy", readOnly: true, firstOnly: true, args: (file) => ["--policy", file("policy.toml", policy)] },
    {
      name: "token",
      readOnly: true,
      authorizations: tokens,
      args: (file) => ["--signing-key-path", file("key", key), "--log-level", "debug"],
    },
    { name: "tcp", tcp: true, audit: true, args: () => [] },
  ];
  return Promise.all(plans.map((plan) => startDaemon(program, join(folder, plan.name), plan)));
}

/** A token that may read; then some that are good for nothing. */
async function authorizationsOf(): Promise<Authorizations> {
  const full = { sub: "writer", scopes: apiGroups };
  const [proper, expired, foreign] = await Promise.all([
    issueToken(Buffer.from(key), { sub: "reader", scopes: ["gpu-read", "cpu-read"] }),
    issueToken(Buffer.from(key), { ...full, exp: 1_000_000_000 }),
    issueToken(Buffer.from("x".repeat(32)), full),
  ]);
  const unsigned = Buffer.from('{"typ":"JWT","alg":"none"}').toString("base64url");
  const [, claims = ""] = foreign.split(".");
  const spliced = [proper.split(".")[0], claims, proper.split(".")[2]].join(".");
  const bearers = [proper, expired, foreign, `${unsigned}.${claims}.`, spliced, "", `${proper}=`].map(
    (token) => `Bearer ${token}`,
  );
  return [...bearers, `bearer ${proper}`, "Basic eDp5", ""];
}

async function startDaemon(program: string, folder: string, plan: Plan): Promise<Daemon> {
  mkdirSync(folder, { recursive: true });
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  copyFileSync(join(buildNvmlStub(), nvmlFile), join(folder, nvmlFile));
  const socket = join(folder, "zeusd.sock");
  const listener = plan.tcp ? ["--mode", "tcp", "--tcp-bind-address", "127.0.0.1:0"] : ["--socket-path", socket];
  const rates = ["--gpu-power-poll-hz", "200", "--cpu-power-poll-hz", "100"];
  const audit = join(folder, "audit");
  const noted = plan.audit ? ["--audit-log", audit] : [];
  const args = [
    ...listener,
    ...rates,
    ...noted,
    "--allow-unprivileged",
    "--powercap-root",
    powercap(folder),
    ...plan.args(file),
  ];
  const log = file("log", "");
  // With power that changes all the time a stream soon learns that its client has gone.
  const stub = { NVML_STUB_ROOTLESS: "1", NVML_STUB_GPUS: "2", NVML_STUB_LOG: log, NVML_STUB_POWER: "changing" };
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH: process.env["PATH"], LD_LIBRARY_PATH: folder, ...stub },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const kill = (): void => void child.kill("SIGKILL");
  process.once("exit", kill);
  const output = followOutput(child);
  const address = await output.address();
  const [host = "", port] = address.split(":");
  const allLines = followLines(log);
  allLines();
  const writes = new Map<string, number>();
  const calls = (): readonly string[] => {
    const fresh = allLines().map((line) => line.replace(/ -> -?\d+$/, ""));
    for (const call of fresh) if (isWrite(call)) allow(writes, kindOf(call));
    return fresh;
  };
  const { pid = 0 } = child;
  return {
    name: plan.name,
    readOnly: plan.readOnly ?? false,
    firstOnly: plan.firstOnly ?? false,
    loopback: plan.tcp ?? false,
    authorizations: plan.authorizations ?? [],
    connect: () => (plan.tcp ? connect({ host, port: Number(port), noDelay: true }) : connect(socket)),
    newCalls: calls,
    async hasPutBack(call) {
      for (let count = 0; count < 200; count += 1) {
        if (use(output.putBack, call)) return true;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      return false;
    },
    async releaseLeases() {
      if (plan.tcp || plan.readOnly) return;
      for (let number = 1; number <= output.leases(); number += 1) await release(socket, number);
    },
    auditTrouble() {
      calls();
      return plan.audit ? compareAudit(readFileSync(audit, "utf8"), writes, output.allPutBack) : undefined;
    },
    newTrouble: output.newTrouble,
    isAlive: () => child.exitCode === null && child.signalCode === null,
    residentMegabytes: () => Number(/VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024,
    descriptors: () => readdirSync(`/proc/${pid}/fd`),
    async stop() {
      const ended = new Promise<string>((resolve) => {
        // All that it has said has come by then.
        child.once("close", (code, signal) => resolve(signal ?? `exit code ${code}`));
      });
      if (child.exitCode !== null) return `exit code ${child.exitCode}`;
      child.kill("SIGTERM");
      const timer = setTimeout(kill, 8_000);
      const how = await ended;
      clearTimeout(timer);
      process.removeListener("exit", kill);
      return how;
    },
  };
}

/** What was called, and on which GPU. */
function kindOf(call: string): string {
  return call.split(" ").slice(0, 2).join(" ");
}

/** By whom it was acquired: whoever runs this. */
function release(socketPath: string, number: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = { socketPath, method: "POST", path: `/lease/release?lease=${number}`, agent: false };
    const sent = request(options, (response) => response.resume().once("close", () => resolve()));
    sent.once("error", reject);
    sent.end();
  });
}

/** What was put back nobody has asked for: it is in the log, and not in the audit. */
function compareAudit(
  text: string,
  writes: ReadonlyMap<string, number>,
  puttingBack: ReadonlyMap<string, number>,
): string | undefined {
  const noted: Allowance = new Map(puttingBack);
  for (const line of text
    .trimEnd()
    .split("\n")
    .filter((each) => each !== "")) {
    const { operation, gpu, outcome } = JSON.parse(line) as { operation?: string; gpu?: number; outcome?: string };
    if (operation === undefined || gpu === undefined || outcome === "client_gone" || outcome === "deadline") continue;
    for (const symbol of symbols[operation] ?? []) allow(noted, `${symbol} ${gpu}`);
  }
  const all = [...new Set([...noted.keys(), ...writes.keys()])];
  const wrong = all.find((call) => noted.get(call) !== writes.get(call));
  return wrong && `the audit has ${noted.get(wrong) ?? 0} of ${writes.get(wrong) ?? 0} calls of ${wrong}`;
}

/** Two CPU packages, which draw more and more. */
function powercap(folder: string): string {
  const root = join(folder, "powercap");
  for (const [zone, name] of [
    ["intel-rapl:0", "package-0"],
    ["intel-rapl:0/intel-rapl:0:0", "dram"],
    ["intel-rapl:1", "package-1"],
  ] as const) {
    mkdirSync(join(root, zone), { recursive: true });
    const facts = { name, energy_uj: "1000000", max_energy_range_uj: "262143328850" };
    for (const [fact, value] of Object.entries(facts)) writeFileSync(join(root, zone, fact), `${value}\n`);
  }
  let [energy_uj, step_uj] = [1_000_000, 0];
  const draw = (): void => {
    energy_uj += step_uj += 1_000;
    if (!existsSync(root)) clearInterval(timer);
    else for (const id of [0, 1]) replaceFile(join(root, `intel-rapl:${id}/energy_uj`), `${energy_uj}\n`);
  };
  const timer = setInterval(draw, 100).unref();
  return root;
}

/** Nobody reads half of it. */
function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

/** The lines that a file has got since the last time. */
function followLines(path: string): () => readonly string[] {
  const file = openSync(path, "r");
  process.once("exit", () => closeSync(file));
  const buffer = Buffer.alloc(64 * 1024);
  let rest = "";
  return () => {
    for (let count = buffer.length; count === buffer.length;) {
      count = readSync(file, buffer);
      rest += buffer.toString("latin1", 0, count);
    }
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    return lines;
  };
}

const logLine = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z +(WARN|INFO|DEBUG) \S/;

interface Output {
  address(): Promise<string>;
  newTrouble(): string | undefined;
  /** The calls that it has made to put something back, as far as nobody has taken them out. */
  readonly putBack: Allowance;
  /** How many it has made in all, by what was called and on which GPU. */
  readonly allPutBack: ReadonlyMap<string, number>;
  /** The highest number of a lease. */
  leases(): number;
}

function followOutput(child: ChildProcess): Output {
  let [stdout, stderr, trouble] = ["", "", ""];
  const [left, all]: [Allowance, Allowance] = [new Map(), new Map()];
  let leases = 0;
  const read = (line: string): void => {
    const call = putBack(line);
    if (call !== undefined) {
      allow(left, call);
      allow(all, kindOf(call));
    }
    leases = Math.max(leases, Number(/\bLease (\d+) of .* has begun$/.exec(line)?.[1] ?? 0));
    // An error comes with its stack on lines of its own.
    if (!logLine.test(line) && trouble.length < 2_000) trouble += `${line}\n`;
  };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    const lines = (stderr + text).split("\n");
    stderr = lines.pop() ?? "";
    for (const line of lines) read(line);
  });
  return {
    putBack: left,
    allPutBack: all,
    leases: () => leases,
    async address() {
      for (let count = 0; count < 2_000; count += 1) {
        const [, found] = /^Listening on (.+)\n/m.exec(stdout) ?? [];
        if (found !== undefined) return found;
        if (child.exitCode !== null) break;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      throw new Error(`the daemon does not listen: ${trouble}`);
    },
    newTrouble() {
      const found = trouble === "" ? undefined : `the daemon logged: ${trouble.slice(0, 1_000)}`;
      trouble = "";
      return found;
    },
  };
}
