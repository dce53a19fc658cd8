// The server: node:http on one side, Request and Reply on the other. Limits on connections, heads and streams stand here.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../contract/clock.ts";
import { messageOf, ZeusdError } from "../contract/errors.ts";
import type { Log } from "../contract/log.ts";
import { Connection, refuseConnection, type HeldPeer } from "./connection.ts";
import { createDateHeader } from "./date-header.ts";
import type { Handler } from "./handle.ts";
import { emptyReply, type EventSource, type Reply, type Request } from "./message.ts";
import type { createOriginGuard } from "./origin.ts";
import type { NextRequestId } from "./request-id.ts";
import { BodyRoom, IncomingRequest } from "./request.ts";

export interface HttpServerParts {
  readonly handler: Handler;
  readonly clock: Clock;
  readonly log: Log;
  readonly nextRequestId: NextRequestId;
  readonly maxConnections: number;
  readonly maxStreams: number;
  /** Who has connected, by the descriptor of a connection; absent over TCP. Throws if they have gone. */
  readonly readPeer?: ((descriptor: number) => HeldPeer) | undefined;
  readonly originGuard: ReturnType<typeof createOriginGuard>;
  /** Whether the guard looks at `Host` as well. */
  readonly hostMatters: boolean;
}

/** Largest head and longest target in bytes, most headers: the original's limits. */
const maxHeadBytes = 128 * 1024;
const maxTargetLength = 65_534;
const maxHeaders = 96;

/** A head must be there within 5 s, as in the original, and a body within 30 s. */
const timeouts = { headersTimeout: 5_000, requestTimeout: 30_000, connectionsCheckingInterval: 500 };

/** How long a connection may lie idle: well over the 5 s after which Python clients drop theirs, so that they never race. */
const keepAliveTimeout = 75_000;

/** How long a client may leave a reply or a stream unread before it is cut off. */
const unreadTimeout = 120_000;

/** How many refused connections may be open at a time, to be told why; the limit on open files has room for no more. */
const mostLingering = 64;

export class HttpServer {
  readonly server: Server;
  readonly #parts: HttpServerParts;
  readonly #date: () => string;
  readonly #connections = new Map<Socket, Connection>();
  readonly #streams = new Map<ServerResponse, Stream>();
  readonly #bodies = new BodyRoom();
  #stopping = false;

