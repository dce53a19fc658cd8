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
  const declared = Number(incoming.headers["content-length"] ?? 0);
  if (declared > limit) {
    throw new ZeusdError(
      "body_too_large",
      `JSON payload (${declared} bytes) is larger than allowed (limit: ${limit} bytes).`,
    );
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limit) throw new ZeusdError("body_too_large", `JSON payload has exceeded limit (${limit} bytes).`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
