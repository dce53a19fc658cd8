// Which calls of the driver a client's bytes ask for: what may be written, and what must have been.
import { allOperations, type Row } from "../../src/contract/operations.ts";
import { header, type SeenReply, type SeenRequest, type SeenStream } from "./http-reference.ts";

/** The driver's functions that change something, by the operation that calls them. */
export const symbols: Readonly<Record<string, readonly string[]>> = {
  set_persistence_mode: ["nvmlDeviceSetPersistenceMode"],
  set_power_limit: ["nvmlDeviceSetPowerManagementLimit"],
  set_gpu_locked_clocks: ["nvmlDeviceSetGpuLockedClocks"],
  reset_gpu_locked_clocks: ["nvmlDeviceResetGpuLockedClocks"],
  set_mem_locked_clocks: ["nvmlDeviceSetMemoryLockedClocks"],
  reset_mem_locked_clocks: ["nvmlDeviceResetMemoryLockedClocks"],
  reset_locked_clocks: ["nvmlDeviceResetGpuLockedClocks", "nvmlDeviceResetMemoryLockedClocks"],
};

/** How each setting is set to a value, and how it is reset; what cannot be reset always has a value. */
const settingSymbols: Readonly<Record<string, readonly [set: string, reset: string]>> = {
  power_limit: ["nvmlDeviceSetPowerManagementLimit", ""],
  persistence_mode: ["nvmlDeviceSetPersistenceMode", ""],
  gpu_clocks: ["nvmlDeviceSetGpuLockedClocks", "nvmlDeviceResetGpuLockedClocks"],
  memory_clocks: ["nvmlDeviceSetMemoryLockedClocks", "nvmlDeviceResetMemoryLockedClocks"],
};

/** The call that a line of the daemon's log tells of, if it says that a setting was put back. */
export function putBack(logLine: string): string | undefined {
  const [, gpu = "", setting = "", value = ""] = / INFO GPU (\d+): (\w+) is (\S.*) again$/.exec(logLine) ?? [];
  const [set, reset] = settingSymbols[setting] ?? [];
  if (value === "reset") return `${reset} ${gpu}`;
  const values = value.split(" ").map((pair) => plainValue(pair.split("=")[1] ?? ""));
  return set && [set, gpu, ...values].join(" ");
}

/** Whoever says one of these wants less than a whole write, which the JSON wire cannot do. */
const cautions = ["dry_run", "lease_id", "atomic"];

const writes = allOperations.filter(({ kind }) => kind === "write");

export function isWrite(call: string): boolean {
  return /^nvmlDevice(?:Set|Reset)/.test(call);
}

/** How often each call may be made; a call without arguments stands for any. */
export type Allowance = Map<string, number>;

export function allow(allowance: Allowance, call: string, count = 1): void {
  allowance.set(call, (allowance.get(call) ?? 0) + count);
}

/** Takes a call out of what is allowed; false if it is not. */
export function use(allowance: Allowance, call: string): boolean {
  const anyArguments = call.split(" ").slice(0, 2).join(" ");
  for (const each of [call, anyArguments]) {
    const left = allowance.get(each) ?? 0;
    if (left === 0) continue;
    allowance.set(each, left - 1);
    return true;
  }
  return false;
}

/** The calls that a request asks for, in full; none if it asks for no write, or asks not to make it. */
function callsOf(request: SeenRequest): readonly string[] {
  if (request.method !== "POST") return [];
  const { path, query } = split(request.target);
  const [, device, first = "", second, ...more] = path.split("/");
  if (device !== "gpu" || more.length > 0) return [];
  if (second !== undefined) {
    const row = writes.find(({ json }) => json?.paths.includes(second));
    const isCautious = cautions.some((name) => new URLSearchParams(query).has(name));
    return row && !isCautious ? bodyCalls(row, unescaped(first), request.body) : [];
  }
  const row = writes.find(({ name }) => name === first);
  return row ? queryCalls(row, new URLSearchParams(query)) : [];
}

/** The same of bytes in which nobody can say where a request begins: whatever looks like a write, with any arguments. */
function callsInRest(rest: string): readonly string[] {
  return [...rest.matchAll(/POST +([^ \r\n]*)/g)].flatMap(([, target = ""]) => {
    const { path } = split(target);
    const row = writes.find(({ name, json }) =>
      [name, ...(json?.paths ?? [])].some((each) => path.endsWith(`/${each}`)),
    );
    return (row ? (symbols[row.name] ?? []) : []).flatMap((symbol) => [`${symbol} 0`, `${symbol} 1`]);
  });
}

