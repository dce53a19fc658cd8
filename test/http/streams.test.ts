// Power streams: their bytes in both generations, on every transport, and what happens when clients read slowly or vanish.
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import { PowerStreams } from "../../src/http/event-stream.ts";
import type { DeviceKind } from "../../src/contract/operations.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";
import { startFleetOn } from "./test-fleet.ts";
import { createFakeMachine, type FakeMachine } from "./fake-machine.ts";
import { startOnSocket } from "./socket-daemon.ts";
import { startSubject, transports } from "./subject.ts";

/** The events of a stream's text, as their clients parse them: split at empty lines, one JSON document per data line. */
function eventsOf(text: string): readonly Record<string, unknown>[] {
  return text
    .split("\n\n")
    .filter((event) => event.startsWith("data: "))
    .map((event) => JSON.parse(event.slice("data: ".length)) as Record<string, unknown>);
}

const atLeast = (count: number) => (text: string) => eventsOf(text).length >= count;

describe.each(transports)("a power stream %s", (transport) => {
  it("has the head and the event bytes of 0.5", async () => {
    const zeusd = await startSubject(transport);
    const { status, type, headers, body } = await zeusd.follow("GET /gpu/stream_power?gpu_ids=0,1", atLeast(2));
    expect({ status, type, cache: headers["cache-control"] }).toEqual({
      status: 200,
      type: "text/event-stream",
      cache: "no-cache",
    });
    expect(body).toMatch(
      /^data: \{"timestamp_ms":\d{13},"gpu_id":0,"power_mw":50000\}\n\ndata: \{"timestamp_ms":\d{13},"gpu_id":1,"power_mw":50001\}\n\n$/,
    );
  });

  it("has the event bytes of 0.3 where --gpu-stream-format v1 asks for them (13.2 #24)", async () => {
    const zeusd = await startSubject(transport, { config: { gpuStreamFormat: "v1" } });
    const { body } = await zeusd.follow("GET /gpu/stream_power", atLeast(2));
    expect(body).toMatch(/\ndata: \{"timestamp_ms":\d{13},"power_mw":\{"0":50000,"1":50001\}\}\n\n$/);
  });

  it("has CPU events that clients of both generations read", async () => {
    const zeusd = await startSubject(transport);
    const { body } = await zeusd.follow("GET /cpu/stream_power", atLeast(2));
    const both = { 0: { cpu_mw: 0, dram_mw: 0 }, 1: { cpu_mw: 0, dram_mw: null } };
    // Whether the first event knows of both depends on whether they were read within the same moment.
    const [first, second] = eventsOf(body);
    const ids = [first, second].map((event) => Number(event?.["cpu_id"]));
    expect(ids.toSorted()).toEqual([0, 1]);
    for (const [index, id] of ids.entries()) {
      const own = both[id === 0 ? 0 : 1];
      const event = { timestamp_ms: expect.any(Number), cpu_id: id, ...own, power_mw: { [id]: own } };
      expect([first, second][index]).toMatchObject(event);
    }
    expect(second).toMatchObject({ power_mw: both });
  });
});

interface Opened {
  readonly clock: FakeClock;
  readonly machine: FakeMachine;
  readonly sent: string[];
  /** What the client's connection says of each event: whether it can take more. */
  takesMore: boolean;
  drained(): void;
  close(): void;
}

async function open(device: DeviceKind = "gpu", takesMore = true): Promise<Opened> {
  const clock = createFakeClock();
  const machine = createFakeMachine({ gpus: 1, cpus: 1 });
  const fleet = await startFleetOn(machine, clock, createQuietLog());
  const command = { row: operationOf(`${device}/stream_power`), parameters: {}, block: true };
  const { body } = new PowerStreams({ fleet, clock, gpuStreamFormat: "v2" }).reply(
    command,
    fleet.select(command),
    async () => {},
  );
  if (typeof body === "string") throw new Error("not a stream");
  const sent: string[] = [];
  const opened = { clock, machine, sent, takesMore };
  const stream = body.open({ send: (text) => (sent.push(text), opened.takesMore) });
  return Object.assign(opened, { drained: () => stream.drained(), close: () => stream.close() });
}

const power = (opened: Opened): readonly unknown[] => eventsOf(opened.sent.join("")).map(({ power_mw }) => power_mw);

