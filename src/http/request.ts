// From node's IncomingMessage to a Request.
import type { IncomingMessage } from "node:http";
import { ZeusdError } from "../contract/errors.ts";
import type { Request } from "./message.ts";
import { parseTarget } from "./target.ts";

export function toRequest(incoming: IncomingMessage, id: string): Request {
  const { path, query } = parseTarget(incoming.url ?? "/");
  return {
    id,
    method: incoming.method ?? "GET",
    path,
    query,
    header(name) {
      const value = incoming.headers[name];
      return Array.isArray(value) ? value[0] : value;
    },
    body: (limit) => readBody(incoming, limit),
  };
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

/** Copies into one buffer that grows: two million chunks of one byte would be as many objects. */
async function collect(incoming: IncomingMessage, limit: number): Promise<Buffer> {
  let body = Buffer.alloc(1024);
  let size = 0;
  // To leave early must not close the connection, which still has to carry the refusal.
  for await (const chunk of incoming.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    const end = size + chunk.length;
    if (end > limit) throw new ZeusdError("body_too_large", `JSON payload has exceeded limit (${limit} bytes).`);
    if (end > body.length) body = Buffer.concat([body], Math.min(limit, 2 * end));
    chunk.copy(body, size);
    size = end;
  }
  return body.subarray(0, size);
}
