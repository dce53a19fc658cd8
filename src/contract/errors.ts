// What can go wrong: one class, a closed list of codes, one table from code to HTTP status.
import type { Values } from "./field.ts";

const statuses = {
  bad_request: 400,
  unknown_device: 400,
  invalid_argument: 400,
  not_supported: 400,
  /** Nothing but time would end the lease that is asked for. */
  ttl_required: 400,
  unauthenticated: 401,
  no_permission: 403,
  scope_missing: 403,
  /** The policy says no. */
  forbidden: 403,
  /** A page in a browser that has no business here, or a name that only a browser could have been tricked into. */
  origin_refused: 403,
  group_disabled: 404,
  auth_disabled: 404,
  not_found: 404,
  /** What is named is no lease, or one that has ended. */
  no_such_lease: 409,
  body_too_large: 413,
  unsupported_encoding: 415,
  /** An exclusive lease of somebody else covers the GPU. */
  held: 423,
  rate_limited: 429,
  too_many_leases: 429,
  /** Never sent: nobody is there to read it. */
  client_gone: 499,
  driver_error: 500,
  /** The driver has lost the GPU, or itself: nothing works until it is opened anew. */
  gpu_lost: 500,
  /** The driver was replaced under the library: only a new process can load the other one. */
  driver_mismatch: 500,
  io_error: 500,
  internal: 500,
  gpu_away: 503,
  lane_stuck: 503,
  queue_full: 503,
  stopping: 503,
  too_many_connections: 503,
  too_many_streams: 503,
  audit_unavailable: 503,
  journal_unavailable: 503,
  deadline: 504,
} as const satisfies Record<string, number>;

export type ErrorCode = keyof typeof statuses;

/** After how many seconds it may be worth trying again, where that is not 1. */
const patience: Partial<Record<ErrorCode, number>> = { gpu_away: 5, lane_stuck: 5 };

/** A refusal or a failure; its message is one sentence for whoever asked. */
export class ZeusdError extends Error {
  readonly code: ErrorCode;
  readonly #retryAfterS: number | undefined;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions & { readonly retryAfterS?: number }) {
    super(message, options);
    this.name = "ZeusdError";
    this.code = code;
    this.#retryAfterS = options?.retryAfterS;
  }

  get status(): number {
    return statuses[this.code];
  }

  /** For 429 and 503: after how many seconds to try again. */
  get retryAfterS(): number | undefined {
    return this.#retryAfterS ?? (this.status === 503 ? (patience[this.code] ?? 1) : undefined);
  }
}

/** A command names devices that do not exist. Each wire has its own sentence for it, because the original's do. */
export class UnknownDevice extends ZeusdError {
  readonly missing: readonly (number | string)[];
  readonly available: readonly number[];

  constructor(device: string, missing: readonly (number | string)[], available: readonly number[]) {
    super("unknown_device", `${device} ${missing[0]} not found`);
    this.missing = missing;
    this.available = available;
  }
}

/** Some of a command's devices failed; the others' results (and effects) are kept. */
export class CommandFailed extends Error {
  override readonly name = "CommandFailed";
  readonly errors: ReadonlyMap<number, ZeusdError>;
  readonly results: ReadonlyMap<number, Values>;
  /** Of a command that is done on all of its devices or on none: what became of those on which it had been done, in words. */
  readonly undone: ReadonlyMap<number, string> | undefined;

  constructor(
    errors: ReadonlyMap<number, ZeusdError>,
    results: ReadonlyMap<number, Values>,
    undone?: ReadonlyMap<number, string>,
  ) {
    super([...errors].map(([id, error]) => `${id}: ${error.message}`).join("; "));
    this.errors = errors;
    this.results = results;
    this.undone = undone;
  }

  /** The error with the numerically largest status, which the reply takes. */
  get worst(): ZeusdError {
    return [...this.errors.values()].reduce((worst, error) => (error.status > worst.status ? error : worst));
  }
}

/** Why the daemon cannot start: what was tried, and what to do. Ends the process with exit code 1. */
export class StartError extends Error {
  override readonly name = "StartError";
}

const refusals: ReadonlySet<ErrorCode> = new Set(["invalid_argument", "not_supported", "no_permission"]);

/** Whether a driver has said no, so that nothing is changed. */
export function isRefusal(error: unknown): boolean {
  return error instanceof ZeusdError && refusals.has(error.code);
}

/** What was thrown, as text: for logs and messages. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