describe("a power stream", () => {
  it("reads a GPU at once, then every 50 ms, and sends what changed", async () => {
    const opened = await open();
    await opened.clock.advance(1);
    expect(power(opened)).toEqual([50_000]);
    await opened.clock.advance(200);
    expect(opened.machine.calls).toHaveLength(5);
    expect(power(opened)).toEqual([50_000]);
    opened.machine.answer("gpu 0", "getPower", { power_mw: 61_000 });
    await opened.clock.advance(50);
    expect(power(opened)).toEqual([50_000, 61_000]);
  });

  it("sends CPU power after one period, even if it is 0", async () => {
    const opened = await open("cpu");
    await opened.clock.advance(99);
    expect(opened.sent).toEqual([]);
    await opened.clock.advance(1);
    expect(eventsOf(opened.sent.join(""))).toMatchObject([{ cpu_mw: 0, dram_mw: 0 }]);
    opened.machine.answer("cpu 0", "getCumulativeEnergy", {
      cpu_energy_uj: 1_000_000 + 5_000_000,
      dram_energy_uj: 700_000,
    });
    await opened.clock.advance(100);
    expect(eventsOf(opened.sent.join(""))).toMatchObject([{ cpu_mw: 0 }, { cpu_mw: 50_000, dram_mw: 0 }]);
  });

  it("sends a comment every 15 s, which every client ignores (13.2 #2)", async () => {
    const opened = await open();
    await opened.clock.advance(45_000);
    expect(opened.sent.filter((text) => text === ":\n\n")).toHaveLength(3);
    expect(power(opened)).toEqual([50_000]);
  });

  it("keeps only the latest value for a client that reads slowly", async () => {
    const opened = await open("gpu", false);
    await opened.clock.advance(1);
    for (const power_mw of [1000, 2000, 3000]) {
      opened.machine.answer("gpu 0", "getPower", { power_mw });
      await opened.clock.advance(50);
    }
    await opened.clock.advance(60_000);
    expect(opened.sent).toHaveLength(1);
    opened.takesMore = true;
    opened.drained();
    expect(power(opened)).toEqual([50_000, 3000]);
  });

  it("stops reading when its client is gone, and leaves no timer behind (13.2 #2)", async () => {
    const opened = await open();
    await opened.clock.advance(100);
    opened.close();
    await opened.clock.advance(0);
    const calls = opened.machine.calls.length;
    await opened.clock.advance(60_000);
    expect(opened.machine.calls).toHaveLength(calls);
    expect(opened.clock.pending).toBe(0);
  });
});

/** Opens a stream on a bare socket and waits for its first event. */
function openStream(
  path: string,
  version = "1.1",
): Promise<{ readonly vanish: () => void; readonly text: () => string; readonly ended: Promise<void> }> {
  const socket = connect(path);
  let text = "";
  const ended = new Promise<void>((resolve) => {
    socket.once("close", () => resolve());
  });
  socket.write(`GET /gpu/stream_power?gpu_ids=0 HTTP/${version}\r\n\r\n`);
  return new Promise((resolve) => {
    socket.on("data", (data) => {
      text += data.toString();
      if (text.includes("data: ") || text.includes(" 503 "))
        resolve({ vanish: () => socket.destroy(), text: () => text, ended });
    });
  });
}

describe("a stream's connection", () => {
  it("is noticed to be gone within a second, also while nothing changes (13.2 #2)", async () => {
    const machine = createFakeMachine({ gpus: 1 });
    const { path } = await startOnSocket(machine);
    const { vanish } = await openStream(path);
    vanish();
    const gone = performance.now();
    await expect
      .poll(
        async () => {
          const before = machine.calls.length;
          await new Promise((resolve) => {
            setTimeout(resolve, 50);
          });
          return machine.calls.length - before;
        },
        { timeout: 5_000 },
      )
      .toBe(0);
    expect(performance.now() - gone).toBeLessThan(1_000);
  });

  it("ends at once when the daemon stops (13.2 #3)", async () => {
    const { daemon, path } = await startOnSocket(createFakeMachine());
    const { ended, text } = await openStream(path);
    await daemon.drain(4_000);
    await ended;
    expect(text()).toMatch(/\r\n0\r\n\r\n$/);
  });

  it("is closed at the end and not chunked for HTTP/1.0 (13.2 #26)", async () => {
    const { daemon, path } = await startOnSocket(createFakeMachine());
    const { ended, text } = await openStream(path, "1.0");
    await daemon.drain(4_000);
    await ended;
    expect(text()).not.toMatch(/transfer-encoding/i);
    expect(text()).toMatch(/\r\n\r\ndata: \{[^\r]*\}\n\n$/);
  });

  it("is refused with 503 beyond --max-streams, and free again when another ends", async () => {
    const { path } = await startOnSocket(createFakeMachine(), { maxStreams: 1 });
    const first = await openStream(path);
    const second = await openStream(path);
    expect(second.text()).toMatch(/^HTTP\/1.1 503 [^]*"code":"too_many_streams"/);
    first.vanish();
    await expect.poll(async () => (await openStream(path)).text()).toMatch(/^HTTP\/1.1 200 /);
  });
});
