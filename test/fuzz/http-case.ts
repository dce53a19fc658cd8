// One case: a client sends its bytes, and what came back and what reached the driver is judged.
import type { Socket } from "node:net";
import type { Daemon } from "./http-daemon.ts";
import type { Stream } from "./http-grammar.ts";
import { header, readReplies, readStream, type SeenReplies, type SeenStream } from "./http-reference.ts";
import { allow, demandOf, isWrite, leadsToWrite, use, type Allowance } from "./http-writes.ts";

/** How long a reply may take, in ms: the 4 s of the daemon, and what a busy machine adds. */
const deadlineMs = 10_000;
/** After so long without a reply, bytes that are not whole will get none. */
const quietMs = 15;

export interface Outcome {
  /** What is wrong; undefined if nothing is. */
  readonly wrong: string | undefined;
  readonly requests: number;
  readonly replies: readonly number[];
  readonly writes: number;
}

/** Remembers, for each daemon, what clients that left early may still cause. */
export class Judge {
  readonly #left = new Map<Daemon, Allowance>();
  #putBack = 0;

  /** How many calls nobody had asked for, but the end of a lease or of an attempt. */
  get putBack(): number {
    return this.#putBack;
  }

  async run(daemon: Daemon, stream: Stream): Promise<Outcome> {
    const seen = readStream(stream.bytes);
    const { text, late, cutOff } = await send(daemon, stream, seen);
    const replies = readReplies(text, seen.requests);
    const probed = await probe(daemon);
    const calls = daemon.newCalls();
    const wrong =
      late ??
      probed ??
      (daemon.isAlive() ? undefined : "the daemon has died") ??
      daemon.newTrouble() ??
      judgeReplies(daemon, { ...stream, cutOff }, seen, replies) ??
      (await this.#judgeCalls(daemon, stream, calls, demandOf(seen, replies.replies, daemon.loopback)));
    return {
      wrong,
      requests: seen.requests.length,
      replies: replies.replies.map(({ status }) => status),
      writes: calls.filter(isWrite).length,
    };
  }

  async #judgeCalls(
    daemon: Daemon,
    { ending }: Stream,
    calls: readonly string[],
    { allowed, required }: ReturnType<typeof demandOf>,
  ): Promise<string | undefined> {
    const writes = calls.filter(isWrite);
    if (daemon.readOnly)
      return writes.length === 0 ? forbidden(daemon, calls) : `who may not write caused: ${writes.join("; ")}`;
    for (const [call, count] of this.#left.get(daemon) ?? []) allow(allowed, call, count);
    const made = new Set(writes);
    const missing = required.find((call) => !made.has(call));
    if (missing !== undefined) return `what was answered with 200 was not done: ${missing}`;
    for (const call of writes) {
      if (use(allowed, call)) continue;
      if (!(await daemon.hasPutBack(call))) return `nobody asked for: ${call}`;
      this.#putBack += 1;
    }
    this.#left.set(daemon, ending === "wait" ? new Map() : allowed);
    return undefined;
  }
}

function forbidden({ firstOnly }: Daemon, calls: readonly string[]): string | undefined {
  const other = firstOnly ? calls.find((call) => /^\w+ 1\b/.test(call)) : undefined;
  return other === undefined ? undefined : `who may use GPU 0 alone caused: ${other}`;
}

// SENDING -----------------------------------------------------------------------------------------------------------------

interface Sent {
  /** All that came back. */
  readonly text: string;
  readonly late?: string;
  /** Whether it could not send all: then replies that were on their way are lost with a connection of Node's. */
  readonly cutOff: boolean;
}

async function send(daemon: Daemon, { bytes, cuts, ending }: Stream, seen: SeenStream): Promise<Sent> {
  const socket = daemon.connect();
  const client = listen(socket);
  await client.connected;
  for (const [index, start] of [0, ...cuts].entries()) {
    socket.write(bytes.slice(start, cuts[index]), "latin1");
    await new Promise((resolve) => setImmediate(resolve));
  }
  const late = ending === "wait" ? await awaitReplies(client, seen) : undefined;
  if (ending === "destroy") socket.destroy();
  else socket.end();
  const closed = await within(Promise.race([client.closed, client.streams()]), deadlineMs);
  socket.destroy();
  await client.closed;
  const wrong = late ?? (closed ? undefined : "a connection was not closed after its client had ended it");
  return { text: client.text(), cutOff: client.isBroken(), ...(wrong === undefined ? {} : { late: wrong }) };
}

interface Client {
  text(): string;
  readonly connected: Promise<unknown>;
  readonly closed: Promise<void>;
  isClosed(): boolean;
  isBroken(): boolean;
  /** Settles when something has come, or the connection is closed. */
  news(): Promise<void>;
  /** Settles when a stream has come: it may go on for whoever has closed only the half that sends. */
  streams(): Promise<void>;
}

function listen(socket: Socket): Client {
  let [text, closed, broken] = ["", false, false];
  let tell = (): void => {};
  let tellStream = (): void => {};
  const isStream = (): boolean => text.includes("text/event-stream");
  socket.setEncoding("latin1").on("data", (data: string) => {
    text += data;
    tell();
    if (isStream()) tellStream();
  });
  socket.on("error", () => (broken = true));
  // The other end's half tells that there is nothing to wait for.
  socket.once("end", () => {
    closed = true;
    tell();
  });
  const isClosed = new Promise<void>((resolve) => {
    socket.once("close", () => {
      closed = true;
      tell();
      resolve();
    });
  });
  return {
    text: () => text,
    connected: new Promise((resolve) => void socket.once("connect", resolve).once("close", resolve)),
    closed: isClosed,
    isClosed: () => closed,
    isBroken: () => broken,
    news: () =>
      new Promise((resolve) => {
        tell = resolve;
      }),
    streams: () =>
      new Promise((resolve) => {
        tellStream = resolve;
        if (isStream()) resolve();
      }),
  };
}

/** Waits for the replies to all whole requests, and a little for one to what follows. */
async function awaitReplies(client: Client, { requests, tail }: SeenStream): Promise<string | undefined> {
  const untilMs = performance.now() + deadlineMs;
  const patient = tail === "whole" || tail === "unfinished";
  for (;;) {
    if (client.isClosed()) return undefined;
    const { replies, wrong } = readReplies(client.text(), requests);
    const isEnough = replies.length >= requests.length;
    // Nothing comes after a stream.
    const isStream = replies.at(-1)?.whole === false;
    if (wrong !== undefined || isStream || (isEnough && patient)) return undefined;
    const came = await within(client.news(), isEnough || !patient ? quietMs : deadlineMs);
    if (!came && !patient) return undefined;
    if (performance.now() > untilMs)
      return `only ${replies.length} of ${requests.length} requests were answered in time`;
  }
}

/** Whether it settles in time. */
async function within(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  const inTime = await Promise.race([promise.then(() => true), late]);
  clearTimeout(timer);
  return inTime;
}

/** A proper request on a connection of its own, which waits in the lanes behind all that was queued before. */
async function probe(daemon: Daemon): Promise<string | undefined> {
  const ids = daemon.firstOnly ? "0" : "0,1";
  const [proper] = daemon.authorizations;
  const authorization = proper === undefined ? "" : `authorization: ${proper}\r\n`;
  const head = `GET /gpu/get_power_limit?gpu_ids=${ids} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n`;
  const socket = daemon.connect();
  const client = listen(socket);
  socket.write(`${head}${authorization}\r\n`);
  const inTime = await within(client.closed, deadlineMs);
  socket.destroy();
  if (!inTime) return "the next proper request was not answered in time";
  const text = client.text();
  return /^HTTP\/1\.1 200 [^]*"power_limit_mw"/.test(text)
    ? undefined
    : `the next proper request got: ${text.slice(0, 300)}`;
}

// REPLIES -----------------------------------------------------------------------------------------------------------------

/** What betrays the inside of the daemon or of its machine. */
const secrets =
  /\n\s+at |node:internal|node_modules|file:\/\/|\.[cm]?[jt]s\b|zeusd-fuzz|\/tmp\/|\/work\/|\/home\/|\/root\//;

function judgeReplies(
  { name, loopback, readOnly }: Daemon,
  { bytes, ending, cutOff }: Stream & Pick<Sent, "cutOff">,
  { requests, tail }: SeenStream,
  { replies, wrong, rest }: SeenReplies,
): string | undefined {
  if (wrong !== undefined) return wrong;
  if (rest !== "" && ending === "wait") return `a reply is not whole: ${JSON.stringify(rest.slice(0, 300))}`;
  const most = tail === "whole" || tail === "unfinished" ? requests.length : Infinity;
  if (replies.length > most + (tail === "unfinished" ? 1 : 0))
    return `${replies.length} replies to ${requests.length} requests`;
  const ids = replies.map((reply) => header(reply, "x-request-id"));
  if (new Set(ids).size !== ids.length) return "two replies have the same request id";
  for (const [index, reply] of replies.entries()) {
    const [secret] = secrets.exec(reply.body) ?? [];
    // A refusal repeats what was sent.
    if (secret !== undefined && !bytes.includes(secret)) {
      return `a reply of ${name} tells ${JSON.stringify(secret)}: ${reply.body.slice(0, 300)}`;
    }
    if (reply.status === 500) return `a reply of ${name} is 500: ${reply.body.slice(0, 300)}`;
    const request = requests[index];
    const isBare = request?.method === "HEAD" || (!request && reply.body === "");
    const isJson = header(reply, "content-type") === "application/json" && !isBare;
    if (isJson && !isParsable(reply.body)) return `a reply of ${name} is no JSON: ${reply.body.slice(0, 300)}`;
    if (readOnly && request && leadsToWrite(request) && reply.status < 400) {
      return `who may not write was answered with ${reply.status}`;
    }
  }
  const isCutShort = replies.length < requests.length && ending === "wait" && !loopback && !cutOff;
  const last = replies.at(-1);
  const saidSo = last !== undefined && (!last.whole || header(last, "connection") === "close");
  // What is broken may cost the replies before it: whoever sends it may have meant something else by them.
  if (isCutShort && !saidSo && tail === "whole")
    return `${requests.length} requests got ${replies.length} replies and an end`;
  return undefined;
}

function isParsable(body: string): boolean {
  try {
    JSON.parse(Buffer.from(body, "latin1").toString("utf8"));
    return true;
  } catch {
    return false;
  }
}
