// The JSON wire (0.1 and 0.2): the device in the path, parameters in a flat JSON body, texts back.
import { isUtf8 } from "node:buffer";
import { parse as parseQuery, unescape } from "node:querystring";
import type { Command, Results } from "../../contract/command.ts";
import { CommandFailed, UnknownDevice, ZeusdError } from "../../contract/errors.ts";
import { U32_MAX, type Field, type Value } from "../../contract/field.ts";
import { allOperations, type Row } from "../../contract/operations.ts";
import { checkRange } from "../../contract/range.ts";
import { emptyReply, jsonReply, textReply, type Reply, type Request } from "../message.ts";
import { parseId } from "./device-list.ts";
import { excerpt } from "./excerpt.ts";
import { describeRaw, isInteger, parseFlatJson, type FlatJson, type Raw } from "./flat-json.ts";
import { remembered } from "./remembered.ts";
import { cautions, refusalHeaders, type Wire } from "./wire.ts";

export function createPathWire(): Wire {
  const decoders: Decoders = new Map(allOperations.map((row) => [row, remembered((text) => decodeText(row, text))]));
  return { decode: (row, request, segment) => decode(row, request, segment, decoders), reply, refuse };
}

/** What a body says. */
type Body = Pick<Command, "parameters" | "block">;
/** What a body's text says, for each row. */
type Decoders = ReadonlyMap<Row, (text: string) => Body>;

const noBody: Body = { parameters: {}, block: true };

/** The largest body that the original reads, in bytes. */
const bodyLimit = 2_097_152;

async function decode(row: Row, request: Request, segment: string, decoders: Decoders): Promise<Command> {
  const device = parseId(unescape(segment));
  if (device === undefined)
    throw new ZeusdError("not_found", `can not parse ${JSON.stringify(excerpt(segment))} to a u64`);
  if (row.kind === "write" && request.query !== "") refuseCautions(request.query);
  const { parameters, block } = row.json?.method === "POST" ? await decodeBody(row, request, decoders) : noBody;
  return { row, devices: [device], parameters, block };
}

async function decodeBody(row: Row, request: Request, decoders: Decoders): Promise<Body> {
  const type = request.header("content-type") ?? "";
  if (!/^\s*[\w.+-]+\/([\w.+-]+\+)?json\s*(;|$)/i.test(type)) {
    throw new ZeusdError("bad_request", "Content type error");
  }
  const encoding = request.header("content-encoding") ?? "identity";
  if (encoding.toLowerCase() !== "identity") {
    throw new ZeusdError(
      "unsupported_encoding",
      `The content encoding ${excerpt(encoding)} is not supported; send the body as it is`,
    );
  }
  const body = await request.body(bodyLimit);
  if (!isUtf8(body)) throw unreadable("invalid unicode code point");
  const decoder = decoders.get(row);
  if (!decoder) throw new ZeusdError("internal", `The JSON wire has no ${row.name}`);
  return decoder(body.toString("utf8"));
}

function decodeText(row: Row, text: string): Body {
  const { block = true, ...parameters } = decodeFields(row, parse(text));
  checkRange(row, parameters);
  return { parameters, block: block !== false };
}

function parse(text: string): FlatJson {
  try {
    return parseFlatJson(text);
  } catch (error) {
    throw unreadable(error instanceof SyntaxError ? error.message : "expected value", error);
  }
}

function decodeFields(row: Row, body: FlatJson): Readonly<Record<string, Value>> {
  const fields = fieldsOf(row);
  const names = Object.keys(fields);
  if (body.kind === "scalar")
    throw unreadable(`invalid type: ${describeRaw(body.raw)}, expected struct ${structName(row)}`);
  const entries = body.kind === "object" ? body.entries : inOrder(names, body.items);
  const values: Record<string, Value> = {};
  for (const [name, raw] of entries) {
    if (row.kind === "write" && cautions.some((caution) => caution === name)) throw unheeded(name);
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (!field) continue;
    if (Object.hasOwn(values, name)) throw unreadable(`duplicate field \`${name}\``);
    values[name] = decodeValue(raw, field);
  }
  if (body.kind === "array") checkLength(row, names.length, body.items.length);
  for (const name of names) if (!Object.hasOwn(values, name)) throw unreadable(`missing field \`${name}\``);
  return values;
}

/** A GPU write also says whether to wait; a read has no choice. */
function fieldsOf(row: Row): Readonly<Record<string, Pick<Field, "type">>> {
  return row.kind === "write" ? { ...row.parameters, block: { type: "boolean" } } : row.parameters;
}

/** The values of an array stand for the fields in the order of their declaration. */
function inOrder(names: readonly string[], items: readonly Raw[]): readonly (readonly [string, Raw])[] {
  return names.slice(0, items.length).map((name, index) => [name, items[index] ?? "null"]);
}

function checkLength(row: Row, expected: number, length: number): void {
  if (length > expected) throw unreadable("trailing characters");
  if (length === expected) return;
  const elements = `${expected} element${expected === 1 ? "" : "s"}`;
  throw unreadable(`invalid length ${length}, expected struct ${structName(row)} with ${elements}`);
}

function decodeValue(raw: Raw, field: Pick<Field, "type">): Value {
  if (field.type === "boolean") {
    if (raw === "true" || raw === "false") return raw === "true";
    throw unreadable(`invalid type: ${describeRaw(raw)}, expected a boolean`);
  }
  if (!isInteger(raw)) {
    if (Number(raw) === Infinity || Number(raw) === -Infinity) throw unreadable("number out of range");
    throw unreadable(`invalid type: ${describeRaw(raw)}, expected u32`);
  }
  const value = Number(raw);
  if (value < 0 || value > U32_MAX) throw unreadable(`invalid value: integer \`${raw}\`, expected u32`);
  return value;
}

/** `set_power_limit` → `SetPowerLimit`: how the original names a body in its messages. */
function structName(row: Row): string {
  const path = row.json?.paths[0] ?? row.name;
  return path.replace(/(?:^|_)(\w)/g, (_, letter: string) => letter.toUpperCase());
}

/** This wire reads no query, but whoever writes one there means it. */
function refuseCautions(query: string): void {
  const given = parseQuery(query, "&", "=", { maxKeys: 0 });
  const caution = cautions.find((name) => Object.hasOwn(given, name));
  if (caution !== undefined) throw unheeded(caution);
}

function unheeded(caution: string): ZeusdError {
  const text = `${caution} is not supported here and would be ignored; leave it out to write anyway`;
  return new ZeusdError("bad_request", text);
}

function unreadable(detail: string, cause?: unknown): ZeusdError {
  return new ZeusdError("bad_request", `Json deserialize error: ${detail}`, { cause });
}

function reply({ row }: Command, results: Results): Reply {
  if (row.kind === "write") return emptyReply(200);
  const [values] = results.values();
  return jsonReply(200, values);
}

function refuse(failed: ZeusdError | CommandFailed, row?: Row): Reply {
  const error = failed instanceof CommandFailed ? failed.worst : failed;
  const headers = refusalHeaders(error);
  if (error instanceof UnknownDevice) {
    return textReply(error.status, `${row?.device.toUpperCase()} index ${error.missing[0]} does not exist.`, headers);
  }
  // 0.1 and 0.2 have one status for all that a driver lacks, and one word spelled otherwise.
  const status = error.code === "not_supported" ? 500 : error.status;
  return textReply(status, error.message.replace("driver error occurred", "driver error occured"), headers);
}
