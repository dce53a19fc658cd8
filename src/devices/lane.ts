// A lane: one device's line. Runs its driver calls one at a time, in the order in which they came, and never waits for ever.
import type { Clock } from "../contract/clock.ts";
import type { Caller } from "../contract/command.ts";
import { ZeusdError, messageOf } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Log } from "../contract/log.ts";
import type { Wakefulness } from "./wakefulness.ts";

export interface LaneParts {
  /** Names the device in the log and in refusals, for example `GPU 0`. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a caller waits for an answer, and how long a driver call may run before the lane counts as stuck, in ms. */
  readonly timeoutMs: number;
  readonly wakefulness: Wakefulness;
}

/** What a lane runs. */
export interface Work {
  /** The operation's wire name. */
  readonly name: string;
  call(): Promise<Values>;
}

interface Entry extends Work {
  /** Absent where nobody waits: such a command has no deadline. */
  readonly caller: Caller | undefined;
  readonly resolve: (values: Values) => void;
  readonly reject: (error: unknown) => void;
  /** When its call began, in ms. */
  beganMs: number;
  /** Whether its caller has been answered while its call goes on. */
  answered: boolean;
}

/** How many commands may wait in one lane. */
export const capacity = 1024;

export class Lane {
  readonly #parts: LaneParts;
  readonly #waiting: Entry[] = [];
  /** How long each operation takes here, in ms. */
  readonly #usualMs = new Map<string, number>();
  #running: Entry | undefined;
  /** Whether the running call has passed its time: nothing waits then, and nothing is taken. */
  #stuck = false;
  #watchedUntilMs = Infinity;
  #cancelWatch = (): void => {};
  #whenIdle: (() => void)[] = [];

  constructor(parts: LaneParts) {
    this.#parts = parts;
  }

