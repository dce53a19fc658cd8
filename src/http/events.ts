// `GET /events`: what happens to devices and leases, as server-sent events. What a client misses it is told of.
import type { Clock } from "../contract/clock.ts";
import type { DaemonEvent, Events } from "../contract/events.ts";
import type { EventSink, EventSource, OpenStream, Reply } from "./message.ts";
import { heartbeat, heartbeatMs, sseHeaders } from "./sse.ts";

export interface EventsParts {
  readonly events: Events;
  readonly clock: Clock;
}

/** How many events are kept for a client that does not read. */
const mostKept = 256;

export function eventsReply({ events, clock }: EventsParts, recheck: EventSource["recheck"]): Reply {
  return {
    status: 200,
    headers: sseHeaders,
    body: { open: (sink) => new EventStream({ events, clock, sink }), recheck },
  };
}

interface EventStreamParts extends EventsParts {
  readonly sink: EventSink;
}

/** One client's stream. Whether it reads or not, what it gets has no gap that it is not told of. */
class EventStream implements OpenStream {
  readonly #sink: EventSink;
  readonly #clock: Clock;
  readonly #unlisten: () => void;
  #cancelBeat: () => void = () => {};
  #writable = true;
  #closed = false;
  /** What waits for a client that does not read, the oldest first. */
  #kept: string[] = [];
  /** How many came after those, and are lost. */
  #lost = 0;

  constructor({ events, clock, sink }: EventStreamParts) {
    this.#sink = sink;
    this.#clock = clock;
    this.#unlisten = events.listen((event, timestampMs) => this.#tell(textOf(event, timestampMs)));
    // The first byte is what tells the client that whatever happens from here on reaches it.
    this.#beat();
  }

  drained(): void {
    if (this.#closed) return;
    this.#writable = true;
    if (this.#kept.length === 0) return;
    let text = this.#kept.join("");
    if (this.#lost > 0) text += eventText("lost", { timestamp_ms: this.#clock.epochMs(), count: this.#lost });
    this.#kept = [];
    this.#lost = 0;
    this.#send(text);
  }

  close(): void {
    this.#closed = true;
    this.#cancelBeat();
    this.#unlisten();
    this.#kept = [];
  }

  #tell(text: string): void {
    if (this.#writable) this.#send(text);
    else if (this.#kept.length < mostKept) this.#kept.push(text);
    else this.#lost += 1;
  }

  #beat(): void {
    if (this.#writable) this.#send(heartbeat);
    this.#cancelBeat = this.#clock.after(heartbeatMs, () => this.#beat());
  }

  #send(text: string): void {
    this.#writable = this.#sink.send(text);
  }
}

/** Texts by event: every stream sends the same. */
const texts = new WeakMap<DaemonEvent, { readonly timestampMs: number; readonly text: string }>();

function textOf(event: DaemonEvent, timestampMs: number): string {
  const known = texts.get(event);
  if (known?.timestampMs === timestampMs) return known.text;
  const { event: name, ...facts } = event;
  const text = eventText(name, { timestamp_ms: timestampMs, ...facts });
  texts.set(event, { timestampMs, text });
  return text;
}

function eventText(name: string, data: object): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
