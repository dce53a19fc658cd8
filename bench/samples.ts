// Times that the load generator and the stub driver leave in files, as 64-bit nanoseconds.
import { readFileSync } from "node:fs";
import { join, dirname } from "node:path";
import type { Daemon } from "./daemon.ts";
import { runLoad } from "./programs.ts";

/** How many slept times the stub keeps. */
const kept = 65_536;

/** What the load generator wrote, in microseconds. */
export function readSamples(path: string): readonly number[] {
  return numbersOf(readFileSync(path)).map((ns) => ns / 1000);
}

export interface Timed {
  /** How long each request took, in microseconds. */
  readonly requests: readonly number[];
  /** How long each delayed call of the driver slept, in microseconds. */
  readonly calls: readonly number[];
}

/** Asks over one connection, one request after the other, a few more first. */
export async function timeRequests(daemon: Daemon, request: string, count: number): Promise<Timed> {
  const file = join(dirname(daemon.socket), "samples");
  const before = callCount(daemon);
  const unheeded = Math.ceil(count / 10);
  await runLoad(daemon.socket, {
    requests: [request],
    options: { "warm-up": 0, requests: count + unheeded, samples: file },
  });
  const requests = readSamples(file);
  const calls = callsSince(daemon, before);
  const callsEach = calls.length / requests.length;
  if (!Number.isInteger(callsEach)) throw new Error(`${calls.length} calls for ${requests.length} requests`);
  return { requests: requests.slice(unheeded), calls: calls.slice(unheeded * callsEach) };
}

function callCount(daemon: Daemon): number {
  return numbersOf(readFileSync(daemon.sleeps))[0] ?? 0;
}

function callsSince(daemon: Daemon, before: number): readonly number[] {
  const [count = 0, ...slots] = numbersOf(readFileSync(daemon.sleeps));
  if (count - before > kept) throw new Error("more calls than the stub keeps");
  return Array.from({ length: count - before }, (_, index) => (slots[(before + index) % kept] ?? 0) / 1000);
}

function numbersOf(bytes: Buffer): readonly number[] {
  return Array.from({ length: bytes.length / 8 }, (_, index) => Number(bytes.readBigInt64LE(index * 8)));
}