  /** Why nothing can be queued now: the lane is stuck or full. */
  refusal(): ZeusdError | undefined {
    if (this.#stuck) return this.#stuckError();
    if (this.#waiting.length < capacity) return undefined;
    return new ZeusdError("queue_full", `${capacity} commands are waiting for ${this.#parts.name}; try again later`);
  }

  /**
   * Runs `work` when everything before it has ended, and passes its outcome on. Throws `lane_stuck` or `queue_full` at once;
   * `deadline` when the caller has waited for long enough, whereupon work that had not begun is dropped.
   */
  run(work: Work, caller?: Caller): Promise<Values> {
    const refusal = this.refusal();
    if (refusal) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      const { name, call } = work;
      const entry: Entry = { name, call, caller, resolve, reject, beganMs: 0, answered: false };
      this.#waiting.push(entry);
      if (!this.#running) this.#next();
      else if (caller) this.#watchUntil(caller.arrivedMs + this.#parts.timeoutMs);
    });
  }

  /** Refuses all that waits. A call that runs goes on, and its caller still gets its answer. */
  refuseWaiting(error: ZeusdError): void {
    for (const entry of this.#waiting.splice(0)) entry.reject(error);
  }

  /** Refuses all that waits, and answers the caller of the running call with the same error. */
  refuseAll(error: ZeusdError): void {
    this.refuseWaiting(error);
    if (this.#running) answerEarly(this.#running, error);
  }

  /** What runs now and since when, for example `set_power_limit on GPU 0 (3.2 s)`. */
  running(): string | undefined {
    if (!this.#running) return undefined;
    const { name, beganMs } = this.#running;
    return `${name} on ${this.#parts.name} (${seconds(this.#parts.clock.monotonicMs() - beganMs)} s)`;
  }

  /** Settles when nothing runs and nothing waits. */
  idle(): Promise<void> {
    if (!this.#running) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  #start(entry: Entry): void {
    const { clock, timeoutMs, wakefulness } = this.#parts;
    this.#running = entry;
    entry.beganMs = clock.monotonicMs();
    this.#watchUntil(entry.beganMs + timeoutMs);
    if (entry.caller) this.#watchUntil(entry.caller.arrivedMs + timeoutMs);
    wakefulness.began(this.#usualMs.get(entry.name));
    entry.call().then(
      (values) => this.#end(entry, values, undefined),
      (error: unknown) => this.#end(entry, undefined, error),
    );
  }

  /** The next call begins before the outcome is told: the driver shall not wait for us. */
  #end(entry: Entry, values: Values | undefined, error: unknown): void {
    const { clock, wakefulness } = this.#parts;
    const tookMs = clock.monotonicMs() - entry.beganMs;
    const usualMs = this.#usualMs.get(entry.name) ?? tookMs;
    // A loop that slept too long makes a call look slow, and the next sleep longer: the quick ones tell the truth.
    this.#usualMs.set(entry.name, usualMs + (tookMs - usualMs) / (tookMs < usualMs ? 2 : 16));
    wakefulness.ended();
    if (this.#stuck || entry.answered) this.#tellLate(entry, tookMs, error);
    this.#stuck = false;
    this.#running = undefined;
    this.#next();
    if (values) entry.resolve(values);
    else entry.reject(error);
  }

  #next(): void {
    for (let entry = this.#waiting.shift(); entry; entry = this.#waiting.shift()) {
      const unwanted = this.#unwanted(entry);
      if (!unwanted) {
        this.#start(entry);
        return;
      }
      entry.reject(unwanted);
    }
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  /** Why a command is not to begin any more. Its time may be up before the timer says so, or before its body has come. */
  #unwanted(entry: Entry): ZeusdError | undefined {
    const { name, clock, log } = this.#parts;
    if (entry.caller?.gone()) {
      log.info(`Dropped ${entry.name} on ${name}: its client has gone before it began`);
      return new ZeusdError("stopping", "The client has gone.");
    }
    return this.#isLate(entry, clock.monotonicMs()) ? this.#droppedError(entry) : undefined;
  }

  /** One timer serves all that runs and waits: nearly always nothing is late, and a timer for each request would cost more. */
  #watchUntil(dueMs: number): void {
    if (dueMs >= this.#watchedUntilMs) return;
    const { clock } = this.#parts;
    this.#cancelWatch();
    this.#watchedUntilMs = dueMs;
    this.#cancelWatch = clock.after(dueMs - clock.monotonicMs(), () => {
      this.#watchedUntilMs = Infinity;
      this.#expire(Math.max(dueMs, clock.monotonicMs()));
    });
  }

  #expire(nowMs: number): void {
    const entry = this.#running;
    if (!entry || this.#stuck) return;
    const { name, timeoutMs } = this.#parts;
    if (entry.beganMs + timeoutMs <= nowMs) this.#becomeStuck(entry);
    if (this.#isLate(entry, nowMs)) {
      const text = `${entry.name} on ${name} has not returned within ${timeoutMs / 1000} s; the driver is still at it`;
      answerEarly(entry, new ZeusdError("deadline", text));
    }
    for (const late of this.#takeWaiting((waiting) => this.#isLate(waiting, nowMs)))
      late.reject(this.#droppedError(late));
    if (!this.#stuck) this.#watchUntil(this.#nextDueMs(entry));
  }

  #droppedError({ name: operation }: Entry): ZeusdError {
    const { name, timeoutMs } = this.#parts;
    const text = `${operation} on ${name} could not begin within ${timeoutMs / 1000} s and was dropped`;
    return new ZeusdError("deadline", text);
  }

  #isLate({ caller, answered }: Entry, nowMs: number): boolean {
    return caller !== undefined && !answered && caller.arrivedMs + this.#parts.timeoutMs <= nowMs;
  }

  #nextDueMs(running: Entry): number {
    const callers = [running, ...this.#waiting].filter(({ answered }) => !answered).map(({ caller }) => caller);
    return Math.min(running.beganMs, ...callers.map((caller) => caller?.arrivedMs ?? Infinity)) + this.#parts.timeoutMs;
  }

  #takeWaiting(wanted: (entry: Entry) => boolean): readonly Entry[] {
    const taken = this.#waiting.filter(wanted);
    if (taken.length === 0) return taken;
    const left = this.#waiting.filter((entry) => !wanted(entry));
    this.#waiting.splice(0, this.#waiting.length, ...left);
    return taken;
  }

  #becomeStuck(entry: Entry): void {
    const { name, log, timeoutMs } = this.#parts;
    this.#stuck = true;
    const count = this.#waiting.length;
    const refused = count === 0 ? "" : `; ${count} commands that waited are refused`;
    log.error(
      `${name} is stuck: ${entry.name} has not returned for ${timeoutMs / 1000} s${refused}, and so is what comes until it does`,
    );
    this.refuseWaiting(this.#stuckError());
  }

  #stuckError(): ZeusdError {
    const { name, clock } = this.#parts;
    const { name: operation = "a call", beganMs = 0 } = this.#running ?? {};
    const since = Math.floor((clock.monotonicMs() - beganMs) / 1000);
    return new ZeusdError(
      "lane_stuck",
      `${name} is stuck: ${operation} has not returned for ${since} s, and until it does nothing else can run`,
    );
  }

  #tellLate({ name: operation }: Entry, tookMs: number, error: unknown): void {
    const { name, log } = this.#parts;
    const outcome = error === undefined ? "with success" : `and failed: ${messageOf(error)}`;
    const again = this.#stuck ? `${name} works again: ` : "";
    log.warn(`${again}${operation} on ${name} returned after ${seconds(tookMs)} s, ${outcome}`);
  }
}

/** Answers the caller of a call that goes on. Its outcome is for the log then. */
function answerEarly(entry: Entry, error: ZeusdError): void {
  entry.answered = true;
  entry.reject(error);
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}
