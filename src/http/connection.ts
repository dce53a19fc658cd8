// One client's connection: what it still waits for, and how it ends when something about it is wrong.
import { STATUS_CODES, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Peer } from "../access/actor.ts";
import { ZeusdError } from "../contract/errors.ts";

/** How many requests a client may send before it has read the first reply; each costs memory. */
const maxUnanswered = 64;

/** A peer with what has to be given back when its connection is gone. */
export interface HeldPeer extends Peer {
  close(): void;
}

export class Connection {
  /** Who connected; absent over TCP. */
  readonly peer: Peer | undefined;
  /** Where from, over TCP. A socket that has been closed does not tell any more. */
  readonly address: string | undefined;
  readonly #socket: Socket;
  /** Ends of the streams on it. node:http closes no reply that waits behind another when the connection dies. */
  readonly #closeStreams = new Set<() => void>();
  #unanswered = 0;
  #last: ServerResponse | undefined;
  #afterReplies: (() => void) | undefined;

  constructor(socket: Socket, peer?: HeldPeer) {
    this.#socket = socket;
    this.peer = peer;
    this.address = socket.remoteAddress;
    socket.once("close", () => {
      this.endStreams();
      peer?.close();
    });
  }

  /** Takes on a request; false if the client has sent too many without reading, and is cut off. */
  begin(response: ServerResponse): boolean {
    if (this.#unanswered >= maxUnanswered) this.#socket.destroy();
    if (this.#socket.destroyed) return false;
    this.#unanswered += 1;
    this.#last = response;
    response.on("close", this.#answered);
    return true;
  }

  /** One function for all replies; node:http closes each of them once. */
  readonly #answered = (): void => {
    this.#unanswered -= 1;
    if (this.#unanswered === 0) this.#afterReplies?.();
  };

  /** Whether nothing was asked after what this answers. */
  isLast(response: ServerResponse): boolean {
    return this.#last === response;
  }

  /** Calls `close` when the connection is gone, or when the daemon ends its streams, unless it is released before. */
  holdStream(close: () => void): void {
    if (this.#socket.destroyed) close();
    else this.#closeStreams.add(close);
  }

  releaseStream(close: () => void): void {
    this.#closeStreams.delete(close);
  }

  endStreams(): void {
    for (const close of this.#closeStreams) close();
    this.#closeStreams.clear();
  }

  /** Closes the connection once the whole requests on it are answered, which may be at once. */
  endWhenAnswered(): void {
    const end = (): void => this.#socket.destroySoon();
    if (this.#unanswered === 0 || !this.#canAnswer) end();
    else this.#afterReplies ??= end;
  }

  /**
   * Answers what node:http could not parse, and closes. What came before it is answered first; without a status the client
   * is gone already.
   */
  refuseBroken(status: number | undefined, id: string): void {
    const answer = (): void => {
      // The last reply may have been to the broken request itself, or have said that it is the last.
      const told = this.#last?.headersSent && (!this.#last.req.complete || !this.#last.shouldKeepAlive);
      if (status !== undefined && !told && this.#socket.writable) this.#socket.write(rawReply(status, "", id));
      this.#socket.destroySoon();
    };
    if (this.#unanswered === 0) {
      answer();
      return;
    }
    // By then whoever wants the body of the last request has begun to read it.
    setImmediate(() => {
      if (this.#closeStreams.size > 0) this.#socket.destroy();
      else if (this.#unanswered > 0 && this.#canAnswer) this.#afterReplies ??= answer;
      else if (this.#unanswered <= 1) answer();
      else this.#socket.destroy();
    });
  }

  /** Whether the last request can be answered as it stands: it is whole, or nobody wants the rest of its body. */
  get #canAnswer(): boolean {
    const request = this.#last?.req;
    return !request || request.complete || request.readableFlowing === null;
  }
}

/** How long a refused client has to read its reply, in milliseconds. */
const lingerMs = 1_000;

/** Tells a client that there is no room for it. What it sends meanwhile is thrown away, since a reset would lose the reply. */
export function refuseConnection(socket: Socket, id: string): void {
  const error = new ZeusdError("too_many_connections", "Too many connections; close some, or raise --max-connections.");
  // node:http gives a socket up to whoever listens to its data; its own listener has to go, or it would still parse and run.
  socket.removeAllListeners("data");
  socket.on("data", () => {});
  socket.on("error", () => socket.destroy());
  socket.end(rawReply(error.status, JSON.stringify({ error: error.message, code: error.code }), id));
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  socket.once("close", () => clearTimeout(timer));
}

function rawReply(status: number, body: string, id: string): string {
  const type = body === "" ? [] : ["content-type: application/json", "retry-after: 1"];
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    ...type,
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
    `date: ${new Date().toUTCString()}`,
    `x-request-id: ${id}`,
  ];
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}
