// What clients with bad intentions send: nobody else may notice, nothing may run that was refused, nothing may be kept.
import { beforeEach, describe, expect, it } from "vitest";
import type { Daemon } from "../../src/daemon.ts";
import { parseFlatJson } from "../../src/http/wire/flat-json.ts";
import { openBare, type BareConnection } from "./bare-connection.ts";
import { createFakeMachine, type FakeMachine } from "./fake-machine.ts";
import { startOnSocket } from "./socket-daemon.ts";

let path: string;
let daemon: Daemon;
let machine: FakeMachine;
let logged: readonly string[];

beforeEach(async () => {
  machine = createFakeMachine();
  ({ path, daemon, logged } = await startOnSocket(machine, { maxConnections: 8, maxStreams: 8 }));
});

const open = (bytes: string): BareConnection => openBare(path, bytes);

const time = "GET /time HTTP/1.1\r\n\r\n";
const write = "POST /gpu/reset_locked_clocks?gpu_ids=0&block=true HTTP/1.1\r\n";

async function expectServing(): Promise<void> {
  const { text, socket } = open(time);
  await expect.poll(text).toMatch(/^HTTP\/1.1 200 /);
  socket.destroy();
}

describe("a client", () => {
  it("that asks for a tunnel and hangs up does no harm", async () => {
    for (let count = 0; count < 20; count += 1) {
      const { socket, closed } = open("CONNECT x:1 HTTP/1.1\r\n\r\n");
      socket.destroy();
      await closed;
    }
    await expectServing();
  });

  it("that asks for a tunnel gets its earlier reply first", async () => {
    const release = machine.hold("gpu 0", "getPower", { power_mw: 1 });
    const { text, closed } = open("GET /gpu/get_power?gpu_ids=0 HTTP/1.1\r\n\r\nCONNECT x:1 HTTP/1.1\r\n\r\n");
    await expect.poll(() => machine.calls.length).toBe(1);
    release();
    await closed;
    expect(text()).toMatch(/^HTTP\/1.1 200 [^]*HTTP\/1.1 404 /);
  });

  it("that sends hundreds of requests and reads nothing is cut off", async () => {
    const { closed } = open(time.repeat(5_000));
    await closed;
    await expectServing();
  });

  it("that asks for many streams behind another reply takes no slot for good", async () => {
    const release = machine.hold("gpu 0", "getPower", { power_mw: 1 });
    const { socket, closed } = open(
      `GET /gpu/get_power?gpu_ids=0 HTTP/1.1\r\n\r\n${"GET /gpu/stream_power?gpu_ids=1 HTTP/1.1\r\n\r\n".repeat(8)}`,
    );
    await expect.poll(() => machine.calls.some((call) => call.startsWith("gpu 1 getPower"))).toBe(true);
    socket.destroy();
    await closed;
    release();
    for (let count = 0; count < 7; count += 1) {
      const { text } = open("GET /gpu/stream_power?gpu_ids=1 HTTP/1.1\r\n\r\n");
      await expect.poll(text).toMatch(/^HTTP\/1.1 200 /);
    }
  });

  it("for whom there is no room has nothing run for it", async () => {
    const held = Array.from({ length: 8 }, () => open(time));
    for (const { text } of held) await expect.poll(text).toMatch(/^HTTP\/1.1 200 /);
    const { text, closed, socket } = open(`${write}\r\n`);
    await expect.poll(text).toMatch(/^HTTP\/1.1 503 /);
    socket.write(`${write}\r\n`);
    await closed;
    expect(machine.calls).toEqual([]);
  });

  it("that leaves streams unread neither stops the end of the daemon nor the writes that were accepted", async () => {
    let power_mw = 0;
    machine.answer("gpu 0", "getPower", async () => ({ power_mw: (power_mw += 1) }));
    const { socket } = open("GET /gpu/stream_power?gpu_ids=0 HTTP/1.1\r\n\r\n".repeat(3));
    socket.pause();
    await expect.poll(() => power_mw).toBeGreaterThan(5);
    for (let count = 0; count < 5; count += 1) {
      const { text } = open(
        "POST /gpu/reset_locked_clocks?gpu_ids=1&block=false HTTP/1.1\r\nconnection: close\r\n\r\n",
      );
      await expect.poll(text).toMatch(/^HTTP\/1.1 200 /);
    }
    await daemon.drain(4_000);
    expect(machine.calls.filter((call) => call.startsWith("gpu 1 reset"))).toEqual(
      Array.from({ length: 5 }, () => ["gpu 1 resetGpuLockedClocks {}", "gpu 1 resetMemLockedClocks {}"]).flat(),
    );
    expect(logged.filter((line) => line.startsWith("error"))).toEqual([]);
  });

  it("that sends half a request, or nothing, does not hold up the end of the daemon", async () => {
    const head =
      "POST /gpu/0/set_power_limit HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    const clients = [open(head), open("GET /ti"), open("")];
    await expectServing();
    const began = performance.now();
    await daemon.drain(4_000);
    expect(performance.now() - began).toBeLessThan(1_000);
    await Promise.all(clients.map(({ closed }) => closed));
  });

  it("that breaks off its body writes no error into the log", async () => {
    const head =
      "POST /gpu/0/set_power_limit HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    for (let count = 0; count < 10; count += 1) {
      const { socket, closed } = open(head);
      await new Promise((resolve) => socket.once("connect", resolve));
      socket.destroy();
      await closed;
    }
    await expectServing();
    expect(logged.filter((line) => /^(error|warn)/.test(line))).toEqual([]);
  });

  it("whose accepted writes fail again and again fills no log", async () => {
    machine.answer("gpu 0", "resetGpuLockedClocks", new Error("no"));
    for (let count = 0; count < 30; count += 1) {
      const { text } = open(
        "POST /gpu/reset_locked_clocks?gpu_ids=0&block=false HTTP/1.1\r\nconnection: close\r\n\r\n",
      );
      await expect.poll(text).toMatch(/^HTTP\/1.1 200 /);
    }
    expect(logged.filter((line) => line.includes("failed after its reply"))).toHaveLength(1);
  });

  it.each(["gzip", "identity", "x", "chunked, x"])(
    "whose body has the encoding %s, of unknown end, has nothing run",
    async (encoding) => {
      const { text, closed } = open(`${write}transfer-encoding: ${encoding}\r\n\r\n`);
      await closed;
      expect(text().match(/HTTP\/1.1 \d{3}/g)).toEqual(["HTTP/1.1 400"]);
      expect(machine.calls).toEqual([]);
    },
  );

  it("whose body nobody reads gets the reply to what was run, though the body is broken", async () => {
    const { text, closed } = open(`${write}transfer-encoding: chunked\r\n\r\nzz\r\n`);
    await closed;
    expect(text().match(/HTTP\/1.1 \d{3}/g)).toEqual(["HTTP/1.1 200"]);
    expect(machine.calls).toEqual(["gpu 0 resetGpuLockedClocks {}", "gpu 0 resetMemLockedClocks {}"]);
  });

  it.each(["HTTP/0.9", "HTTP/2.0"])("that speaks %s is refused", async (version) => {
    const { text, closed } = open(`GET /time ${version}\r\n\r\n`);
    await closed;
    expect(text()).toMatch(/^HTTP\/1.1 400 /);
  });

  it("that sends nonsense after a request gets the reply to the request first", async () => {
    const release = machine.hold("gpu 0", "getPower", { power_mw: 1 });
    const { text, closed } = open(`GET /gpu/get_power?gpu_ids=0 HTTP/1.1\r\n\r\n${time}GET\r\n\r\n`);
    await expect.poll(() => machine.calls.length).toBe(1);
    release();
    await closed;
    expect(text().match(/HTTP\/1.1 \d{3}/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 400"]);
  });

  it("that sends more after it asked to close gets its reply", async () => {
    const { text, closed } = open(`GET /time HTTP/1.1\r\nconnection: close\r\n\r\n${time}`);
    await closed;
    expect(text()).toMatch(/^HTTP\/1.1 200 [^]*"timestamp_ms"/);
  });

  it("that sends a body whose chunks are broken is told so", async () => {
    const head =
      "POST /gpu/0/set_power_limit HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    const { text, closed } = open(`${head}zz\r\n`);
    await closed;
    expect(text()).toMatch(/^HTTP\/1.1 400 /);
    expect(machine.calls).toEqual([]);
  });
});

it.each([
  ["a million values", `[${"1,".repeat(1_000_000)}1]`],
  ["a million levels", "[".repeat(1_000_000) + "]".repeat(1_000_000)],
  ["a hundred thousand keys", `{${Array.from({ length: 100_000 }, (_, index) => `"${index}":1`).join()}}`],
])("a body of %s is refused before anyone has to wait for it", (_, body) => {
  expect(() => parseFlatJson(body)).toThrow("too many values");
});
