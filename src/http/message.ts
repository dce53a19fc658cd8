// Request and reply: what came over HTTP and what goes back, socket taken off.
import type { Credentials } from "../access/guard.ts";

export interface Request extends Credentials {
  /** Stands in `x-request-id`, in the log, and in the reply if something unforeseen happens. */
  readonly id: string;
  readonly method: string;
  /** When it came, in the milliseconds of `Clock.monotonicMs`. */
  readonly arrivedMs: number;
  /** The decoded path, for example `/gpu/set_power_limit`. */
  readonly path: string;
  /** What follows the `?`, as sent. */
  readonly query: string;
  /** Where it came from, over TCP. */
  readonly address?: string | undefined;
  /** The whole body. Throws `body_too_large` above `limit` bytes. */
  body(limit: number): Promise<Buffer>;
  /** Whether the client has left without waiting for the reply. */
  gone(): boolean;
}

export type Headers = Readonly<Record<string, string>>;

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string | EventSource;
}

/** Where a stream's events go: one client's connection. */
export interface EventSink {
  /** Returns false when the client reads too slowly; the next `drained` says that it can take more. */
  send(text: string): boolean;
}

/** A stream of events that has not begun yet. */
export interface EventSource {
  open(sink: EventSink): OpenStream;
  /** Rejects when the stream would not be granted any more. */
  recheck(): Promise<void>;
}

export interface OpenStream {
  drained(): void;
  close(): void;
}

const json = { "content-type": "application/json" };
const text = { "content-type": "text/plain; charset=utf-8" };

export function emptyReply(status: number): Reply {
  return { status, headers: {}, body: "" };
}

export function jsonReply(status: number, body: unknown, headers?: Headers): Reply {
  return { status, headers: headers ? { ...json, ...headers } : json, body: JSON.stringify(body) };
}

export function textReply(status: number, body: string, headers: Headers = {}): Reply {
  return { status, headers: { ...text, ...headers }, body };
}
