// A lane: one device's line. Runs its driver calls one at a time, in the order in which they came, and never waits for ever.
import type { Clock } from "../contract/clock.ts";
import type { Caller } from "../contract/command.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Lease } from "../contract/lease.ts";
import type { Log } from "../contract/log.ts";
import { LaneWords } from "./lane-words.ts";
import { UsualTimes } from "./usual-times.ts";
import type { Wakefulness } from "./wakefulness.ts";
import { Watch } from "./watch.ts";

export interface LaneParts {
  /** Names the device in the log and in refusals, for example `GPU 0`. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a caller waits for an answer, and how long a driver call may run before the lane counts as stuck, in ms. */
  readonly timeoutMs: number;
  readonly wakefulness: Wakefulness;
  /** Hears that a call of this operation has run for so long that the lane is stuck, and that it has returned after all. */
  readonly stuck?: (operation: string) => void;
  readonly back?: (operation: string) => void;
}

/** What a lane runs. */
export interface Work {
  /** The operation's wire name. */
  readonly name: string;
  /** The lease within which it is done. */
  readonly lease?: Lease | undefined;
  /** Whether it changes nothing, so that nobody needs to know whether it takes effect. */
  readonly harmless?: boolean;
  /** Whether it is tried again when it is dropped. */
  readonly comesAgain?: boolean;
  /** Must reject rather than throw. */
  call(): Promise<Values>;
  /** Hears that the call is under way. */
  begun?(): void;
  /** Hears that the call has returned. */
  ended?(error: unknown): void;
  /** Hears that the call will not be made, or is not waited for any longer. May hear it more than once. */
  abandoned?(error: ZeusdError): void;
}

interface Entry {
  readonly work: Work;
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
  readonly #usual = new UsualTimes();
  readonly #words: LaneWords;
  readonly #watch: Watch;
  #running: Entry | undefined;
  /** The running call if it has passed its time: nothing waits then, and nothing is taken. */
  #stuck: Entry | undefined;
  #whenIdle: (() => void)[] = [];

  constructor(parts: LaneParts) {
    this.#parts = parts;
    this.#words = new LaneWords(parts.name, parts.timeoutMs);
    this.#watch = new Watch(parts.clock, (nowMs) => this.#expire(nowMs));
  }

