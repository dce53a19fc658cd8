// The audit: one line for each write on each GPU and for each refusal, with who asked, what for, and what came of it.
import type { Clock } from "../contract/clock.ts";
import type { Command, Witness } from "../contract/command.ts";
import { messageOf, ZeusdError } from "../contract/errors.ts";
import type { Health } from "../contract/health.ts";
import type { Lease } from "../contract/lease.ts";
import type { Log } from "../contract/log.ts";
import type { Target } from "../contract/target.ts";
import { actorKey } from "./actor.ts";
import type { Asking } from "./asking.ts";
import { beginningLine, endingLine, refusalLine, type AuditLine } from "./audit-line.ts";
import type { Rule } from "./policy.ts";
import { RateLimiter } from "./rate.ts";

/** Where lines go: a file, or the system's journal. */
export interface AuditSink {
  /** Takes lines without their ends, all of them and whole. Throws an Error with the reason if it cannot. */
  append(lines: readonly string[]): void;
  /** Goes on in a new file if the old one was moved away. Throws if it cannot, and then goes on as before. */
  reopen(): void;
  /** Lets go, after a moment for what it still holds. */
  close(): void;
  /** How many lines it has taken and not handed on yet; absent where it never holds any. */
  readonly held?: number;
}

export interface AuditParts {
  readonly sink: AuditSink;
  readonly clock: Clock;
  readonly log: Log;
  readonly health: Health;
  /** Whether what cannot be written down must not happen. */
  readonly required: boolean;
}

/** What the audit says of itself. */
interface Notice {
  readonly time: string;
  readonly event: "refusals_omitted" | "lines_lost";
  readonly actor?: string;
  readonly count: number | undefined;
}

/**
 * How long lines wait for each other, in ms: a timer and a write take longer than all else in a request, and for many lines
 * hardly longer than for one.
 */
const gatherMs = 20;

/** How many refusals of one actor are written down: to be refused costs nothing, and must not fill a disk. */
const refusalRate = { writesPerSecond: 10, burst: 100 };

/** How long refusals that are over that are counted before their number is written down, in ms. */
const countMs = 10_000;

export class Audit {
  readonly #parts: AuditParts;
  readonly #limiter: RateLimiter;
  readonly #waiting: (() => AuditLine | Notice)[] = [];
  /** Refusals that were not written down, by actor. */
  readonly #omitted = new Map<string, number>();
  /** Lines that could not be written since the last one that could. */
  #lost = 0;

  constructor(parts: AuditParts) {
    this.#parts = parts;
    this.#limiter = new RateLimiter(parts.clock);
  }

