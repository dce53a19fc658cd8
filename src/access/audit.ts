// The audit: one line for each write on each GPU and for each refusal, with who asked, what for, and what came of it.
import type { Clock } from "../contract/clock.ts";
import type { Command, Ending, Known, ReadBack, Witness } from "../contract/command.ts";
import { messageOf, ZeusdError } from "../contract/errors.ts";
import type { Health } from "../contract/health.ts";
import type { Log } from "../contract/log.ts";
import { actorKey, type Actor } from "./actor.ts";
import { RateLimiter } from "./rate.ts";

/** Where lines go: a file, or the system's journal. */
export interface AuditSink {
  /** Takes a line without its end, whole. Throws an Error with the reason if it cannot. */
  append(line: string): void;
  /** Goes on in a new file if the old one was moved away. Throws if it cannot, and then goes on as before. */
  reopen(): void;
}

export interface AuditParts {
  readonly sink: AuditSink;
  readonly clock: Clock;
  readonly log: Log;
  readonly health: Health;
  /** Whether what cannot be written down must not happen. */
  readonly required: boolean;
}

/** A request, and whose it is. */
export interface Asking {
  readonly request: {
    readonly id: string;
    readonly arrivedMs: number;
    readonly method: string;
    readonly path: string;
    /** Where it came from over TCP. */
    readonly address?: string | undefined;
  };
  readonly actor: Actor;
}

/** A refusal of the policy, with the rule that says no, if one does. */
export class RuleRefusal extends ZeusdError {
  readonly rule: string | undefined;

  constructor(code: "forbidden" | "rate_limited", message: string, rule: string | undefined, retryAfterS?: number) {
    super(code, message, retryAfterS === undefined ? {} : { retryAfterS });
    this.rule = rule;
  }
}

/** How many refusals of one actor are written down: to be refused costs nothing, and must not fill a disk. */
const refusalRate = { writesPerSecond: 10, burst: 100 };

/** How long refusals that are over that are counted before their number is written down, in ms. */
const countMs = 10_000;

export class Audit {
  readonly #parts: AuditParts;
  readonly #limiter: RateLimiter;
  /** Refusals that were not written down, by actor. */
  readonly #omitted = new Map<string, number>();
  /** Lines that could not be written since the last one that could. */
  #lost = 0;

  constructor(parts: AuditParts) {
    this.#parts = parts;
    this.#limiter = new RateLimiter(parts.clock);
  }