  constructor(parts: HttpServerParts) {
    this.#parts = parts;
    this.#date = createDateHeader(parts.clock);
    const limits = { keepAliveTimeout, maxHeaderSize: maxHeadBytes, requireHostHeader: false, keepAlive: true };
    const answer = (incoming: IncomingMessage, response: ServerResponse): void => {
      this.#answer(incoming, response).catch((error: unknown) => {
        parts.log.error("A reply could not be sent", { err: error });
        response.destroy();
      });
    };
    this.server = createServer({ ...timeouts, ...limits }, answer)
      // An expectation other than 100-continue is ignored.
      .on("checkExpectation", answer)
      .on("connection", (socket) => this.#admit(socket))
      .on("connect", (_, socket: Socket) => {
        // node:http has given the socket up here, and a tunnel is a path that does not exist.
        socket.on("error", () => socket.destroy());
        this.#refuseBroken(socket, 404);
      })
      .on("clientError", (error: NodeJS.ErrnoException, socket) => {
        this.#refuseBroken(socket as Socket, brokenStatus(error));
      });
    this.server.timeout = unreadTimeout;
  }

  /** Ends all streams at once, lets the requests in flight finish, and refuses new ones; settles when none is left. */
  drain(): Promise<void> {
    this.#stopping = true;
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    // node:http would wait for connections that have sent nothing, or half a request.
    for (const connection of this.#connections.values()) {
      connection.endStreams();
      connection.endWhenAnswered();
    }
    return closed;
  }

  /** Ends the streams that would not be granted any more. */
  async recheckStreams(): Promise<void> {
    await Promise.all([...this.#streams.values()].map(({ recheck, end }) => recheck().catch(end)));
  }

  /** Cuts every connection. */
  cut(): void {
    this.#stopping = true;
    this.server.close();
    this.server.closeAllConnections();
  }

  #admit(socket: Socket): void {
    const excess = this.#connections.size + 1 - this.#parts.maxConnections;
    // One that is refused needs no handle on its process: there are as many open files as connections are served.
    this.#connections.set(socket, new Connection(socket, excess > 0 ? undefined : this.#peerOf(socket)));
    socket.once("close", () => this.#connections.delete(socket));
    if (excess > mostLingering) socket.destroy();
    else if (excess > 0) refuseConnection(socket, this.#parts.nextRequestId());
  }

  /** Absent as well if it cannot be told: then the policy is what says no, if there is one. */
  #peerOf(socket: Socket): HeldPeer | undefined {
    const { readPeer, log } = this.#parts;
    try {
      return readPeer?.(descriptorOf(socket));
    } catch (error) {
      log.debug(`Nobody can tell whose a connection is: ${messageOf(error)}`);
      return undefined;
    }
  }

  #refuseBroken(socket: Socket, status: number | undefined): void {
    this.#connections.get(socket)?.refuseBroken(status, this.#parts.nextRequestId());
  }

  async #answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const connection = this.#connections.get(incoming.socket);
    if (!connection?.begin(response)) return;
    const id = this.#parts.nextRequestId();
    const arrivedMs = this.#parts.clock.monotonicMs();
    const request = new IncomingRequest(incoming, id, arrivedMs, this.#bodies, connection);
    const refused = this.#refusal(incoming, request);
    const reply = refused ?? (await this.#parts.handler.handle(request));
    if (response.destroyed || incoming.socket.destroyed) return;
    // After these the rest of what the client sends means nothing, or would keep the daemon from stopping.
    const last = this.#stopping && connection.isLast(response);
    const unread = reply.status === 413 || incoming.isPaused();
    if (refused || last || unread) response.shouldKeepAlive = false;
    if (typeof reply.body === "string") this.#send(response, reply, reply.body, id);
    else if (this.#hasRoomForStream) this.#stream(connection, response, reply, reply.body, id);
    else this.#refuseStream(response, request);
  }

  /** What is refused before anyone looks at the path. */
  #refusal({ httpVersion, rawHeaders, url = "", socket }: IncomingMessage, request: Request): Reply | undefined {
    if (this.#stopping) {
      return this.#parts.handler.refuse(request, new ZeusdError("stopping", "The daemon is stopping."));
    }
    if (rawHeaders.length > 2 * maxHeaders) return emptyReply(431);
    if (url.length > maxTargetLength) return emptyReply(400);
    if (httpVersion !== "1.1" && httpVersion !== "1.0") return emptyReply(400);
    // Of another encoding nobody knows where the body ends: it must not run anything.
    const encoding = headerOf(rawHeaders, "transfer-encoding") && request.header("transfer-encoding");
    if (encoding !== undefined && encoding.toLowerCase() !== "chunked") return emptyReply(400);
    const { handler, originGuard, hostMatters } = this.#parts;
    const origin = headerOf(rawHeaders, "origin");
    // What nearly every request is: one of a program, on the Unix socket.
    if (origin === undefined && !hostMatters) return undefined;
    const [host, site] = [headerOf(rawHeaders, "host"), headerOf(rawHeaders, "sec-fetch-site")];
    const destination = headerOf(rawHeaders, "sec-fetch-dest");
    const foreign = originGuard({ host, origin, site, destination, localAddress: socket.localAddress });
    return foreign && handler.refuse(request, foreign);
  }

  #send(response: ServerResponse, reply: Reply, body: string, id: string): void {
    const head = this.#head(response, reply, id);
    head.push("content-length", String(Buffer.byteLength(body)));
    response.writeHead(reply.status, head);
    response.end(body);
  }

  get #hasRoomForStream(): boolean {
    return !this.#stopping && this.#streams.size < this.#parts.maxStreams;
  }

  #refuseStream(response: ServerResponse, request: Request): void {
    const { handler, maxStreams } = this.#parts;
    const text = `All ${maxStreams} streams are taken; close one, or raise --max-streams.`;
    const full = handler.refuse(request, new ZeusdError("too_many_streams", text));
    if (typeof full.body === "string") this.#send(response, full, full.body, request.id);
  }

  #stream(connection: Connection, response: ServerResponse, reply: Reply, source: EventSource, id: string): void {
    // HTTP/1.0 knows no chunks: there the end of the connection is the end of the stream.
    const chunked = response.req.httpVersionMinor > 0 ? ["transfer-encoding", "chunked"] : [];
    response.writeHead(reply.status, [...this.#head(response, reply, id), ...chunked]);
    response.flushHeaders();
    const stream = source.open({ send: (text) => response.write(text) && !response.writableNeedDrain });
    response.on("drain", () => stream.drained());
    const end = (): void => {
      connection.releaseStream(end);
      this.#streams.delete(response);
      stream.close();
      // A client that does not read would not read the end either.
      if (response.writableNeedDrain) response.destroy();
      else response.end();
    };
    this.#streams.set(response, { recheck: () => source.recheck(), end });
    connection.holdStream(end);
  }

  /** Keep-alive is implicit in HTTP/1.1, and the original does not say it; to 1.0 clients it must be said. */
  #head(response: ServerResponse, { headers }: Reply, id: string): string[] {
    if (response.shouldKeepAlive && response.req.httpVersionMinor > 0) response.removeHeader("connection");
    const head = ["date", this.#date(), "x-request-id", id];
    for (const name in headers) head.push(name, headers[name] ?? "");
    return head;
  }
}

/** A stream that is open. */
interface Stream {
  readonly recheck: () => Promise<void>;
  readonly end: () => void;
}

/** Node has no public way to it. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } | null };
  return handle?.fd ?? -1;
}

/** The first header of a name. Looks without making a record of all headers, which nearly no request needs. */
function headerOf(rawHeaders: readonly string[], name: string): string | undefined {
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const sent = rawHeaders[index];
    if (sent?.length === name.length && sent.toLowerCase() === name) return rawHeaders[index + 1];
  }
  return undefined;
}

function brokenStatus({ code }: NodeJS.ErrnoException): number | undefined {
  if (code === "HPE_HEADER_OVERFLOW") return 431;
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return 408;
  return code === "ECONNRESET" || code === "EPIPE" ? undefined : 400;
}
