// Power as server-sent events: change-only, with a heartbeat, and the latest value for whoever reads slowly.
import type { GpuStreamFormat } from "../contract/config.ts";
import type { Clock } from "../contract/clock.ts";
import type { Command, Sample } from "../contract/command.ts";
import type { DeviceKind } from "../contract/operations.ts";
import type { Fleet } from "../devices/fleet.ts";
import type { EventSink, OpenStream, Reply } from "./message.ts";
import { powerOf } from "./wire/query-style.ts";

export interface EventStreamParts {
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly gpuStreamFormat: GpuStreamFormat;
}

const headers = { "content-type": "text/event-stream", "cache-control": "no-cache" };

/** A comment that every client ignores. It keeps proxies from closing a quiet stream, and finds clients that are gone. */
const heartbeat = ":\n\n";
const heartbeatMs = 15_000;

/** Throws at once if the command's devices are not there; reads nothing before the stream is opened. */
export function streamPower(parts: EventStreamParts, command: Command): Reply {
  parts.fleet.check(command);
  return { status: 200, headers, body: { open: (sink) => new PowerStream(parts, command, sink) } };
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

  constructor({ fleet, clock, gpuStreamFormat }: EventStreamParts, command: Command, sink: EventSink) {
    this.#sink = sink;
    this.#render = renderers[command.row.device === "cpu" ? "cpu" : gpuStreamFormat];
    this.#cancelBeat = clock.after(heartbeatMs, () => this.#beat(clock));
    this.#unfollow = fleet.follow(command, (id, sample) => {
      this.#latest.set(id, sample);
      this.#unsent.add(id);
      this.#flush();
    });
  }

  drained(): void {
    this.#writable = true;
    this.#flush();
  }

  close(): void {
    this.#cancelBeat();
    this.#unfollow();
  }

  #flush(): void {
    for (const id of this.#unsent) {
      if (!this.#writable) return;
      this.#unsent.delete(id);
      this.#writable = this.#sink.send(`data: ${JSON.stringify(this.#render(id, this.#latest))}\n\n`);
    }
  }

  #beat(clock: Clock): void {
    if (this.#writable) this.#writable = this.#sink.send(heartbeat);
    this.#cancelBeat = clock.after(heartbeatMs, () => this.#beat(clock));
  }
}

type Render = (id: number, latest: ReadonlyMap<number, Sample>) => object;

/**
 * How an event looks. v1 clients replace all they know by `power_mw`, so it holds every device; v2 clients read one
 * device. For CPUs one event serves both; for GPUs it cannot, since v2 has a number where v1 has an object.
 */
const renderers: Readonly<Record<GpuStreamFormat | Extract<DeviceKind, "cpu">, Render>> = {
  v1: (id, latest) => ({ timestamp_ms: latest.get(id)?.timestamp_ms, power_mw: allPower(latest) }),
  v2: (id, latest) => ({ timestamp_ms: latest.get(id)?.timestamp_ms, gpu_id: id, ...latest.get(id)?.values }),
  cpu: (id, latest) => ({
    timestamp_ms: latest.get(id)?.timestamp_ms,
    cpu_id: id,
    ...latest.get(id)?.values,
    power_mw: allPower(latest),
  }),
};

function allPower(latest: ReadonlyMap<number, Sample>): object {
  return Object.fromEntries([...latest].map(([id, { values }]) => [id, powerOf(values)]));
}
