// The query wire (0.3 and later): parameters in the query string, any body ignored, JSON back.
import { unescape } from "node:querystring";
import type { Clock } from "../../contract/clock.ts";
import type { Command, Results } from "../../contract/command.ts";
import { CommandFailed, UnknownDevice, ZeusdError } from "../../contract/errors.ts";
import { U32_MAX, type Field, type Value, type Values } from "../../contract/field.ts";
import { allOperations, type DeviceKind, type Row } from "../../contract/operations.ts";
import { checkRange } from "../../contract/range.ts";
import { emptyReply, jsonReply, textReply, type Reply } from "../message.ts";
import { parseDeviceList } from "./device-list.ts";
import { excerpt } from "./excerpt.ts";
import { remembered } from "./remembered.ts";
import { cautions, refusalHeaders, type Wire } from "./wire.ts";

export function createQueryWire(clock: Clock): Wire {
  const decoders: ReadonlyMap<Row, (query: string) => Command> = new Map(
    allOperations.map((row) => [row, remembered((query) => decodeQuery(row, query))]),
  );
  return {
    decode(row, { query }) {
      const decoder = decoders.get(row);
      if (!decoder) throw new ZeusdError("internal", `The query wire has no ${row.name}`);
      return decoder(query);
    },
    reply: (command, results) => reply(command, results, clock),
    refuse,
  };
}

/** Known to every write, and not named by refusals, whose text is the original's. */
const extras: Readonly<Record<(typeof cautions)[number], Pick<Field, "type"> | "lease_id">> = {
  lease_id: "lease_id",
  dry_run: { type: "boolean" },
  atomic: { type: "boolean" },
};

/** The parameter that names a command's devices. */
export const idsName = { gpu: "gpu_ids", cpu: "cpu_ids" } as const satisfies Record<DeviceKind, string>;

/** Throws `bad_request` at the first thing that is wrong, from left to right. */
export function decodeQuery(row: Row, query: string): Command {
  const ids = idsName[row.device];
  const known = [ids, ...Object.keys(row.parameters), ...(row.kind === "write" ? ["block"] : [])];
  const given = decodePairs(query, known, row);
  for (const name of known) {
    if (given.has(name) || (name === ids && row.kind !== "write")) continue;
    throw unreadable(`missing field \`${name}\``);
  }
  const list = given.get(ids);
  const parameters: Record<string, Value> = {};
  for (const name in row.parameters) parameters[name] = given.get(name) as Value;
  checkRange(row, parameters);
  const block = given.get("block") !== false;
  const asked = { row, parameters, block, ...cautionsOf(given, block) };
  return typeof list === "string" ? { ...asked, devices: parseDeviceList(list, row.device, ids) } : asked;
}

function cautionsOf(given: ReadonlyMap<string, Value | string>, block: boolean): Partial<Command> {
  const leaseId = given.get("lease_id");
  const atomic = given.get("atomic") === true;
  if (atomic && !block)
    throw new ZeusdError("bad_request", "atomic needs block=true: who does not wait cannot be told");
  return {
    ...(given.get("dry_run") === true ? { dryRun: true } : {}),
    ...(atomic ? { atomic } : {}),
    ...(typeof leaseId === "string" ? { leaseId } : {}),
  };
}

/** The pairs of a query string, left to right: the first bad one is what the refusal is about. */
function decodePairs(query: string, known: readonly string[], row: Row): ReadonlyMap<string, Value | string> {
  const given = new Map<string, Value | string>();
  for (const pair of query.split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const name = decodeText(equals < 0 ? pair : pair.slice(0, equals));
    const extra = row.kind === "write" ? cautions.find((caution) => caution === name) : undefined;
    if (!known.includes(name) && extra === undefined)
      throw unreadable(`unknown field \`${excerpt(name)}\`, expected ${listOf(known)}`);
    if (given.has(name)) throw unreadable(`duplicate field \`${name}\``);
    const text = equals < 0 ? "" : decodeText(pair.slice(equals + 1));
    const field = extra === undefined ? (name === "block" ? booleanField : row.parameters[name]) : extras[extra];
    given.set(name, field === "lease_id" ? decodeLeaseId(text) : field ? decodeValue(text, field) : text);
  }
  return given;
}

const booleanField = { type: "boolean" } as const;

function decodeText(text: string): string {
  return text.includes("%") || text.includes("+") ? unescape(text.replaceAll("+", " ")) : text;
}

function decodeValue(text: string, field: Pick<Field, "type">): Value {
  if (field.type === "boolean") {
    if (text === "true" || text === "false") return text === "true";
    throw unreadable("provided string was not `true` or `false`");
  }
  if (text === "") throw unreadable("cannot parse integer from empty string");
  if (!/^\+?\d+$/.test(text)) throw unreadable("invalid digit found in string");
  const value = Number(text);
  if (value > U32_MAX) throw unreadable("number too large to fit in target type");
  return value;
}

function decodeLeaseId(text: string): string {
  if (/^[\da-f]{32}$/.test(text)) return text;
  throw unreadable("lease_id is not 32 hexadecimal digits");
}

function listOf(names: readonly string[]): string {
  const quoted = names.map((name) => `\`${name}\``);
  return quoted.length > 2 ? `one of ${quoted.join(", ")}` : quoted.join(" or ");
}

/** A query string that does not decode; its refusal is text, as the original's. */
class UnreadableQuery extends ZeusdError {}

function unreadable(detail: string): ZeusdError {
  return new UnreadableQuery("bad_request", `Query deserialize error: ${detail}`);
}

function reply({ row, atomic }: Command, results: Results, clock: Clock): Reply {
  if (atomic)
    return jsonReply(200, { atomic, gpus: Object.fromEntries([...results.keys()].map((id) => [id, "done"])) });
  if (row.kind === "write") return emptyReply(200);
  if (row.layout === "by_id") return jsonReply(200, Object.fromEntries(results));
  const power_mw: Record<number, Value | Values> = {};
  for (const [id, values] of results) power_mw[id] = powerOf(values);
  return jsonReply(200, { timestamp_ms: clock.epochMs(), power_mw });
}

/** A GPU's power is a bare number, a CPU's an object of package and memory. */
export function powerOf(values: Values): Value | Values {
  return values["power_mw"] ?? values;
}

function refuse(error: ZeusdError | CommandFailed, row?: Row): Reply {
  if (error instanceof CommandFailed) return refuseSome(error);
  const { code, status } = error;
  if (error instanceof UnreadableQuery) return textReply(status, error.message);
  if (error instanceof UnknownDevice) {
    return jsonReply(status, { error: unknownDeviceText(error, row), code, available: error.available });
  }
  return jsonReply(status, { error: error.message, code }, refusalHeaders(error));
}

function refuseSome({ errors, results, worst, undone }: CommandFailed): Reply {
  const messages = Object.fromEntries([...errors].map(([id, { message }]) => [id, message]));
  const told = undone ? { undone: Object.fromEntries(undone) } : { results: Object.fromEntries(results) };
  const body = { errors: messages, ...told, code: worst.code };
  return jsonReply(worst.status, body, refusalHeaders(worst));
}

/** Clients show this sentence to people; it differs by kind of operation because the original's does. */
function unknownDeviceText({ message, missing, available }: UnknownDevice, row?: Row): string {
  if (!row || row.kind === "read") return message;
  const device = row.device.toUpperCase();
  if (row.kind === "write") return `${device} index ${missing[0]} does not exist.`;
  return `Unknown ${device} indices: [${missing.join(", ")}]. Available: [${available.join(", ")}]`;
}
