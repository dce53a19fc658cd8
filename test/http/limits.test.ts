// The server's limits and its HTTP manners, on bare sockets.
import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { createFakeMachine } from "./fake-machine.ts";
import { startOnSocket } from "./socket-daemon.ts";

let path: string;
let calls: readonly string[];

beforeEach(async () => {
  const machine = createFakeMachine();
  ({ calls } = machine);
  ({ path } = await startOnSocket(machine, { maxConnections: 3 }));
});

/** Sends bytes as they are; collects what comes back until the daemon closes, or until `enough`. */
function send(bytes: string, enough: (text: string) => boolean = () => false): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = "";
    const end = (): void => {
      socket.destroy();
      resolve(text);
    };
    socket.on("data", (data) => {
      text += data.toString("latin1");
      if (enough(text)) end();
    });
    socket.on("close", end);
    socket.on("error", reject);
    socket.write(bytes);
  });
}

const replies = (count: number) => (text: string) =>
  (text.match(/HTTP\/1\.1 \d{3}/g)?.length ?? 0) >= count && /\}$|\r\n\r\n$/.test(text);
const closing = "connection: close\r\n";

describe("HTTP manners", () => {
  it("writes lower-case heads without a word on keep-alive, and a request id", async () => {
    const text = await send("GET /time HTTP/1.1\r\n\r\n", replies(1));
    const [head = ""] = text.split("\r\n\r\n");
    const names = head
      .split("\r\n")
      .slice(1)
      .map((line) => line.split(":")[0]);
    expect(names.toSorted()).toEqual(["content-length", "content-type", "date", "x-request-id"]);
  });

  it("answers pipelined requests in their order, skipping bodies", async () => {
    const first = "POST /gpu/reset_locked_clocks?gpu_ids=0&block=true HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
    const text = await send(`${first}GET /time HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n`, replies(3));
    expect(text.match(/HTTP\/1\.1 \d{3}/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 404"]);
    expect(calls).toEqual(["gpu 0 resetGpuLockedClocks {}", "gpu 0 resetMemLockedClocks {}"]);
  });

  it("keeps a connection after a reply, and closes it when asked to", async () => {
    const text = await send(`GET /time HTTP/1.1\r\n\r\nGET /time HTTP/1.1\r\n${closing}\r\n`);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(2);
    expect(text.match(/connection: close/gi)).toHaveLength(1);
  });

  it("closes after a reply to HTTP/1.0, unless that asks to keep the connection", async () => {
    expect(await send("GET /time HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1.1 200 /);
    const kept = "GET /time HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    expect(await send(kept + kept, replies(2))).toMatch(/connection: keep-alive/i);
  });

  it("answers an expectation of 100-continue, and ignores others", async () => {
    const head =
      "POST /gpu/0/reset_gpu_locked_clocks HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 14\r\n";
    expect(await send(`${head}expect: 100-continue\r\n\r\n{"block":true}`, replies(2))).toMatch(
      /^HTTP\/1.1 100 [^]*HTTP\/1.1 200 /,
    );
    expect(await send(`${head}expect: miracles\r\n\r\n{"block":true}`, replies(1))).toMatch(/^HTTP\/1.1 200 /);
  });
});

describe("limits", () => {
  const headers = (count: number): string => Array.from({ length: count }, (_, index) => `h${index}: v\r\n`).join("");

  it("takes 96 headers, and answers 431 to more", async () => {
    expect(await send(`GET /time HTTP/1.1\r\n${headers(96)}\r\n`, replies(1))).toMatch(/^HTTP\/1.1 200 /);
    expect(await send(`GET /time HTTP/1.1\r\n${headers(97)}\r\n`)).toMatch(/^HTTP\/1.1 431 [^]*content-length: 0/);
    expect(await send(`GET /time HTTP/1.1\r\n${headers(2500)}\r\n`)).toMatch(/^HTTP\/1.1 431 /);
  });

  it("answers 431 to a head above 128 KiB, and 400 to a target above 65534 bytes", async () => {
    expect(await send(`GET /time HTTP/1.1\r\nh: ${"x".repeat(128 * 1024)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 431 /);
    expect(await send(`GET /time?${"x".repeat(65_530)} HTTP/1.1\r\n\r\n`)).toMatch(/^HTTP\/1.1 400 /);
    expect(await send(`GET /time?${"x".repeat(65_528)} HTTP/1.1\r\n\r\n`, replies(1))).toMatch(/^HTTP\/1.1 200 /);
  });

  it.each([
    ["a preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ["nonsense", "nonsense\r\n\r\n"],
    ["a content length that is there twice", "GET /time HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n"],
    ["a negative content length", "GET /time HTTP/1.1\r\ncontent-length: -1\r\n\r\n"],
  ])("answers 400 to %s, and closes", async (_, bytes) => {
    expect(await send(bytes)).toMatch(
      /^HTTP\/1.1 400 Bad Request\r\n(?=[^]*content-length: 0)(?=[^]*connection: close)(?=[^]*x-request-id: )/i,
    );
  });

  it("answers 408 to a connection that sends no complete head within 5 s", async () => {
    const started = performance.now();
    const [silent, slow] = await Promise.all([send(""), send("GET /time HTTP/1.1\r\n")]);
    expect(silent).toMatch(/^HTTP\/1.1 408 /);
    expect(slow).toMatch(/^HTTP\/1.1 408 /);
    expect(performance.now() - started).toBeGreaterThan(4_500);
  });

  it("tells no more than 64 of those for whom there is no room why, and cuts off the others", async () => {
    const clients = Array.from({ length: 3 + 64 + 10 }, () => {
      // They do not hang up when they have been told.
      const socket = connect({ path, allowHalfOpen: true });
      onTestFinished(() => void socket.destroy());
      let text = "";
      socket.on("data", (data) => (text += data.toString("latin1"))).on("error", () => {});
      const ended = new Promise<void>((resolve) => socket.once("end", () => resolve()).once("close", () => resolve()));
      return { text: () => text, ended };
    });
    const refused = clients.slice(3);
    await Promise.all(refused.map(({ ended }) => ended));
    expect(refused.filter(({ text }) => text().startsWith("HTTP/1.1 503 "))).toHaveLength(64);
    expect(refused.slice(64).map(({ text }) => text())).toEqual(Array(10).fill(""));
  });

  it("holds one descriptor for each connection for which there is no room, and two for each that it serves", async () => {
    // Both ends are in this process.
    const open = (): number => readdirSync("/proc/self/fd").length;
    const connected = async (): Promise<Socket> => {
      const socket = connect({ path, allowHalfOpen: true });
      onTestFinished(() => void socket.destroy());
      await new Promise((resolve) => socket.on("data", () => {}).once("connect", resolve));
      return socket;
    };
    const before = open();
    for (let count = 0; count < 3; count += 1) await connected();
    await expect.poll(() => open() - before).toBe(3 * 3);
    const refused = await Promise.all(Array.from({ length: 20 }, connected));
    await Promise.all(refused.map((socket) => new Promise((resolve) => socket.once("end", resolve))));
    expect(open() - before).toBe(3 * 3 + 20 * 2);
  });

  it("answers 503 beyond --max-connections, and has room again when one closes", async () => {
    const held = Array.from({ length: 3 }, () => connect(path));
    await Promise.all(held.map((socket) => new Promise((resolve) => socket.once("connect", resolve))));
    const refused = await send("GET /time HTTP/1.1\r\n\r\n");
    expect(refused).toMatch(/^HTTP\/1.1 503 (?=[^]*retry-after: 1)[^]*"code":"too_many_connections"/);
    held[0]?.destroy();
    await expect.poll(() => send("GET /time HTTP/1.1\r\n\r\n", replies(1))).toMatch(/^HTTP\/1.1 200 /);
    for (const socket of held) socket.destroy();
  });
});