  /** Why no write may be made now: it could not be written down. Tries whether that is still so. */
  refusal(): ZeusdError | undefined {
    if (!this.#parts.required || this.#lost === 0 || this.#tellLost()) return undefined;
    return new ZeusdError(
      "audit_unavailable",
      "The audit log cannot be written, and nothing may be changed without it.",
    );
  }

  /** Writes down how a write ends on each of its devices; `rules` are those that allowed it, by device. */
  witness(asking: Asking, command: Command, rules: ReadonlyMap<number, string>): Witness {
    // Who asked is read now: by the time that the last line is written the process may have ended.
    const who = whoIs(asking);
    return { ended: (ending) => this.#ended(who, asking, command, ending, rules.get(ending.target.id)) };
  }

  /** Writes down what was refused before it reached a device; `command` is absent where it was not even read. */
  refused(asking: Asking, operation: string | undefined, command: Command | undefined, error: unknown): void {
    const key = asking.request.address ?? actorKey(asking.actor);
    if (this.#limiter.waitMs(key, 1, refusalRate) > 0) {
      this.#count(key);
      return;
    }
    this.#limiter.take(key, 1, refusalRate);
    const { method, path, arrivedMs } = asking.request;
    this.#write({
      time: this.#timeOf(this.#parts.clock.monotonicMs()),
      ...whoIs(asking),
      ...(operation === undefined ? { request: `${method} ${path.slice(0, longestPath)}` } : { operation }),
      ...(command ? { [`${command.row.device}s`]: command.devices ?? "all", asked: command.parameters } : {}),
      ...(command?.dryRun ? { dry_run: true } : {}),
      ...(error instanceof RuleRefusal ? { rule: error.rule } : {}),
      ...outcomeOf(error),
      duration_ms: rounded(this.#parts.clock.monotonicMs() - arrivedMs),
    });
  }

  /** Goes on in a new file if the old one was moved away. */
  reopen(): void {
    const { sink, health, log } = this.#parts;
    try {
      sink.reopen();
      health.report("audit_reopen");
    } catch (error) {
      health.report("audit_reopen", "The audit log could not be opened again; the file that was open is in use.");
      log.error(`The audit log could not be opened again, and goes on in the file that was open: ${messageOf(error)}`);
    }
  }

  #ended(who: object, { request }: Asking, { row, parameters, block }: Command, ending: Ending, rule?: string): void {
    const { target, before, error, late, readBack, endedMs } = ending;
    this.#write({
      time: this.#timeOf(endedMs),
      ...who,
      operation: row.name,
      [target.kind]: target.id,
      ...(target.uuid ? { uuid: target.uuid } : {}),
      asked: parameters,
      block,
      before,
      ...(readBack ? readBackOf(readBack) : {}),
      ...(rule === undefined ? {} : { rule }),
      ...(error === undefined ? { outcome: "ok" } : outcomeOf(error)),
      ...(late ? { late } : {}),
      duration_ms: rounded(endedMs - request.arrivedMs),
    });
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
      this.#write({
        time: this.#timeOf(this.#parts.clock.monotonicMs()),
        event: "refusals_omitted",
        actor: key,
        count: this.#omitted.get(key),
      });
      this.#omitted.delete(key);
    });
  }

  #write(line: Readonly<Record<string, unknown>>): void {
    if (this.#lost > 0 && !this.#tellLost()) {
      this.#lost += 1;
      return;
    }
    this.#append(JSON.stringify(line));
  }

  #append(line: string): boolean {
    const { sink, health, log } = this.#parts;
    try {
      sink.append(line);
      return true;
    } catch (error) {
      if (this.#lost === 0) log.error(`The audit log cannot be written: ${messageOf(error)}`);
      health.report("audit", "The audit log cannot be written.");
      this.#lost += 1;
      return false;
    }
  }

  /** After lines were lost: tries to say how many, and is as good as new if that works. */
  #tellLost(): boolean {
    const { sink, health, log, clock } = this.#parts;
    const time = this.#timeOf(clock.monotonicMs());
    try {
      sink.append(JSON.stringify({ time, event: "lines_lost", count: this.#lost }));
    } catch {
      return false;
    }
    log.warn(`The audit log can be written again; ${this.#lost} lines were lost`);
    health.report("audit");
    this.#lost = 0;
    return true;
  }
}

function whoIs({ request: { id, address }, actor: { peer, claims } }: Asking): object {
  return {
    request_id: id,
    ...(peer ? { uid: peer.uid, pid: peer.pid, program: peer.program() } : {}),
    ...(address === undefined ? {} : { address }),
    ...(claims ? { sub: claims.sub, jti: claims.jti } : {}),
  };
}

/** The most of a path that is written down: it may be as long as a head can be. */
const longestPath = 200;

function outcomeOf(error: unknown): Readonly<Record<string, unknown>> {
  const outcome = error instanceof ZeusdError ? error.code : "internal";
  return { outcome, message: messageOf(error) };
}

function readBackOf(readBack: ReadBack): Readonly<Record<string, unknown>> {
  const { kind } = readBack;
  if (kind === "done")
    return { after: readBack.set, ...(isEmpty(readBack.enforced) ? {} : { enforced: readBack.enforced }) };
  return { after: null, read_back: kind, ...(kind === "failed" ? { reason: readBack.reason } : {}) };
}

function isEmpty(known: Known): boolean {
  return Object.keys(known).length === 0;
}

function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
