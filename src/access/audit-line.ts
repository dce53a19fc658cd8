// A line of the audit: what it says of a write that has ended, and of what was refused before it reached a device.
import type { Command, Ending, Known, ReadBack } from "../contract/command.ts";
import { messageOf, ZeusdError } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Target } from "../contract/target.ts";
import type { Asking } from "./asking.ts";
import { RuleRefusal } from "./rule-refusal.ts";

/** The devices of a command, as asked for. */
type Devices = readonly (number | string)[] | "all";

/** In the order in which a line has them; JSON leaves out what is undefined. Everything that ends differently has its own line. */
export interface AuditLine {
  /** When it ended, for example `2026-01-31T12:00:00.000Z`. */
  readonly time: string;
  /** A write that is about to be made, where nothing may happen that is not written down. What came of it has its own line. */
  readonly event?: "begins";
  readonly request_id: string;
  readonly uid: number | undefined;
  readonly pid: number | undefined;
  readonly program: string | undefined;
  readonly address: string | undefined;
  readonly sub: string | undefined;
  readonly jti: string | undefined;
  /** The request line, where no operation was found or may be told. */
  readonly request?: string | undefined;
  readonly operation?: string | undefined;
  readonly gpu?: number;
  readonly uuid?: string | undefined;
  /** As asked for, where no device has been reached. */
  readonly gpus?: Devices | undefined;
  readonly cpus?: Devices | undefined;
  readonly asked?: Values | undefined;
  readonly block?: boolean;
  readonly dry_run?: boolean | undefined;
  readonly before?: Known;
  readonly after?: Known | null | undefined;
  readonly enforced?: Known | undefined;
  readonly read_back?: ReadBack["kind"] | undefined;
  readonly reason?: string | undefined;
  readonly rule?: string | undefined;
  /** The number of the lease within which it was written. */
  readonly lease?: number | undefined;
  /** `ok`, or the code of what went wrong. */
  readonly outcome?: string;
  readonly message?: string | undefined;
  /** The caller had been told before that it has not returned in time. */
  readonly late?: true | undefined;
  readonly duration_ms?: number;
}

export function endingLine(
  time: string,
  asking: Asking,
  { row, parameters, block }: Command,
  { rule, lease }: { readonly rule: string | undefined; readonly lease: number | undefined },
  { target, before, error, late, endedMs }: Ending,
  readBack: ReadBack | undefined,
): AuditLine {
  const done = readBack?.kind === "done" ? readBack : undefined;
  return {
    time,
    ...whoOf(asking),
    operation: row.name,
    gpu: target.id,
    uuid: target.uuid ?? undefined,
    asked: parameters,
    block,
    before,
    after: readBack && (done?.set ?? null),
    enforced: done && Object.keys(done.enforced).length > 0 ? done.enforced : undefined,
    read_back: done ? undefined : readBack?.kind,
    reason: readBack?.kind === "failed" ? readBack.reason : undefined,
    rule,
    lease,
    outcome: error === undefined ? "ok" : codeOf(error),
    message: error === undefined ? undefined : messageOf(error),
    late: late || undefined,
    duration_ms: rounded(endedMs - asking.request.arrivedMs),
  };
}

/** The most of a path and of a list of devices that is written down: they may be as long as a head can be. */
const longestPath = 200;
const mostDevices = 64;

function devicesOf({ devices }: Command): Devices {
  if (!devices || devices.length <= mostDevices) return devices ?? "all";
  return [...devices.slice(0, mostDevices), `and ${devices.length - mostDevices} more`];
}

/** `operation` and `command` are absent where the request was not even read. */
export function refusalLine(
  time: string,
  asking: Asking,
  operation: string | undefined,
  command: Command | undefined,
  error: unknown,
  nowMs: number,
): AuditLine {
  const { request } = asking;
  const devices = command && devicesOf(command);
  return {
    time,
    ...whoOf(asking),
    request: operation === undefined ? `${request.method} ${request.path.slice(0, longestPath)}` : undefined,
    operation,
    gpus: command?.row.device === "gpu" ? devices : undefined,
    cpus: command?.row.device === "cpu" ? devices : undefined,
    asked: command?.parameters,
    dry_run: command?.dryRun,
    rule: error instanceof RuleRefusal ? error.rule : undefined,
    outcome: codeOf(error),
    message: messageOf(error),
    duration_ms: rounded(nowMs - request.arrivedMs),
  };
}

export function beginningLine(time: string, asking: Asking, command: Command, targets: readonly Target[]): AuditLine {
  return {
    time,
    event: "begins",
    ...whoOf(asking),
    operation: command.row.name,
    gpus: targets.map(({ id }) => id),
    asked: command.parameters,
    block: command.block,
  };
}

/** Who asked, as every line has it. */
function whoOf({ request, actor: { peer, claims } }: Asking) {
  return {
    request_id: request.id,
    uid: peer?.uid,
    pid: peer?.pid,
    program: peer?.program(),
    address: request.address,
    sub: claims?.sub,
    jti: claims?.jti,
  };
}

function codeOf(error: unknown): string {
  return error instanceof ZeusdError ? error.code : "internal";
}

/** To a microsecond. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
