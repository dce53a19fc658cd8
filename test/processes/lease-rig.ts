// A daemon whose leases are tested: GPUs that outlive it, clients that hold leases, and its start after it was stopped or killed.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Setting } from "../../src/contract/operations.ts";
import type { StubGpu } from "../stub/gpus.ts";
import { createFolder } from "../folder.ts";
import { createDriver, type Driver, type DriverOptions } from "./driver.ts";
import { eventually, request, type Answer } from "./http-client.ts";
import { openLeaseClients, type LeaseClient, type LeaseClients } from "./lease-clients.ts";
import { startZeusd, type StartOptions, type Zeusd } from "./zeusd.ts";

export interface LeaseRigOptions extends DriverOptions {
  /** Of every daemon. */
  readonly args?: readonly string[];
  /** How every daemon is started. */
  readonly through?: readonly string[];
}

export interface LeaseRig {
  readonly driver: Driver;
  readonly clients: LeaseClients;
  /** Of its socket. */
  readonly path: string;
  readonly stateDir: string;
  /** The daemon that was started last. */
  daemon(): Zeusd;
  /** Does not wait until it listens. */
  launch(...more: readonly string[]): Zeusd;
  start(...more: readonly string[]): Promise<Zeusd>;
  /** kill -9, and settles when it has ended. */
  killDaemon(): Promise<void>;
  /** Runs `zeusd restore` with the daemon's flags. */
  restore(...more: readonly string[]): Promise<Restored>;
  /** From the test itself, which is an ordinary client. */
  post(target: string): Promise<Answer>;
  /** Rejects unless the answer is 200. */
  get(target: string): Promise<unknown>;
  /** The leases that there are, as /lease/list has them. */
  leases(): Promise<readonly ListedLease[]>;
  readonly journalPath: string;
  journal(): readonly JournalLine[];
}

interface Restored {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface ListedLease {
  readonly lease: number;
  readonly gpu_ids: readonly number[];
  readonly implicit: boolean;
  readonly holder: { readonly uid: number | null; readonly pid: number | null };
}

interface JournalLine {
  readonly record?: string;
  readonly lease?: unknown;
  readonly gpu?: string;
  readonly setting?: Setting;
  readonly value?: Readonly<Record<string, unknown>>;
  readonly order?: number;
}

/** No daemon is started yet. */
export async function createLeaseRig({ args = [], through = [], ...options }: LeaseRigOptions = {}): Promise<LeaseRig> {
  const driver = createDriver(options);
  driver.fail();
  const folder = createFolder();
  const path = join(folder, "zeusd.sock");
  const flags = ["--socket-path", path, "--powercap-root", folder, ...args];
  const begin: StartOptions = { env: driver.env, through };
  const stateDir = `${path}.state`;
  const journalPath = join(stateDir, "leases.journal");
  let daemon: Zeusd | undefined;
  const rig: LeaseRig = {
    driver,
    path,
    stateDir,
    clients: await openLeaseClients(path),
    daemon: () => daemon as Zeusd,
    launch(...more) {
      daemon = startZeusd(["--allow-unprivileged", ...flags, ...more], begin);
      return daemon;
    },
    async start(...more) {
      const started = rig.launch(...more);
      await started.listening();
      return started;
    },
    async killDaemon() {
      daemon?.signal("SIGKILL");
      await daemon?.exit;
    },
    async restore(...more) {
      const restoring = startZeusd(["restore", ...flags, ...more], begin);
      const { code } = await restoring.exit;
      return { code, stdout: restoring.stdout(), stderr: restoring.stderr() };
    },
    post: (target) => request(path, target, { method: "POST" }),
    async get(target) {
      const { status, body } = await request(path, target);
      if (status !== 200) throw new Error(`${target} is answered with ${status}: ${body}`);
      return JSON.parse(body) as unknown;
    },
    leases: async () => ((await rig.get("/lease/list")) as { readonly leases: readonly ListedLease[] }).leases,
    journalPath,
    journal: () => readJournal(journalPath),
  };
  return rig;
}

function readJournal(path: string): readonly JournalLine[] {
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line.slice("01234567 ".length)) as JournalLine);
}

/** A daemon with a client that holds the lease of this number. */
export interface HeldRig {
  readonly rig: LeaseRig;
  readonly holder: LeaseClient;
  readonly lease: number;
}

/** How long it may take to put back what a lease has changed, once its holder has ended. */
export const mostMs = 2_000;

/** What GPUs are set to where nobody has set anything, as the driver's stub has it. */
export const base: Pick<StubGpu, "power_limit"> = { power_limit: "300000" };

/** What a power limit is in the driver's stub. */
export function limit(mw: number): Pick<StubGpu, "power_limit"> {
  return { power_limit: String(mw) };
}

/** Settles when a setting of a GPU is that, and gives back how long it took, in ms. */
export async function whenSet({ driver }: LeaseRig, gpu: number, wanted: Partial<StubGpu>): Promise<number> {
  const beganMs = performance.now();
  await eventually(() =>
    Object.entries(wanted).every(([name, value]) => driver.gpus()[gpu]?.[name as Setting] === value),
  );
  return performance.now() - beganMs;
}

/** The target of a write of a power limit that waits for the driver. */
export function limitTarget(gpu: number, mw: number, more = ""): string {
  return `/gpu/set_power_limit?gpu_ids=${gpu}&power_limit_mw=${mw}&block=true${more}`;
}
