// A daemon that drives GPUs of its own, and what the tests of hung and lost ones ask of it.
import { join } from "node:path";
import { createDriver, type Driver, type DriverOptions } from "./driver.ts";
import { createFolder } from "../folder.ts";
import { eventually, type Answer, type Stream } from "./http-client.ts";
import { startZeusd, type Zeusd } from "./zeusd.ts";

export const setter = "nvmlDeviceSetPowerManagementLimit";

export interface Driven {
  readonly driver: Driver;
  readonly daemon: Zeusd;
  /** Of its socket. */
  readonly path: string;
}

export interface DrivenOptions extends DriverOptions {
  readonly args?: readonly string[];
  /** What is wrong with the driver from the start. */
  readonly rules?: readonly string[];
}

/** Does not wait until it listens. It finds no CPUs but those of its arguments. */
export function launch({ args = [], rules = [], ...options }: DrivenOptions = {}): Driven {
  const driver = createDriver(options);
  driver.fail(...rules);
  const folder = createFolder();
  const path = join(folder, "zeusd.sock");
  const cpus = args.includes("--powercap-root") ? [] : ["--powercap-root", folder];
  const words = ["--allow-unprivileged", "--socket-path", path, ...cpus, ...args];
  return { driver, path, daemon: startZeusd(words, { env: driver.env }) };
}

export async function start(options: DrivenOptions = {}): Promise<Driven> {
  const driven = launch(options);
  await driven.daemon.listening();
  return driven;
}

export interface Write {
  readonly ids?: string;
  readonly mw?: number;
  readonly block?: boolean;
}

/** The target of a write of power limits, by default of one to GPU 0 that waits for the driver. */
export function writeTarget({ ids = "0", mw = 200_000, block = true }: Write = {}): string {
  return `/gpu/set_power_limit?gpu_ids=${ids}&power_limit_mw=${mw}&block=${block}`;
}

export function write(daemon: Zeusd, what: Write = {}): Promise<Answer> {
  return daemon.request(writeTarget(what), { method: "POST" });
}

/** What the driver was asked to set, in order: the power limit and the GPU, as in `200000@0`. */
export function written(driver: Driver): readonly string[] {
  return driver.calls().flatMap((line) => {
    const [, gpu, mw] = /^nvmlDeviceSetPowerManagementLimit (\d+) (\d+) -> 0$/.exec(line) ?? [];
    return gpu === undefined ? [] : [`${mw}@${gpu}`];
  });
}

/** Settles when the daemon has taken in whatever was sent or closed before. */
export async function noticed(daemon: Zeusd): Promise<void> {
  await daemon.request("/time");
  await daemon.request("/time");
}

export async function gpuIds(daemon: Zeusd): Promise<readonly number[]> {
  const { gpus } = JSON.parse((await daemon.request("/discover")).body) as { gpus: readonly { id: number }[] };
  return gpus.map(({ id }) => id);
}

/** How many events of a GPU a power stream has brought. */
export function eventsOf(stream: Stream, gpu: number): number {
  return stream.text().split(`"gpu_id":${gpu},`).length - 1;
}

/** Settles when a power stream has brought two more events of a GPU. */
export async function goesOn(stream: Stream, gpu: number): Promise<void> {
  const before = eventsOf(stream, gpu);
  await eventually(() => eventsOf(stream, gpu) > before + 1);
}
