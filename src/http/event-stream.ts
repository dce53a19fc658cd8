// Power as server-sent events: change-only, with a heartbeat, and the latest value for whoever reads slowly.
import type { GpuStreamFormat } from "../contract/config.ts";
import type { Clock } from "../contract/clock.ts";
import type { Command, Sample } from "../contract/command.ts";
import type { DeviceKind } from "../contract/operations.ts";
import type { Fleet } from "../devices/fleet.ts";
import type { Member } from "../devices/member.ts";
import type { EventSink, EventSource, OpenStream, Reply } from "./message.ts";
import { heartbeat, heartbeatMs, sseHeaders } from "./sse.ts";
import { powerOf } from "./wire/query-style.ts";

export interface PowerStreamsParts {
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly gpuStreamFormat: GpuStreamFormat;
}

/** How long a stream waits for readings of its other devices, in ms: they come together, and one write serves them all. */
const gatherMs = 1;

/** All streams: what they share, which is the moment at which they are written to, and the text of an event. */
export class PowerStreams {
  readonly #parts: PowerStreamsParts;
  readonly #render: Readonly<Record<DeviceKind, Render>>;
  #unsent = new Set<PowerStream>();

  constructor(parts: PowerStreamsParts) {
    this.#parts = parts;
    this.#render = { cpu: renderers.cpu, gpu: parts.gpuStreamFormat === "v2" ? once(renderers.v2) : renderers.v1 };
  }

  /** Throws at once if one of the command's devices is not there; reads nothing before the stream is opened. */
  reply(command: Command, members: readonly Member[], recheck: EventSource["recheck"]): Reply {
    const { fleet, clock } = this.#parts;
    fleet.requireWilling(command, members);
    const render = this.#render[command.row.device];
    const soon = (stream: PowerStream): void => this.#flushSoon(stream);
    return {
      status: 200,
      headers: sseHeaders,
      body: { open: (sink) => new PowerStream({ fleet, clock, members, sink, render, soon }), recheck },
    };
  }

  #flushSoon(stream: PowerStream): void {
    if (this.#unsent.size === 0) this.#parts.clock.after(gatherMs, () => this.#flush());
    this.#unsent.add(stream);
  }

  #flush(): void {
    const streams = this.#unsent;
    this.#unsent = new Set();
    for (const stream of streams) stream.flush();
  }
}

interface PowerStreamParts {
  readonly fleet: Fleet;
  readonly clock: Clock;
  /** What it follows. */
  readonly members: readonly Member[];
  readonly sink: EventSink;
  readonly render: Render;
  /** Has the stream flushed in a moment. */
  readonly soon: (stream: PowerStream) => void;
}

/** One client's stream: what each device last said, and which of that the client has not been sent yet. */
class PowerStream implements OpenStream {
  readonly #sink: EventSink;
  readonly #render: Render;
  readonly #latest = new Map<number, Sample>();
  readonly #unsent = new Set<number>();
  readonly #unfollow: () => void;
  #cancelBeat: () => void;
  #writable = true;
  #closed = false;

  constructor({ fleet, clock, members, sink, render, soon }: PowerStreamParts) {
    this.#sink = sink;
    this.#render = render;
    this.#cancelBeat = clock.after(heartbeatMs, () => this.#beat(clock));
    this.#unfollow = fleet.follow(members, (id, sample) => {
      this.#latest.set(id, sample);
      this.#unsent.add(id);
      if (this.#unsent.size === members.length) this.flush();
      else soon(this);
    });
  }

  drained(): void {
    this.#writable = true;
    this.flush();
  }

  close(): void {
    this.#closed = true;
    this.#cancelBeat();
    this.#unfollow();
  }

  /** Sends the latest of each device that has news, unless the client has not read what came before. */
  flush(): void {
    if (this.#closed || !this.#writable || this.#unsent.size === 0) return;
    let text = "";
    for (const id of this.#unsent) text += this.#render(id, this.#latest);
    this.#unsent.clear();
    this.#writable = this.#sink.send(text);
  }

  #beat(clock: Clock): void {
    if (this.#writable) this.#writable = this.#sink.send(heartbeat);
    this.#cancelBeat = clock.after(heartbeatMs, () => this.#beat(clock));
  }
}

/** The event of a device, given what all of the stream's devices last said. */
type Render = (id: number, latest: ReadonlyMap<number, Sample>) => string;

/**
 * How an event looks. v1 clients replace all they know by `power_mw`, so it holds every device; v2 clients read one
 * device. For CPUs one event serves both; for GPUs it cannot, since v2 has a number where v1 has an object.
 */
const renderers: Readonly<Record<GpuStreamFormat | Extract<DeviceKind, "cpu">, Render>> = {
  v1: (id, latest) => eventOf({ timestamp_ms: latest.get(id)?.timestamp_ms, power_mw: allPower(latest) }),
  v2: (id, latest) => eventOf({ timestamp_ms: latest.get(id)?.timestamp_ms, gpu_id: id, ...latest.get(id)?.values }),
  cpu: (id, latest) =>
    eventOf({
      timestamp_ms: latest.get(id)?.timestamp_ms,
      cpu_id: id,
      ...latest.get(id)?.values,
      power_mw: allPower(latest),
    }),
};

function eventOf(data: object): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

/** The same, where an event depends on its own sample alone: then it is the same for all streams. */
function once(render: Render): Render {
  const texts = new WeakMap<Sample, string>();
  return (id, latest) => {
    const sample = latest.get(id);
    const known = sample && texts.get(sample);
    if (known !== undefined) return known;
    const text = render(id, latest);
    if (sample) texts.set(sample, text);
    return text;
  };
}

function allPower(latest: ReadonlyMap<number, Sample>): object {
  return Object.fromEntries([...latest].map(([id, { values }]) => [id, powerOf(values)]));
}
