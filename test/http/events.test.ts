// The stream of events: its bytes, its heartbeat, and that a client that reads slowly is told how much it has missed.
import { once } from "node:events";
import { connect } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import { Events, type DaemonEvent } from "../../src/contract/events.ts";
import { eventsReply } from "../../src/http/events.ts";
import type { Reply } from "../../src/http/message.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { serve } from "./served.ts";

const startMs = 1_795_500_000_000;

interface Told {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** The events of a stream's text, as clients parse them; comments are none. */
function eventsOf(text: string): readonly Told[] {
  return [...text.matchAll(/^event: ([^\n]*)\ndata: ([^\n]*)\n\n/gm)].map(([, event = "", data = ""]) => ({
    event,
    data: JSON.parse(data) as Told["data"],
  }));
}

interface Client {
  readonly sent: string[];
  /** What its connection says of each text: whether it can take more. */
  takesMore: boolean;
  readonly told: () => readonly Told[];
  readonly drained: () => void;
  readonly close: () => void;
}

interface World {
  readonly clock: FakeClock;
  readonly events: Events;
  readonly reply: Reply;
  open(): Client;
}

function createWorld(): World {
  const clock = createFakeClock(startMs);
  const events = new Events(() => clock.epochMs());
  const reply = eventsReply({ events, clock }, async () => {});
  const { body } = reply;
  if (typeof body === "string") throw new Error("not a stream");
  const open = (): Client => {
    const sent: string[] = [];
    const client = { sent, takesMore: true, told: () => eventsOf(sent.join("")) };
    const stream = body.open({ send: (text) => (sent.push(text), client.takesMore) });
    return Object.assign(client, { drained: () => stream.drained(), close: () => stream.close() });
  };
  return { clock, events, reply, open };
}

/** An event that is told from others by its number. */
const back = (id: number): DaemonEvent => ({ event: "gpu_back", device: "gpu", id });

function tellMany(events: Events, from: number, count: number): void {
  for (let id = from; id < from + count; id += 1) events.tell(back(id));
}

const idsOf = (told: readonly Told[]): readonly unknown[] => told.map(({ event, data }) => data["id"] ?? event);
const numbers = (from: number, count: number): readonly number[] => Array.from({ length: count }, (_, id) => from + id);

describe("the stream of events", () => {
  it("is one of server-sent events that begins with a comment at once", () => {
    const { reply, open } = createWorld();
    expect(reply).toMatchObject({
      status: 200,
      headers: { "content-type": "text/event-stream", "cache-control": "no-cache" },
    });
    expect(open().sent).toEqual([":\n\n"]);
  });

  it("has each event with its name, when it happened, and the rest of it", async () => {
    const { clock, events, open } = createWorld();
    const client = open();
    await clock.advance(1500);
    events.tell({ event: "drift", gpu: 1, setting: "power_limit", expected: { power_limit_mw: 7 }, found: {} });
    await clock.advance(1);
    events.tell({ event: "gpu_lost", device: "gpu", id: 0, reason: "GPU is lost" });
    expect(client.sent.slice(1)).toEqual([
      `event: drift\ndata: {"timestamp_ms":${startMs + 1500},"gpu":1,"setting":"power_limit","expected":{"power_limit_mw":7},"found":{}}\n\n`,
      `event: gpu_lost\ndata: {"timestamp_ms":${startMs + 1501},"device":"gpu","id":0,"reason":"GPU is lost"}\n\n`,
    ]);
  });

  it("has a lease as everyone may see it, whatever its holder wrote as the reason", () => {
    const { events, open } = createWorld();
    const client = open();
    const lease = {
      lease: 3,
      gpu_ids: [0, 2],
      exclusive: true,
      implicit: false,
      reason: "night\n\nevent: gpu_lost\r\ndata: {}\u2028",
      since_ms: startMs,
      expires_ms: null,
      holder: { uid: 1000, pid: 4321, program: "train.py", sub: null },
    };
    events.tell({ event: "lease_acquired", ...lease });
    events.tell({ event: "lease_ended", ended: "holder_ended", ...lease });
    expect(client.told()).toEqual([
      { event: "lease_acquired", data: { timestamp_ms: startMs, ...lease } },
      { event: "lease_ended", data: { timestamp_ms: startMs, ended: "holder_ended", ...lease } },
    ]);
  });

  it("tells nothing of what was before it", () => {
    const { events, open } = createWorld();
    events.tell(back(1));
    const client = open();
    events.tell(back(2));
    expect(idsOf(client.told())).toEqual([2]);
  });

  it("sends a comment every 15 s, whatever else it sends", async () => {
    const { clock, events, open } = createWorld();
    const client = open();
    await clock.advance(14_999);
    events.tell(back(1));
    expect(client.sent).toHaveLength(2);
    await clock.advance(1);
    expect(client.sent.at(-1)).toBe(":\n\n");
    await clock.advance(30_000);
    expect(client.sent.filter((text) => text === ":\n\n")).toHaveLength(4);
  });

  it("is over for good when it is closed, and leaves no timer behind", async () => {
    const { clock, events, open } = createWorld();
    const [client, slow, other] = [open(), open(), open()];
    slow.takesMore = false;
    tellMany(events, 1, 2);
    for (const one of [client, slow]) one.close();
    expect(clock.pending).toBe(1);
    tellMany(events, 3, 300);
    for (const one of [client, slow]) one.drained();
    await clock.advance(60_000);
    expect(idsOf(client.told())).toEqual([1, 2]);
    expect(idsOf(slow.told())).toEqual([1]);
    expect(other.told()).toHaveLength(302);
    other.close();
    expect(clock.pending).toBe(0);
  });

  it("can be closed because of what it sends", () => {
    const { events, open } = createWorld();
    const [first, second] = [open(), open()];
    const unlisten = events.listen(() => first.close());
    tellMany(events, 1, 2);
    unlisten();
    expect(idsOf(first.told())).toEqual([1]);
    expect(idsOf(second.told())).toEqual([1, 2]);
  });
});

describe("a client that does not read", () => {
  it("is sent nothing, and later in order everything that it waited for", async () => {
    const { clock, events, open } = createWorld();
    const client = open();
    client.takesMore = false;
    tellMany(events, 0, 257);
    await clock.advance(60_000);
    expect(client.sent).toHaveLength(2);
    client.takesMore = true;
    client.drained();
    expect(idsOf(client.told())).toEqual(numbers(0, 257));
    expect(client.told().at(-1)?.data["timestamp_ms"]).toBe(startMs);
    events.tell(back(257));
    expect(idsOf(client.told())).toEqual(numbers(0, 258));
  });

  it("is told at the right place how many it has missed, once it reads again", async () => {
    const { clock, events, open } = createWorld();
    const client = open();
    client.takesMore = false;
    tellMany(events, 0, 1 + 256 + 1000);
    await clock.advance(7000);
    client.takesMore = true;
    client.drained();
    events.tell(back(5000));
    expect(idsOf(client.told())).toEqual([...numbers(0, 257), "lost", 5000]);
    expect(client.sent.join("")).toContain(
      `event: lost\ndata: {"timestamp_ms":${startMs + 7000},"count":1000}\n\nevent: gpu_back\n`,
    );
  });

  it("is told of each gap by itself", () => {
    const { events, open } = createWorld();
    const client = open();
    client.takesMore = false;
    events.tell(back(0));
    for (const missed of [3, 1]) {
      tellMany(events, 1, 256 + missed);
      // What it is sent now is at once too much again.
      client.drained();
    }
    tellMany(events, 1, 256);
    client.takesMore = true;
    client.drained();
    const told = client.told();
    expect(told.filter(({ event }) => event === "lost").map(({ data }) => data["count"])).toEqual([3, 1]);
    expect(told).toHaveLength(1 + 3 * 256 + 2);
  });

  it("that can take more although nothing has happened is sent nothing", () => {
    const client = createWorld().open();
    client.drained();
    expect(client.sent).toEqual([":\n\n"]);
  });

  it("gets its comment again once it reads", async () => {
    const { clock, events, open } = createWorld();
    const client = open();
    client.takesMore = false;
    events.tell(back(1));
    await clock.advance(20_000);
    client.takesMore = true;
    client.drained();
    expect(client.sent).toHaveLength(2);
    await clock.advance(10_000);
    expect(client.sent.at(-1)).toBe(":\n\n");
  });
});

describe("many streams", () => {
  it("get the same text of an event, which is made once", () => {
    const { events, open } = createWorld();
    let read = 0;
    const value = {
      get power_limit_mw() {
        read += 1;
        return 7;
      },
    };
    const clients = Array.from({ length: 64 }, open);
    events.tell({ event: "restored", gpu: 0, setting: "power_limit", value });
    expect(new Set(clients.map(({ sent }) => sent[1])).size).toBe(1);
    expect(clients[63]?.told()).toMatchObject([{ event: "restored", data: { value: { power_limit_mw: 7 } } }]);
    expect(read).toBe(1);
  });

  it("get an event that happens once more with the time of each", async () => {
    const { clock, events, open } = createWorld();
    const client = open();
    const event = back(1);
    events.tell(event);
    await clock.advance(5);
    events.tell(event);
    expect(client.told().map(({ data }) => data["timestamp_ms"])).toEqual([startMs, startMs + 5]);
  });

  it("do not wait for one that is not read", () => {
    const { events, open } = createWorld();
    const [slow, quick] = [open(), open()];
    slow.takesMore = false;
    tellMany(events, 0, 1000);
    expect(idsOf(quick.told())).toEqual(numbers(0, 1000));
    slow.takesMore = true;
    slow.drained();
    expect(idsOf(slow.told())).toEqual([...numbers(0, 257), "lost"]);
  });
});

it("over a socket, what a client did not read and what it is told to have lost are all there was", async () => {
  const events = new Events(() => systemClock.epochMs());
  const { path } = await serve({
    handle: async () => eventsReply({ events, clock: systemClock }, async () => {}),
    refuse: () => ({ status: 500, headers: {}, body: "" }),
  });
  const socket = connect(path);
  onTestFinished(() => void socket.destroy());
  socket.write("GET /events HTTP/1.0\r\n\r\n");
  let text = String(((await once(socket, "data")) as [Buffer])[0]);
  await expect.poll(() => (text += String(socket.read() ?? ""))).toContain(":\n\n");
  socket.pause();
  // Long enough that they do not all fit into the buffers of a socket.
  const reason = "x".repeat(10_000);
  for (let id = 0; id < 2000; id += 1) events.tell({ event: "gpu_lost", device: "gpu", id, reason });
  socket.on("data", (bytes: Buffer) => (text += String(bytes)));
  socket.resume();
  await expect.poll(() => text, { timeout: 10_000 }).toContain("event: lost\n");
  events.tell(back(2000));
  await expect.poll(() => text).toContain("event: gpu_back\n");
  const told = eventsOf(text);
  const lost = told.findIndex(({ event }) => event === "lost");
  expect(idsOf(told)).toEqual([...numbers(0, lost), "lost", 2000]);
  expect(told[lost]?.data["count"]).toBe(2000 - lost);
  expect(lost).toBeGreaterThanOrEqual(256);
});
