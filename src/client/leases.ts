// Leases, as a client asks for them: each function is one request. They reject with an Error whose message is one sentence,
// a Refusal where the daemon has said no.
import { stringify } from "node:querystring";
import type { LeaseFacts } from "../contract/events.ts";
import type { Values } from "../contract/field.ts";
import type { Setting } from "../contract/operations.ts";
import type { Answer } from "./ask.ts";
import type { Daemon } from "./connect.ts";
import { Refusal, codeOf, objectOf, sentenceOf } from "./refusal.ts";

export interface Wanted {
  /** Ids, UUIDs or PCI addresses, separated by commas; all GPUs if left out. */
  readonly gpuIds?: string | undefined;
  readonly exclusive: boolean;
  readonly reason?: string | undefined;
  /** After so many seconds it ends unless it is renewed; without it, it ends with the process that asks. */
  readonly ttlS?: number | undefined;
}

export interface Acquired extends LeaseFacts {
  /** What the lease is used by; a secret. */
  readonly lease_id: string;
}

/** What became of each GPU: `restored`, `unchanged`, or a sentence that says why that has to wait. */
export interface Released {
  readonly lease: number;
  readonly gpus: Readonly<Record<string, string>>;
}

/** What a lease has set, and whether that is in force; what it covers is null if that is not known. */
export interface Held {
  readonly asked: Values;
  readonly covers: Values | null;
  readonly wins: boolean;
}

export interface ListedLease extends LeaseFacts {
  readonly settings: Readonly<Record<string, Readonly<Partial<Record<Setting, Held>>>>>;
}

/** More than the longest time limit that a daemon can be given for a driver call, in ms. */
const writePatienceMs = 110_000;

/** A restoration may have to wait for a call that runs. */
const releasePatienceMs = 2 * writePatienceMs;

export async function acquire(daemon: Daemon, { gpuIds, exclusive, reason, ttlS }: Wanted): Promise<Acquired> {
  const query = given({ gpu_ids: gpuIds, exclusive: exclusive ? "true" : undefined, reason, ttl_s: ttlS });
  return answered<Acquired>(daemon, await daemon.ask("POST", `/lease/acquire${query}`), "lease_id");
}

export async function renew(daemon: Daemon, leaseId: string): Promise<void> {
  accepted(daemon, await daemon.ask("POST", `/lease/renew${given({ lease_id: leaseId })}`));
}

/** Releases one's own lease by its id, or any lease by its number, which others than root may do for their own alone. */
export async function release(
  daemon: Daemon,
  which: { readonly leaseId: string } | { readonly lease: number; readonly force: boolean },
): Promise<Released> {
  const query =
    "leaseId" in which
      ? given({ lease_id: which.leaseId })
      : given({ lease: which.lease, force: which.force ? "true" : undefined });
  return answered<Released>(daemon, await daemon.ask("POST", `/lease/release${query}`, releasePatienceMs), "gpus");
}

export async function list(daemon: Daemon): Promise<readonly ListedLease[]> {
  const answer = await daemon.ask("GET", "/lease/list");
  return answered<{ readonly leases: readonly ListedLease[] }>(daemon, answer, "leases").leases;
}

/** Makes a write within a lease, and waits until it is done. */
export async function write(
  daemon: Daemon,
  { lease_id, gpu_ids }: Acquired,
  operation: string,
  values: Readonly<Record<string, string | number>>,
): Promise<void> {
  const query = given({ gpu_ids: gpu_ids.join(","), ...values, block: "true", lease_id });
  accepted(daemon, await daemon.ask("POST", `/gpu/${operation}${query}`, writePatienceMs));
}

function given(values: Readonly<Record<string, string | number | undefined>>): string {
  const query = stringify(Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)));
  // Commas stay readable, in the daemon's log too.
  return query === "" ? "" : `?${query.replaceAll("%2C", ",")}`;
}

function accepted(daemon: Daemon, { status, body }: Answer): void {
  if (status === 200) return;
  // A path that a daemon does not know has an empty answer.
  if (status === 404 && body === "") throw new Refusal(404, `The daemon at '${daemon.name}' knows no leases`);
  const text = sentenceOf(body) || `The daemon at '${daemon.name}' answers with status ${status}`;
  throw new Refusal(status, text, codeOf(body));
}

/** The answer, which must have this key. */
function answered<Shape>(daemon: Daemon, answer: Answer, key: keyof Shape & string): Shape {
  accepted(daemon, answer);
  const value = objectOf(answer.body);
  if (value && Object.hasOwn(value, key)) return value as unknown as Shape;
  throw new Error(`What answers at '${daemon.name}' is no zeusd that knows leases`);
}