  /**
   * Where nothing may happen that is not written down: writes down that a write is about to be made. Throws
   * `audit_unavailable` if that cannot be done.
   */
  begin(asking: Asking, command: Command, targets: readonly Target[]): void {
    if (!this.#parts.required) return;
    this.#write(() => beginningLine(this.#timeOf(this.#parts.clock.monotonicMs()), asking, command, targets));
    this.flush();
    if (this.#lost === 0 && !this.#parts.sink.held) return;
    const text = "The audit log cannot be written, and nothing may be changed without it.";
    throw new ZeusdError("audit_unavailable", text);
  }

  /** Writes down how a write ends on each of its devices, given what allowed it and within which leases it is made, by device. */
  witness(
    asking: Asking,
    command: Command,
    rules: ReadonlyMap<number, Rule>,
    leases: ReadonlyMap<number, Lease> | undefined,
  ): Witness {
    askForName(asking);
    return {
      ended: (ending, readBack) => {
        const { id } = ending.target;
        const terms = { rule: rules.get(id)?.name, lease: leases?.get(id)?.number };
        this.#write(() => endingLine(this.#timeOf(ending.endedMs), asking, command, terms, ending, readBack));
      },
    };
  }

  /** Writes down what was refused before it reached a device; `command` is absent where it was not even read. */
  refused(asking: Asking, operation: string | undefined, command: Command | undefined, error: unknown): void {
    const { address } = asking.request;
    const known = actorKey(asking.actor);
    const key = known === "" && address !== undefined ? `addresses ${blockOf(address)}` : known;
    // Who can be told by an address alone may have many: together they have one share more.
    const shares = known === "" ? [key, "addresses"] : [key];
    if (shares.some((share) => this.#limiter.waitMs(share, 1, refusalRate) > 0)) {
      this.#count(key);
      return;
    }
    for (const share of shares) this.#limiter.take(share, 1, refusalRate);
    askForName(asking);
    const nowMs = this.#parts.clock.monotonicMs();
    this.#write(() => refusalLine(this.#timeOf(nowMs), asking, operation, command, error, nowMs));
  }

  /** Goes on in a new file if the old one was moved away. */
  reopen(): void {
    const { sink, health, log } = this.#parts;
    this.flush();
    try {
      sink.reopen();
      health.report("audit_reopen");
    } catch (error) {
      health.report("audit_reopen", "The audit log could not be opened again; the file that was open is in use.");
      log.error(`The audit log could not be opened again, and goes on in the file that was open: ${messageOf(error)}`);
    }
  }

  /** The time of day of a moment, for example `2026-01-31T12:00:00.000Z`. */
  #timeOf(monotonicMs: number): string {
    const { clock } = this.#parts;
    return new Date(clock.epochMs() - (clock.monotonicMs() - monotonicMs)).toISOString();
  }

  #count(key: string): void {
    const before = this.#omitted.get(key);
    this.#omitted.set(key, (before ?? 0) + 1);
    if (before !== undefined) return;
    this.#parts.clock.after(countMs, () => {
      this.#tellOmitted(key);
    });
  }

  #tellOmitted(key: string): void {
    const count = this.#omitted.get(key);
    if (count === undefined) return;
    this.#omitted.delete(key);
    const time = this.#timeOf(this.#parts.clock.monotonicMs());
    this.#write(() => ({ time, event: "refusals_omitted", actor: key, count }));
  }

  #write(line: () => AuditLine | Notice): void {
    if (this.#waiting.push(line) === 1) this.#parts.clock.after(gatherMs, () => this.flush());
  }

  /** Writes down what is waiting to be. */
  flush(): void {
    const lines = this.#waiting.splice(0).map((line) => JSON.stringify(line()).replace(unseen, escape));
    if (lines.length > 0 && (this.#lost === 0 || this.#tellLost())) this.#append(lines);
    else this.#lost += lines.length;
  }

  close(): void {
    for (const key of this.#omitted.keys()) this.#tellOmitted(key);
    this.flush();
    const { sink, log } = this.#parts;
    sink.close();
    if (sink.held) log.error(`The audit log has not taken ${sink.held} lines, which are lost`);
  }

  #append(lines: readonly string[]): void {
    const { sink, health, log } = this.#parts;
    try {
      sink.append(lines);
    } catch (error) {
      log.error(`The audit log cannot be written: ${messageOf(error)}`);
      health.report("audit", "The audit log cannot be written.");
      this.#lost += lines.length;
    }
  }

  /** After lines were lost: tries to say how many, and is as good as new if that works. */
  #tellLost(): boolean {
    const { sink, health, log, clock } = this.#parts;
    const time = this.#timeOf(clock.monotonicMs());
    try {
      sink.append([JSON.stringify({ time, event: "lines_lost", count: this.#lost })]);
    } catch {
      return false;
    }
    log.warn(`The audit log can be written again; ${this.#lost} lines were lost`);
    health.report("audit");
    this.#lost = 0;
    return true;
  }
}

/** The peer remembers what it calls itself: by the time that a line is written it may have ended. */
function askForName({ actor }: Asking): void {
  actor.peer?.program();
}

/** What JSON leaves as it is, and a terminal does not: controls, and what turns the direction of a text. */
const unseen = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

function escape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** Addresses that one host can take at will: all of loopback, and a network of IPv6. */
function blockOf(address: string): string {
  const bare = address.replace(/^::ffff:(?=\d+\.)/, "");
  if (bare.startsWith("127.") || bare === "::1") return "loopback";
  return bare.includes(":") ? bare.split(":").slice(0, 4).join(":") : bare;
}
