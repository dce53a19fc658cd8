// The server by itself: time-outs, stopping, and clients that do not read.
import { expect, it } from "vitest";
import { emptyReply, jsonReply, textReply, type EventSink, type Reply } from "../../src/http/message.ts";
import type { HttpServer } from "../../src/http/server.ts";
import { openBare, type BareConnection } from "./bare-connection.ts";
import { serve } from "./served.ts";

interface Opened {
  readonly http: HttpServer;
  open(bytes: string): BareConnection;
}

async function answering(handle: (path: string) => Promise<Reply>): Promise<Opened> {
  const { http, path } = await serve({
    handle: (request) => handle(request.path),
    refuse: (_, { status, code }) => jsonReply(status, { code }),
  });
  return { http, open: (bytes) => openBare(path, bytes) };
}

it("keeps an idle connection for at least 65 s, well over the 5 s of Python's clients (13.2 #6)", async () => {
  const { http } = await answering(async () => emptyReply(200));
  expect(http.server.keepAliveTimeout).toBeGreaterThanOrEqual(65_000);
});

it("gives a head 5 s, a body 30 s and a reader 120 s", async () => {
  const { headersTimeout, requestTimeout, timeout } = (await answering(async () => emptyReply(200))).http.server;
  expect({ headersTimeout, requestTimeout, timeout }).toEqual({
    headersTimeout: 5_000,
    requestTimeout: 30_000,
    timeout: 120_000,
  });
});

it("lets what is running finish when it stops, and refuses what comes after on the same connection with 503", async () => {
  let release = (): void => {};
  const held = new Promise<Reply>((resolve) => {
    release = () => resolve(textReply(200, "done"));
  });
  let asked = 0;
  const { http, open } = await answering(() => {
    asked += 1;
    return held;
  });
  const { socket, text, closed } = open("GET /first HTTP/1.1\r\n\r\n");
  await expect.poll(() => asked).toBe(1);
  const drained = http.drain();
  const received = new Promise((resolve) => http.server.once("request", resolve));
  socket.write("GET /second HTTP/1.1\r\n\r\n");
  await received;
  release();
  await Promise.all([closed, drained]);
  expect(text()).toMatch(
    /^HTTP\/1.1 200 [^]*done[^]*HTTP\/1.1 503 (?=[^]*connection: close)[^]*\{"code":"stopping"\}$/i,
  );
  expect(asked).toBe(1);
});

it("takes nothing more from a stream whose client does not read, and goes on when it does", async () => {
  let sink: EventSink | undefined;
  let drained = 0;
  const stream = { drained: () => void (drained += 1), close: () => {} };
  const body = { open: (opened: EventSink) => ((sink = opened), stream), recheck: async () => {} };
  const { open } = await answering(async () => ({ status: 200, headers: {}, body }));
  const { socket } = open("GET /stream HTTP/1.1\r\n\r\n");
  await expect.poll(() => sink).toBeDefined();
  socket.pause();
  let sent = 0;
  while (sink?.send(`data: ${"x".repeat(1_000)}${sent}\n\n`)) sent += 1;
  expect(sent).toBeLessThan(10_000);
  expect(drained).toBe(0);
  socket.resume();
  await expect.poll(() => drained).toBeGreaterThan(0);
});

it("cuts off a client that leaves its reply unread for too long", async () => {
  const { http, open } = await answering(async () => textReply(200, "x".repeat(10_000_000)));
  http.server.timeout = 100;
  const closed = new Promise<void>((resolve) => {
    http.server.on("connection", (socket) => socket.once("close", () => resolve()));
  });
  const { socket } = open("GET /large HTTP/1.1\r\n\r\n");
  socket.pause();
  await closed;
});
