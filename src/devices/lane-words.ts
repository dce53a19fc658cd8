// What a lane says of its calls, to callers and to the log.
import { ZeusdError, messageOf } from "../contract/errors.ts";

/** A call, as it is spoken of. */
interface Spoken {
  readonly work: { readonly name: string; readonly harmless?: boolean };
}

export class LaneWords {
  readonly #device: string;
  readonly #limit: string;

  /** `device` is for example `GPU 0`; `timeoutMs` how long a caller waits and a call may take. */
  constructor(device: string, timeoutMs: number) {
    this.#device = device;
    this.#limit = `${timeoutMs / 1000} s`;
  }

  full(capacity: number): ZeusdError {
    return new ZeusdError("queue_full", `${capacity} commands are waiting for ${this.#device}; try again later`);
  }

  dropped({ work }: Spoken): ZeusdError {
    const text = `${work.name} on ${this.#device} could not be done within ${this.#limit} and was dropped before it began`;
    return new ZeusdError("deadline", text);
  }

  /** `when` is how long it was waited for, by default as long as a caller waits. */
  notReturned({ work }: Spoken, when = `within ${this.#limit}`): ZeusdError {
    const text = `${work.name} on ${this.#device} has not returned ${when}`;
    return new ZeusdError("deadline", work.harmless ? text : `${text}; it may still take effect`);
  }

  stuck({ work }: Spoken, forMs: number): ZeusdError {
    const since = Math.floor(forMs / 1000);
    const text = `${this.#device} is stuck: ${work.name} has not returned for ${since} s, and until it does nothing else can run`;
    return new ZeusdError("lane_stuck", text);
  }

  /** For the log, at the moment when a lane becomes stuck. */
  becameStuck({ work }: Spoken): string {
    return `${this.#device} is stuck: ${work.name} has not returned for ${this.#limit}; commands are refused until it does`;
  }

  /** For the log: what became of a call that nobody waited for any longer. */
  returnedLate({ work }: Spoken, tookMs: number, error: unknown, wasStuck: boolean): string {
    const outcome = error === undefined ? "with success" : `and failed: ${messageOf(error)}`;
    const again = wasStuck && error === undefined ? `${this.#device} works again: ` : "";
    return `${again}${work.name} on ${this.#device} returned after ${seconds(tookMs)} s, ${outcome}`;
  }

  /** For the log: commands that had been accepted and are not made. */
  droppedAccepted(count: number, error: ZeusdError): string {
    return `Dropped commands for ${this.#device} that had been accepted, ${count} of them: ${error.message}`;
  }

  /** For example `set_power_limit on GPU 0 (3.2 s)`. */
  running({ work }: Spoken, forMs: number): string {
    return `${work.name} on ${this.#device} (${seconds(forMs)} s)`;
  }
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}
