// From node's IncomingMessage to a Request.
import type { IncomingMessage } from "node:http";
import { ZeusdError } from "../contract/errors.ts";
import type { Peer } from "../access/actor.ts";
import type { Connection } from "./connection.ts";
import type { Request } from "./message.ts";
import { parseTarget } from "./target.ts";

/** How many bytes the bodies of all requests that are still arriving may take: a client may send slowly, and there are many. */
const mostBytes = 64 * 1024 * 1024;

/** The room for bodies that are still arriving. */
export class BodyRoom {
  #taken = 0;

  /** Throws `too_many_connections` when there is no room for so many more bytes. */
  take(bytes: number): void {
    if (this.#taken + bytes > mostBytes) {
      throw new ZeusdError(
        "too_many_connections",
        "Too many large bodies are being sent at the same time; try again later.",
      );
    }
    this.#taken += bytes;
  }

  give(bytes: number): void {
    this.#taken -= bytes;
  }
}

export class IncomingRequest implements Request {
  readonly id: string;
  readonly arrivedMs: number;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly peer: Peer | undefined;
  readonly address: string | undefined;
  readonly #incoming: IncomingMessage;
  readonly #room: BodyRoom;

  constructor(incoming: IncomingMessage, id: string, arrivedMs: number, room: BodyRoom, from: Connection) {
    const { path, query } = parseTarget(incoming.url ?? "/");
    this.#incoming = incoming;
    this.#room = room;
    this.id = id;
    this.peer = from.peer;
    this.address = from.address;
    this.arrivedMs = arrivedMs;
    this.method = incoming.method ?? "GET";
    this.path = path;
    this.query = query;
  }

  header(name: string): string | undefined {
    const value = this.#incoming.headers[name];
    return Array.isArray(value) ? value[0] : value;
  }

  body(limit: number): Promise<Buffer> {
    return readBody(this.#incoming, limit, this.#room);
  }

  gone(): boolean {
    return this.#incoming.socket.destroyed;
  }
}

async function readBody(incoming: IncomingMessage, limit: number, room: BodyRoom): Promise<Buffer> {
  const declared = incoming.headers["content-length"] ?? "0";
  if (Number(declared) > limit) {
    throw new ZeusdError(
      "body_too_large",
      `JSON payload (${declared} bytes) is larger than allowed (limit: ${limit} bytes).`,
    );
  }
  const body = new ArrivingBody(limit, room);
  try {
    return await body.read(incoming);
  } catch (error) {
    throw error instanceof ZeusdError ? error : new ZeusdError("bad_request", "The body broke off.", { cause: error });
  } finally {
    body.free();
  }
}

/**
 * Most bodies are one chunk. More are copied into one buffer that grows: two million chunks of one byte would be as many
 * objects.
 */
class ArrivingBody {
  readonly #limit: number;
  readonly #room: BodyRoom;
  #bytes: Buffer = empty;
  #size = 0;

  constructor(limit: number, room: BodyRoom) {
    this.#limit = limit;
    this.#room = room;
  }

  read(incoming: IncomingMessage): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const done = (): void => resolve(this.#bytes.subarray(0, this.#size));
      const declared = Number(incoming.headers["content-length"]);
      incoming.on("data", (chunk: Buffer) => {
        try {
          this.#add(chunk);
        } catch (error) {
          // To leave early must not close the connection, which still has to carry the refusal.
          incoming.removeAllListeners("data").pause();
          reject(error as Error);
        }
        // The stream takes two more turns to say so.
        if (this.#size === declared) done();
      });
      incoming.once("end", done);
      incoming.once("error", reject);
      // It closes in any case, and an error takes a while to make.
      incoming.once("close", () => {
        if (!incoming.complete) reject(new Error("the connection closed"));
      });
    });
  }

  free(): void {
    this.#room.give(this.#bytes.length);
  }

  #add(chunk: Buffer): void {
    const end = this.#size + chunk.length;
    if (end > this.#limit) {
      throw new ZeusdError("body_too_large", `JSON payload has exceeded limit (${this.#limit} bytes).`);
    }
    if (this.#size === 0) {
      this.#room.take(chunk.length);
      this.#bytes = chunk;
    } else {
      if (end > this.#bytes.length) this.#grow(Math.min(this.#limit, 2 * end));
      chunk.copy(this.#bytes, this.#size);
    }
    this.#size = end;
  }

  #grow(length: number): void {
    this.#room.take(length - this.#bytes.length);
    this.#bytes = Buffer.concat([this.#bytes], length);
  }
}

const empty = Buffer.alloc(0);