  /** Why nothing can be queued now: the lane is stuck or full. */
  refusal(): ZeusdError | undefined {
    if (this.#stuck) return this.#words.stuck(this.#stuck, this.#ranMs(this.#stuck));
    return this.#waiting.length < capacity ? undefined : this.#words.full(capacity);
  }

  /**
   * Runs `work` when everything before it has ended, and passes its outcome on. Throws `lane_stuck` or `queue_full` at once,
   * `deadline` when the caller has waited for long enough, and `client_gone` when nobody waits any more; work that had not
   * begun is dropped then.
   */
  run(work: Work, caller?: Caller): Promise<Values> {
    const refusal = this.refusal();
    if (refusal) {
      work.abandoned?.(refusal);
      return Promise.reject(refusal);
    }
    return new Promise((resolve, reject) => {
      const entry: Entry = { work, caller, resolve, reject, beganMs: 0, answered: false };
      this.#waiting.push(entry);
      if (!this.#running) this.#next();
      else if (caller) this.#watch.until(caller.arrivedMs + this.#parts.timeoutMs);
    });
  }

  /** Runs `work` before all that waits, however much that is. Throws `lane_stuck`. */
  runFirst(work: Work): Promise<Values> {
    if (this.#stuck) return Promise.reject(this.#words.stuck(this.#stuck, this.#ranMs(this.#stuck)));
    return new Promise((resolve, reject) => {
      this.#waiting.unshift({ work, caller: undefined, resolve, reject, beganMs: 0, answered: false });
      if (!this.#running) this.#next();
    });
  }

  /** Refuses all that waits. A call that runs goes on, and its caller still gets its answer. */
  refuseWaiting(error: ZeusdError): void {
    this.#refuse(this.#waiting.splice(0), error);
  }

  /** Refuses what waits to be done within a lease. */
  refuseOf(lease: Lease, error: ZeusdError): void {
    this.#refuse(
      this.#takeWaiting(({ work }) => work.lease?.number === lease.number),
      error,
    );
  }

  #refuse(dropped: readonly Entry[], error: ZeusdError): void {
    for (const entry of dropped) {
      entry.work.abandoned?.(error);
      // Where nobody waits, the line below says what became of it, once for all of them.
      if (entry.caller) entry.reject(error);
      else entry.resolve({});
    }
    const accepted = dropped.filter(({ caller, work }) => !caller && !work.harmless && !work.comesAgain).length;
    if (accepted > 0) this.#parts.log.warn(this.#words.droppedAccepted(accepted, error));
  }

  /** Refuses all that waits, and answers the caller of the running call, too: whether that takes effect, nobody knows. */
  refuseAll(error: ZeusdError): void {
    // What is put back has no caller, and is what the last moments are for.
    this.#refuse(
      this.#takeWaiting(({ work }) => !work.comesAgain),
      error,
    );
    if (this.#running && !this.#running.work.comesAgain) this.#answerEarly(this.#running, "so far");
  }

  get isIdle(): boolean {
    return !this.#running;
  }

  /** What runs now and since when, for example `set_power_limit on GPU 0 (3.2 s)`. */
  running(): string | undefined {
    return this.#running && this.#words.running(this.#running, this.#ranMs(this.#running));
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
    this.#watch.until(entry.beganMs + timeoutMs);
    if (entry.caller) this.#watch.until(entry.caller.arrivedMs + timeoutMs);
    wakefulness.began(this.#usual.of(entry.work.name));
    entry.work.call().then(
      (values) => this.#end(entry, values, undefined),
      (error: unknown) => this.#end(entry, undefined, error),
    );
    entry.work.begun?.();
  }

  /** The next call begins before the outcome is told: the driver shall not wait for us. */
  #end(entry: Entry, values: Values | undefined, error: unknown): void {
    const { log, wakefulness } = this.#parts;
    const tookMs = this.#ranMs(entry);
    if (!this.#stuck) {
      this.#usual.learn(entry.work.name, tookMs);
      wakefulness.ended();
    }
    if (this.#stuck || entry.answered)
      log.warn(this.#words.returnedLate(entry, tookMs, error, this.#stuck !== undefined));
    const wasStuck = this.#stuck !== undefined;
    this.#stuck = undefined;
    this.#running = undefined;
    this.#next();
    entry.work.ended?.(error);
    if (wasStuck) this.#parts.back?.(entry.work.name);
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
      this.#drop(entry, unwanted);
    }
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  /** Why a command is not to begin any more. Its time may be up before the timer says so, or before its body has come. */
  #unwanted(entry: Entry): ZeusdError | undefined {
    if (!entry.caller) return undefined;
    if (entry.caller.gone()) return new ZeusdError("client_gone", "dropped, since its client had gone");
    const nowMs = this.#parts.clock.monotonicMs();
    // With others waiting, a call that would return too late would only make them late as well.
    const neededMs = this.#waiting.length > 0 ? (this.#usual.of(entry.work.name) ?? 0) : 0;
    return this.#isLate(entry, nowMs + neededMs) ? this.#words.dropped(entry) : undefined;
  }

  #expire(nowMs: number): void {
    const entry = this.#running;
    if (!entry || this.#stuck) return;
    if (entry.beganMs + this.#parts.timeoutMs <= nowMs) this.#becomeStuck(entry);
    if (this.#isLate(entry, nowMs)) this.#answerEarly(entry);
    for (const late of this.#takeWaiting((waiting) => this.#isLate(waiting, nowMs)))
      this.#drop(late, this.#words.dropped(late));
    if (!this.#stuck) this.#watch.until(this.#nextDueMs(entry));
  }

  #ranMs({ beganMs }: Entry): number {
    return this.#parts.clock.monotonicMs() - beganMs;
  }

  #drop({ work, reject }: Entry, error: ZeusdError): void {
    work.abandoned?.(error);
    reject(error);
  }

  /** Answers the caller of a call that goes on, if there is one. Its outcome is for the log then. */
  #answerEarly(entry: Entry, when?: string): void {
    const error = this.#words.notReturned(entry, when);
    if (!entry.caller) {
      entry.work.abandoned?.(error);
      return;
    }
    entry.answered = true;
    this.#drop(entry, error);
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
    const { log, wakefulness } = this.#parts;
    this.#stuck = entry;
    // Nobody knows when it will return: others' calls must not be taken for the second in flight until then.
    wakefulness.ended();
    log.error(this.#words.becameStuck(entry));
    this.#parts.stuck?.(entry.work.name);
    if (!entry.caller) this.#answerEarly(entry);
    this.refuseWaiting(this.#words.stuck(entry, this.#ranMs(entry)));
  }
}
