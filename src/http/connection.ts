// Replies on bare sockets, where node:http has no request to answer: broken heads and connections beyond the limit.
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { ZeusdError } from "../contract/errors.ts";

/** Answers what node:http could not parse, and closes. Without a status the client is gone already. */
export function answerBrokenRequest(socket: Socket, status: number | undefined, id: string): void {
  if (status !== undefined && socket.writable) socket.write(rawReply(status, "", id));
  socket.destroySoon();
}

/** How long a refused client has to read its reply, in milliseconds. */
const lingerMs = 1_000;

/** Tells a client that there is no room for it. What it sends meanwhile is thrown away, since a reset would lose the reply. */
export function refuseConnection(socket: Socket, id: string): void {
  const error = new ZeusdError("too_many_connections", "Too many connections; close some, or raise --max-connections.");
  socket.removeAllListeners("data");
  socket.on("error", () => socket.destroy());
  socket.end(rawReply(error.status, JSON.stringify({ error: error.message, code: error.code }), id));
  socket.resume();
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