function split(target: string): { readonly path: string; readonly query: string } {
  const [whole = ""] = target.replace(/^https?:\/\/[^/?#]*/i, "").split("#");
  const [path = "", ...query] = whole.split("?");
  return { path: unescaped(path), query: query.join("?") };
}

/** Whether a request leads to a write, be it a proper one or not. */
export function leadsToWrite({ method, target }: SeenRequest): boolean {
  return method === "POST" && !split(target).path.startsWith("/cpu/");
}

/** A slash that is escaped stays so: it is no end of a part. */
function unescaped(path: string): string {
  return path.replaceAll(/%([\da-f]{2})/gi, (escape, hex: string) => {
    const letter = String.fromCharCode(Number.parseInt(hex, 16));
    return letter === "/" || letter === "%" ? escape : letter;
  });
}

function queryCalls(row: Row, query: URLSearchParams): readonly string[] {
  if (query.getAll("dry_run").includes("true")) return [];
  const ids = (query.get("gpu_ids") ?? "").split(",").map((id) => gpuNumber(id.trim()));
  const values = Object.keys(row.parameters).map((name) => plainValue(query.get(name) ?? ""));
  return calls(row, ids, values);
}

function bodyCalls(row: Row, id: string, body: string): readonly string[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(
      Buffer.from(body, "latin1")
        .toString("utf8")
        .replace(/^\ufeff/, ""),
    );
  } catch {
    return [];
  }
  if (typeof parsed !== "object" || parsed === null) return [];
  if (cautions.some((name) => Object.hasOwn(parsed, name))) return [];
  const names = Object.keys(row.parameters);
  const values = Array.isArray(parsed) ? parsed : names.map((name) => (parsed as Record<string, unknown>)[name]);
  return calls(
    row,
    [plainNumber(id)],
    values.slice(0, names.length).map((value) => plainValue(String(value))),
  );
}

function calls(row: Row, ids: readonly number[], values: readonly number[]): readonly string[] {
  const gpus = [...new Set(ids)].filter((id) => id === 0 || id === 1);
  return (symbols[row.name] ?? []).flatMap((symbol) => gpus.map((id) => [symbol, id, ...values].join(" ")));
}

/** The stub's GPUs are at 41:00.0 and 42:00.0. */
function gpuNumber(id: string): number {
  const [, bus] = /^(?:0{4,8}:)?4([12]):00\.0$/.exec(id) ?? [];
  return bus === undefined ? plainNumber(id) : Number(bus) - 1;
}

function plainNumber(text: string): number {
  return /^\s*\+?\d+\s*$/.test(text) ? Number(text) : Number.NaN;
}

function plainValue(text: string): number {
  return text === "true" ? 1 : text === "false" ? 0 : plainNumber(text);
}

/** Hosts and pages that are none of this machine's. */
const foreign = /evil|6\.6\.6\.6|^null$/;

/** Whether a page of another site could have sent it. */
function isForeign(request: SeenRequest, loopback: boolean): boolean {
  return foreign.test(header(request, "origin") ?? "") || (loopback && foreign.test(header(request, "host") ?? ""));
}

export interface Demand {
  /** The calls that may be made. */
  readonly allowed: Allowance;
  /** Of these, those that must have been made, since the client was told so. */
  readonly required: readonly string[];
}

/** What a client that got these replies may have caused, and must have. */
export function demandOf(
  { requests, tail, rest }: SeenStream,
  replies: readonly SeenReply[],
  loopback: boolean,
): Demand {
  const allowed: Allowance = new Map();
  const required: string[] = [];
  for (const [index, request] of requests.entries()) {
    const asked = isForeign(request, loopback) ? [] : callsOf(request);
    const reply = replies[index];
    if (reply && !reachedDriver(reply)) continue;
    for (const call of asked) allow(allowed, call);
    if (reply?.status === 200) required.push(...asked);
  }
  if (tail === "unclear" || tail === "unfinished") for (const call of callsInRest(rest)) allow(allowed, call);
  return { allowed, required };
}

/**
 * A refusal for what was asked means that nothing was called; one of the driver's own says so, and so does one that has an
 * error for each GPU, as of a lease that ended when some were done.
 */
function reachedDriver({ status, body }: SeenReply): boolean {
  return status < 400 || status >= 500 || body.includes("NVML error") || body.startsWith('{"errors":');
}
