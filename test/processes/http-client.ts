// Requests to a daemon by its address: the path of a Unix socket, or host:port.
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { connect, type NetConnectOpts, type Socket } from "node:net";
import { onTestFinished, vi } from "vitest";

export interface Asked {
  readonly method?: "GET" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Asks on a connection of its own. Rejects if that is refused or cut. */
export async function request(address: string, target: string, asked: Asked = {}): Promise<Answer> {
  const response = await open(address, target, asked);
  let body = "";
  for await (const part of response.setEncoding("utf8")) body += String(part);
  return { status: response.statusCode ?? 0, headers: response.headers, body };
}

/** The status, or `cut` where there is no answer. Settles in any case, so that it may be awaited late. */
export function statusOrCut(answer: Promise<Answer>): Promise<number | "cut"> {
  return answer.then(
    ({ status }) => status,
    () => "cut",
  );
}

export interface Stream {
  readonly status: number;
  /** What came so far. */
  text(): string;
  /** Settles when something of this length has come. */
  received(characters: number): Promise<void>;
  /** Whether it came to its proper end, or the connection broke. */
  readonly end: Promise<"complete" | "cut">;
}

export async function openStream(address: string, target: string, asked: Asked = {}): Promise<Stream> {
  const response = await open(address, target, asked);
  let text = "";
  response.setEncoding("utf8").on("data", (part: string) => (text += part));
  const end = new Promise<"complete" | "cut">((resolve) => {
    response.once("close", () => resolve(response.complete ? "complete" : "cut")).once("error", () => {});
  });
  onTestFinished(() => void response.destroy());
  return {
    status: response.statusCode ?? 0,
    text: () => text,
    received: (characters) => eventually(() => text.length >= characters),
    end,
  };
}

export interface Connection {
  readonly socket: Socket;
  /** What came so far. */
  text(): string;
  readonly closed: Promise<void>;
}

/** A bare connection, for what no HTTP client does. */
export async function openConnection(address: string): Promise<Connection> {
  const socket = connect(whereTo(address) as NetConnectOpts);
  onTestFinished(() => void socket.destroy());
  let text = "";
  socket.setEncoding("utf8").on("data", (part: string) => (text += part));
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  // From here on a broken connection shows as a closed one.
  socket.on("error", () => {});
  return { socket, text: () => text, closed };
}

/** Looks again and again, for at most 10 s, until it is so. */
export async function eventually(isSo: () => boolean | Promise<boolean>): Promise<void> {
  await vi.waitUntil(isSo, { timeout: 10_000, interval: 5 });
}

function open(address: string, target: string, { method = "GET", headers = {} }: Asked): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const options = { ...whereTo(address), path: target, method, headers, agent: false };
    httpRequest(options, resolve).once("error", reject).end();
  });
}

function whereTo(
  address: string,
): { readonly socketPath: string; readonly path: string } | { host: string; port: number } {
  if (address.startsWith("/")) return { socketPath: address, path: address };
  const [, host = "", port] = /^\[?([^\]]*)\]?:(\d+)$/.exec(address) ?? [];
  return { host, port: Number(port) };
}
