// One exchange on a bare socket: sends bytes as they are, and reads the replies that come back.
import { connect, type NetConnectOpts } from "node:net";

/** Bytes to send, and what to look at in the answer. */
export interface Exchange {
  readonly name: string;
  /** Bytes, and pauses in milliseconds between them. */
  readonly send: readonly (string | Buffer | number)[];
  /** How many replies to wait for, 100 Continue included (1). */
  readonly replies?: number;
  /** For a stream: how many events to wait for; 0 waits for the head only. */
  readonly events?: number;
  /** Rules for the stub of NVML that hold during the exchange. */
  readonly faults?: readonly string[];
  /** Files of the powercap tree that are written before; undefined removes one. */
  readonly files?: Readonly<Record<string, string | undefined>>;
  /** How long to wait for the replies, in milliseconds (3000). */
  readonly patience?: number;
}

export interface Reply {
  readonly status: number;
  readonly version: string;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
  readonly chunks: readonly string[];
  readonly complete: boolean;
}

export interface Answer {
  readonly replies: readonly Reply[];
  /** Whether the daemon closed the connection after them. */
  readonly closed: boolean;
}

/** How long to wait for an end of the connection that the reply did not announce, in milliseconds. */
const linger = { unannounced: 8, announced: 1_000 };

/** `thorough` waits longer for what may come after the replies. */
export async function perform(to: NetConnectOpts, exchange: Exchange, thorough: boolean): Promise<Answer> {
  const { send, replies: wanted = 1, events, patience = 3_000 } = exchange;
  const socket = connect({ ...to, allowHalfOpen: true } as NetConnectOpts);
  let bytes = Buffer.alloc(0);
  let closed = false;
  let wake = (): void => {};
  socket.on("data", (more) => ((bytes = Buffer.concat([bytes, more])), wake()));
  socket.on("error", () => ((closed = true), wake()));
  socket.on("end", () => ((closed = true), wake()));

  const until = async (done: () => boolean, ms: number): Promise<void> => {
    const end = Date.now() + ms;
    while (!done() && Date.now() < end) {
      await new Promise<void>((resolve) => {
        wake = resolve;
        setTimeout(resolve, Math.max(1, end - Date.now())).unref();
      });
    }
  };
  const enough = (): boolean => {
    const got = parseReplies(bytes, closed);
    if (closed || got.filter(({ complete }) => complete).length >= wanted) return true;
    const streamed = got.at(-1);
    return events !== undefined && streamed !== undefined && eventsOf(streamed).length >= events;
  };

  for (const part of send) {
    if (typeof part === "number") await new Promise((resolve) => setTimeout(resolve, part));
    else if (!closed && part.length > 0) socket.write(part);
  }
  await until(enough, patience);
  const replies = parseReplies(bytes, closed);
  const announced = replies.some(({ headers }) => headers.get("connection") === "close");
  await until(() => closed, events === undefined && announced ? linger.announced : thorough ? 150 : linger.unannounced);
  socket.destroy();
  return { replies: parseReplies(bytes, closed), closed };
}

/** The payloads of server-sent events; comments are not events. */
export function eventsOf({ body }: Reply): readonly string[] {
  return body
    .split("\n\n")
    .slice(0, -1)
    .filter((text) => !text.startsWith(":"));
}

function parseReplies(bytes: Buffer, ended: boolean): readonly Reply[] {
  const replies: Reply[] = [];
  let text = bytes.toString("latin1");
  for (;;) {
    const mark = text.indexOf("\r\n\r\n");
    if (mark < 0) return replies;
    const [first = "", ...lines] = text.slice(0, mark).split("\r\n");
    const headers = new Map(lines.map((line) => [nameOf(line), line.slice(line.indexOf(":") + 1).trim()]));
    const status = Number(first.split(" ")[1]);
    const { chunks, rest, complete } = parseBody(text.slice(mark + 4), status, headers, ended);
    const pieces = chunks.map((chunk) => Buffer.from(chunk, "latin1").toString("utf8"));
    const version = first.split(" ")[0] ?? "";
    replies.push({ status, version, headers, body: pieces.join(""), chunks: pieces, complete });
    if (!complete) return replies;
    text = rest;
  }
}

const nameOf = (line: string): string => line.slice(0, line.indexOf(":")).toLowerCase();

interface Body {
  readonly chunks: readonly string[];
  readonly rest: string;
  readonly complete: boolean;
}

function parseBody(text: string, status: number, headers: ReadonlyMap<string, string>, ended: boolean): Body {
  if (status < 200) return { chunks: [], rest: text, complete: true };
  if (headers.get("transfer-encoding") === "chunked") return parseChunks(text);
  const length = headers.get("content-length");
  if (length === undefined) return { chunks: [text], rest: "", complete: ended };
  const bytes = Number(length);
  return { chunks: bytes > 0 ? [text.slice(0, bytes)] : [], rest: text.slice(bytes), complete: text.length >= bytes };
}

function parseChunks(text: string): Body {
  const chunks: string[] = [];
  for (let rest = text; ;) {
    const mark = rest.indexOf("\r\n");
    const bytes = Number.parseInt(rest.slice(0, mark), 16);
    const end = mark + 2 + bytes + 2;
    if (mark < 0 || Number.isNaN(bytes) || rest.length < end) return { chunks, rest: "", complete: false };
    if (bytes === 0) return { chunks, rest: rest.slice(end), complete: true };
    chunks.push(rest.slice(mark + 2, mark + 2 + bytes));
    rest = rest.slice(end);
  }
}
