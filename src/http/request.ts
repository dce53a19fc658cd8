// From node's IncomingMessage to a Request.
import type { IncomingMessage } from "node:http";
import { ZeusdError } from "../contract/errors.ts";
import type { Request } from "./message.ts";
import { parseTarget } from "./target.ts";

export class IncomingRequest implements Request {
  readonly id: string;
  readonly arrivedMs: number;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly #incoming: IncomingMessage;

  constructor(incoming: IncomingMessage, id: string, arrivedMs: number) {
    const { path, query } = parseTarget(incoming.url ?? "/");
    this.#incoming = incoming;
    this.id = id;
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
    return readBody(this.#incoming, limit);
  }

  gone(): boolean {
    return this.#incoming.socket.destroyed;
  }
}

async function readBody(incoming: IncomingMessage, limit: number): Promise<Buffer> {
  const declared = incoming.headers["content-length"] ?? "0";
  if (Number(declared) > limit) {
    throw new ZeusdError(
      "body_too_large",
      `JSON payload (${declared} bytes) is larger than allowed (limit: ${limit} bytes).`,
    );
  }
  try {
    return await collect(incoming, limit);
  } catch (error) {
    throw error instanceof ZeusdError ? error : new ZeusdError("bad_request", "The body broke off.", { cause: error });
  }
}

/**
 * Most bodies are one chunk. More are copied into one buffer that grows: two million chunks of one byte would be as many
 * objects.
 */
function collect(incoming: IncomingMessage, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let body: Buffer = empty;
    let size = 0;
    const declared = Number(incoming.headers["content-length"]);
    incoming.on("data", (chunk: Buffer) => {
      const end = size + chunk.length;
      if (end > limit) {
        // To leave early must not close the connection, which still has to carry the refusal.
        incoming.removeAllListeners("data").pause();
        reject(new ZeusdError("body_too_large", `JSON payload has exceeded limit (${limit} bytes).`));
        return;
      }
      if (size === 0) {
        body = chunk;
      } else {
        if (end > body.length) body = Buffer.concat([body.subarray(0, size)], Math.min(limit, 2 * end));
        chunk.copy(body, size);
      }
      size = end;
      // The stream takes two more turns to say so.
      if (size === declared) resolve(body.subarray(0, size));
    });
    incoming.once("end", () => resolve(body.subarray(0, size)));
    incoming.once("error", reject);
    incoming.once("close", () => reject(new Error("the connection closed")));
  });
}

const empty = Buffer.alloc(0);
