// Byte streams by chance: requests for every row on every wire, written in many ways, in a row, and then broken.
import { allOperations, type Row } from "../../src/contract/operations.ts";
import { mutate, mutateTokens } from "./mutate.ts";
import type { Random } from "./random.ts";

/** What a client sends on one connection. */
export interface Stream {
  /** Each character is a byte. */
  readonly bytes: string;
  /** Where the bytes are cut into segments. */
  readonly cuts: readonly number[];
  /** Whether the client waits for its replies, closes its half at once, or is gone at once. */
  readonly ending: "wait" | "half-close" | "destroy";
}

/** Values of `authorization` to choose from, the proper one first. */
export type Authorizations = readonly string[];

export function streamOf(random: Random, authorizations: Authorizations): Stream {
  const bytes = broken(random, requestsOf(random, authorizations));
  const few = random.chance(0.5) ? 0 : random.between(1, 6);
  const cuts = random.chance(0.03)
    ? random.times(Math.min(bytes.length, 400), (index) => index + 1)
    : random.times(few, () => random.below(bytes.length + 1));
  return {
    bytes,
    cuts: [...new Set(cuts)].toSorted((one, other) => one - other),
    ending: random.pick(["wait", "wait", "wait", "wait", "half-close", "destroy"]),
  };
}

function requestsOf(random: Random, authorizations: Authorizations): string {
  const count = random.oneOf(
    () => 1,
    () => random.between(1, 3),
    () => random.between(1, 20),
  );
  return random.times(count, () => requestText(random, authorizations)).join(random.chance(0.05) ? "\r\n" : "");
}

/** Half of the streams stay as they are. */
function broken(random: Random, text: string): string {
  return random.oneOf(
    () => text,
    () => text,
    () => text,
    () => mutate(random, text, 1),
    () => mutate(random, text, random.between(1, 8)),
    () => mutateTokens(random, text, /\r\n|[\w%-]+|[^]/g, random.between(1, 6)),
  );
}

// A REQUEST ---------------------------------------------------------------------------------------------------------------

function requestText(random: Random, authorizations: Authorizations): string {
  const odd = (): boolean => random.chance(0.015);
  const row = random.pick(allOperations);
  const wire = random.chance(0.06) ? ofLeases(random) : wireOf(random, row);
  const method = odd() ? random.pick(methods) : wire.method;
  const target = random.chance(0.12) ? otherTarget(random) : `${pathText(random, wire.path)}${wire.query}`;
  const absolute = random.chance(0.06) ? random.pick(authorities) : "";
  const version = odd() ? random.pick(versions) : "HTTP/1.1";
  const body = wire.body ?? (random.chance(0.1) ? jsonText(random, row) : undefined);
  const headers = [
    ...(random.chance(0.9) ? [`host: ${random.chance(0.9) ? random.pick(ownHosts) : random.pick(hosts)}`] : []),
    ...authorization(random, authorizations),
    ...oddHeaders(random),
  ];
  const [framing, sent] = framed(random, body, wire.body !== undefined);
  const all = shuffled(random, [...headers, ...framing]).map((header) => headerCase(random, header));
  const end = odd() ? random.pick(["\n", "\r", "\r\n ", "\r\r\n", "\r\n\t", "\0\r\n"]) : "\r\n";
  return `${method} ${absolute}${target} ${version}${end}${all.map((header) => `${header}\r\n`).join("")}\r\n${sent}`;
}

interface OnWire {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly body?: string;
}

function wireOf(random: Random, row: Row): OnWire {
  if (row.json && (!row.query || random.chance(0.45))) {
    const path = `/${row.device}/${idText(random)}/${random.pick(row.json.paths)}`;
    const query = random.chance(0.1) ? `?${random.pick(pathQueries)}${queryText(random, row)}` : "";
    return {
      method: row.json.method,
      path,
      query,
      ...(row.json.method === "POST" ? { body: jsonText(random, row) } : {}),
    };
  }
  const method = row.kind === "write" ? "POST" : "GET";
  return { method, path: `/${row.device}/${row.name}`, query: `?${queryText(random, row)}` };
}

/**
 * Leases, and what they have changed. Most last for a second, so that what was written within them is put back while others
 * write, and so that nobody has a GPU for itself for long.
 */
function ofLeases(random: Random): OnWire {
  const gpus = `gpu_ids=${random.chance(0.9) ? random.pick(["0", "1", "0,1"]) : random.pick(oddIds)}`;
  const ask = (method: string, path: string, pairs: readonly string[]): OnWire => {
    const sent = random.chance(0.05) ? pairs.toSpliced(random.below(pairs.length), 1, "x=1") : pairs;
    return { method, path, query: sent.length === 0 ? "" : `?${sent.join("&")}` };
  };
  return random.oneOf(
    () => {
      const exclusive = random.chance(0.1) ? ["exclusive=true"] : [];
      const ttl = `ttl_s=${random.chance(0.9) ? "1" : random.pick(["2", "0", "86401", "1.0", "", "x"])}`;
      const reason = random.chance(0.3) ? [`reason=${random.pick(["night%20run", "%00", "a".repeat(201), ""])}`] : [];
      // One without a time to live ends with its holder, which is whoever runs this.
      return ask("POST", "/lease/acquire", [gpus, ...exclusive, ...reason, ...(random.chance(0.04) ? [] : [ttl])]);
    },
    () => ask("POST", "/lease/renew", [leaseIdText(random), "ttl_s=1"]),
    () => {
      const which = random.chance(0.8) ? `lease=${random.between(1, 300)}` : leaseIdText(random);
      const more = random.some([`block=${random.chance(0.5)}`, `force=${random.chance(0.5)}`], 0.3);
      return ask("POST", "/lease/release", [which, ...more]);
    },
    () => ask("GET", random.pick(["/lease/list", "/lease/list", "/events"]), []),
    () => ask("GET", "/gpu/get_state", [gpus, ...random.some(["include=supported"], 0.3)]),
  );
}

/** Of no lease: nobody can guess one. */
function leaseIdText(random: Random): string {
  const id = random.times(32, () => random.below(16).toString(16)).join("");
  return `lease_id=${random.chance(0.8) ? id : random.pick(["", "x", id.slice(1), id.toUpperCase(), `${id}0`, "%00"])}`;
}

const pathQueries = ["", "", "dry_run=false&", "dry%5frun=true&", "lease_id&", "atomic=1&", "a=b&"];
const methods = [
  "GET",
  "POST",
  "PUT",
  "HEAD",
  "OPTIONS",
  "DELETE",
  "PATCH",
  "CONNECT",
  "TRACE",
  "post",
  "PoST",
  "PRI",
  "M-SEARCH",
  "",
];
const versions = [
  "HTTP/1.1",
  "HTTP/1.0",
  "HTTP/0.9",
  "HTTP/2.0",
  "HTTP/1.2",
  "http/1.1",
  "HTTP/1.11",
  "HTTP/11",
  "",
  "HTTP/1.1 ",
];
const authorities = [
  "http://localhost",
  "http://x",
  "HTTPS://x:1",
  "http://u:p@x",
  "http://",
  "//x",
  "ftp://x",
  "http:",
  "http://[::1]:80",
];
const ownHosts = ["localhost", "127.0.0.1:4938"];
const hosts = [
  "zeusd",
  "evil.example",
  "",
  "x y",
  "[::1]",
  "[",
  "localhost:99999",
  "a".repeat(400),
  "127.0.0.1.evil.example",
  "\xff",
  "6.6.6.6",
];

function otherTarget(random: Random): string {
  const row = random.pick(allOperations);
  return random.oneOf(
    () =>
      random.pick([
        "/discover",
        "/time",
        "/healthz",
        "/auth/whoami",
        "/policy/explain",
        "/",
        "*",
        "",
        "?",
        "/gpu",
        "/gpu/",
        "/cpu//",
      ]),
    () =>
      `/policy/explain?operation=${random.pick([row.name, `${row.device}/${row.name}`, "gpu-control", "", "x"])}&${explainText(random, row)}`,
    () =>
      `/${random.pick(["gpu", "GPU", "cpu", "auth", "..", "%67pu"])}/${random.pick(["0", "set_power_limit", "get_power", "x", "%00"])}/${row.name}`,
    () => `/x?${"a".repeat(random.pick([10, 300, 65_520, 65_534]))}`,
  );
}

function explainText(random: Random, row: Row): string {
  const who = random.pick([
    "uid=0",
    "uid=1000&gids=44,5",
    "sub=ops",
    "uid=x",
    "uid=4294967296",
    "gids=1",
    "uid=0&uid=1",
    "sub=%00",
    "__proto__=1",
  ]);
  return `${who}&${queryText(random, row)}`;
}

function pathText(random: Random, path: string): string {
  if (random.chance(0.75)) return path;
  const hex = (letter: string): string => {
    const code = letter.charCodeAt(0).toString(16).padStart(2, "0");
    return `%${random.chance(0.5) ? code : code.toUpperCase()}`;
  };
  const part = random.pick([0.1, 0.5, 1]);
  return random.oneOf(
    () => [...path].map((letter) => (letter !== "/" && random.chance(part) ? hex(letter) : letter)).join(""),
    () => [...path].map((letter) => (random.chance(part) ? hex(letter) : letter)).join(""),
    () => path.replace("/", random.pick(["//", "/./", "/x/../", "/%2e%2e/", "/%2f", "\\"])),
    () => path + random.pick(["/", "//", "/.", ";x", "%00", "%20", "#", "#x", "%", "%zz", ".json", "%0d%0a"]),
    () => path.toUpperCase(),
  );
}

function idText(random: Random): string {
  return random.pick([
    "0",
    "0",
    "1",
    "0",
    "01",
    "+1",
    "%30",
    "2",
    "-1",
    "x",
    "",
    "18446744073709551616",
    "9".repeat(40),
    "%00",
    "0%2f1",
  ]);
}

// QUERIES -----------------------------------------------------------------------------------------------------------------

function queryText(random: Random, row: Row): string {
  const ids = `${row.device}_ids`;
  const idList = random.chance(0.85) ? random.pick(["0", "1", "0,1", "0%2C1", "1,0,0"]) : random.pick(oddIds);
  const pairs: (readonly [string, string])[] = [[ids, idList]];
  for (const [name, { type }] of Object.entries(row.parameters)) pairs.push([name, valueText(random, type, name)]);
  if (row.kind === "write") pairs.push(["block", random.pick(["true", "true", "false"])]);
  if (row.kind === "write" && random.chance(0.15))
    pairs.push(["dry_run", random.pick(["true", "true", "false", "1", "TRUE", ""])]);
  if (row.kind === "write" && random.chance(0.1))
    pairs.push(["atomic", random.pick(["true", "true", "true", "false"])]);
  if (row.kind === "write" && random.chance(0.02)) {
    const [name = "", value = ""] = leaseIdText(random).split("=");
    pairs.push([name, value]);
  }
  if (random.chance(0.04))
    pairs.push([random.pick(["lease_id", "atomic", "__proto__", "", "gpu_ids", "block", "dry_run", "Block"]), "true"]);
  const sent = random.chance(0.05) ? pairs.toSpliced(random.below(pairs.length), 1) : pairs;
  const ordered = random.chance(0.3) ? shuffled(random, sent) : sent;
  const text = ordered.map(([name, value]) => `${encoded(random, name)}=${encoded(random, value)}`);
  return text.join(random.chance(0.97) ? "&" : random.pick(["&&", ";", "&a&", "?", "&=&"]));
}

const oddIds = [
  "",
  ",",
  "0,",
  "-1",
  "x",
  "0,9",
  "99999999999999999999",
  "%2B1",
  "0;1",
  "GPU-",
  "0000:41:00.0",
  "GPU-x",
  "%ff",
  "0,".repeat(500),
  "%E2%80%8A0",
  "0x0",
];

function valueText(random: Random, type: string, name: string): string {
  if (type === "boolean")
    return random.chance(0.9) ? random.pick(["true", "false"]) : random.pick(["1", "True", "", "%00"]);
  const usual = name.includes("clock")
    ? ["210", "1500", "1980", "0300"]
    : ["150000", "200000", "400000", "0200000", "%2B250000"];
  return random.chance(0.85) ? random.pick(usual) : random.pick(oddNumbers);
}

const oddNumbers = [
  "0",
  "-1",
  "1.0",
  "1e5",
  "4294967295",
  "4294967296",
  "9".repeat(400),
  "",
  " 5",
  "0x10",
  "+5",
  "NaN",
  "٣",
  "1_0",
];

/** Some letters as percent-escapes. */
function encoded(random: Random, text: string): string {
  if (random.chance(0.9)) return text;
  return [...text]
    .map((letter) =>
      random.chance(0.3) && letter !== "%" ? `%${letter.charCodeAt(0).toString(16).padStart(2, "0")}` : letter,
    )
    .join("");
}

// BODIES ------------------------------------------------------------------------------------------------------------------

function jsonText(random: Random, row: Row): string {
  const fields: (readonly [string, string])[] = Object.entries(row.parameters).map(([name, { type }]) => [
    name,
    rawText(random, type, name),
  ]);
  if (row.kind === "write") fields.push(["block", rawText(random, "boolean", "block")]);
  if (random.chance(0.08))
    fields.push([
      random.pick(["dry_run", "lease_id", "atomic", "__proto__", "block", "x", "", "power_limit_mw"]),
      random.pick(oddRaws),
    ]);
  const ordered = random.chance(0.3) ? shuffled(random, fields) : fields;
  const blank = random.pick(["", "", " ", "\r\n\t"]);
  const text = `{${blank}${ordered.map(([name, raw]) => `${keyText(random, name)}:${blank}${raw}`).join(`,${blank}`)}}`;
  return random.oneOf(
    () => text,
    () => text,
    () => text,
    () => text,
    () => (random.chance(0.3) ? `[${fields.map(([, raw]) => raw).join(",")}]` : text),
    () => (random.chance(0.3) ? random.pick(oddBodies(text)) : text),
    () => (random.chance(0.3) ? mutate(random, text, random.between(1, 3)) : text),
  );
}

function oddBodies(text: string): readonly string[] {
  return [
    "",
    "null",
    "1",
    '"x"',
    "[]",
    "{}",
    `\xef\xbb\xbf${text}`,
    `${text}x`,
    text.slice(0, -1),
    `${text}\0`,
    text.replace(":", ":\xff"),
    text.replace("{", `{"a":${"[".repeat(3_000)}${"]".repeat(3_000)},`),
    text.replace("{", '{"\\ud800":1,'),
    text.replaceAll('"', "'"),
    `${" ".repeat(70_000)}${text}`,
    "[".repeat(100_000),
    `{${'"a":1,'.repeat(9_990)}"b":1}`,
  ];
}

const oddRaws = [
  "null",
  "true",
  "false",
  "1",
  '"x"',
  "[]",
  "{}",
  "[[1]]",
  '{"a":{"b":1}}',
  "-0",
  "1.0",
  "1e400",
  '"\\u0000"',
  "9".repeat(400),
];

function rawText(random: Random, type: string, name: string): string {
  if (random.chance(0.05)) return random.pick(oddRaws);
  const text = valueText(random, type, name)
    .replace("%2B", "")
    .replace(/^0+(?=\d)/, "");
  return /^[\w.+-]+$/.test(text) ? text : "0";
}

/** The key, now and then with letters as escapes. */
function keyText(random: Random, key: string): string {
  if (random.chance(0.93)) return JSON.stringify(key);
  return `"${[...key].map((letter) => (random.chance(0.3) ? `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}` : letter)).join("")}"`;
}

// HEADERS AND FRAMING -----------------------------------------------------------------------------------------------------

function authorization(random: Random, authorizations: Authorizations): readonly string[] {
  const [proper] = authorizations;
  if (proper === undefined || random.chance(0.05)) return [];
  return [`authorization: ${random.chance(0.75) ? proper : random.pick(authorizations)}`];
}

function oddHeaders(random: Random): readonly string[] {
  return random.some(oddHeaderList, 0.004).map((header) => header());
}

const oddHeaderList: readonly (() => string)[] = [
  () => "connection: close",
  () => "connection: keep-alive",
  () => "connection: upgrade\r\nupgrade: h2c",
  () => "expect: 100-continue",
  () => "expect: x",
  () => "origin: http://evil.example",
  () => "origin: null",
  () => "origin: http://localhost",
  () => "host: evil.example",
  () => "content-encoding: gzip",
  () => "content-encoding: identity",
  () => "content-length: 5",
  () => "transfer-encoding: chunked",
  () => "transfer-encoding: gzip, chunked",
  () => "transfer-encoding : chunked",
  () => "Transfer-Encoding:\tchunked",
  () => "transfer-encoding: xchunked",
  () => "te: trailers",
  () => "trailer: authorization",
  () => "x-http-method-override: POST",
  () => "cookie: a=b; c",
  () => "accept: text/event-stream",
  () => `x-long: ${"a".repeat(5_000)}`,
  () => `x-longer: ${"a".repeat(140_000)}`,
  () => Array.from({ length: 120 }, (_, index) => `x-${index}: 1`).join("\r\n"),
  () => "x-empty:",
  () => ": nameless",
  () => "x-folded: a\r\n b",
  () => "x-nul: a\0b",
  () => "x-latin: \xe9\xff",
  () => "x y: z",
  () => "__proto__: x",
  () => "authorization: Bearer x",
  () => "authorization: Basic eDp5",
];

const contentTypes = [
  "application/json",
  "application/json",
  "application/json; charset=utf-8",
  "text/json",
  "application/x+json",
];

function framed(
  random: Random,
  body: string | undefined,
  needed: boolean,
): readonly [headers: readonly string[], sent: string] {
  if (body === undefined) return [random.chance(0.2) ? ["content-length: 0"] : [], ""];
  const type =
    needed || random.chance(0.3)
      ? [
          `content-type: ${random.chance(0.96) ? random.pick(contentTypes) : random.pick(["text/plain", "", "application/JSON", "json"])}`,
        ]
      : [];
  if (random.chance(0.25)) {
    const te = random.chance(0.95) ? "transfer-encoding: chunked" : "transfer-encoding: CHUNKED";
    return [[...type, te], chunked(random, body)];
  }
  const length = random.chance(0.96)
    ? String(body.length)
    : random.pick([
        String(body.length + 1),
        String(Math.max(0, body.length - 1)),
        `+${body.length}`,
        `${body.length},${body.length}`,
        `0${body.length}`,
        "-1",
        "1e1",
        "2097153",
        "99999999999999999999",
        "0x5",
        ` ${body.length} `,
      ]);
  const twice = random.chance(0.02) ? [`content-length: ${length}`] : [];
  return [[...type, `content-length: ${length}`, ...twice], body];
}

function chunked(random: Random, body: string): string {
  let text = "";
  for (let at = 0; at < body.length;) {
    const size = Math.min(body.length - at, random.pick([1, 2, 7, 100, 1_000_000]));
    const hex = random.pick([size.toString(16), size.toString(16).toUpperCase(), size.toString(16).padStart(4, "0")]);
    const said = random.chance(0.985)
      ? hex
      : random.pick([
          `${hex} `,
          `0x${hex}`,
          `-${hex}`,
          "ffffffffffffffff",
          "fffffffffffffffff",
          "",
          `${hex}g`,
          "7fffffff",
        ]);
    const extension = random.chance(0.9)
      ? ""
      : random.pick([";a", ";a=b", ';a="b;\\""', "; a = b", ";", `;${"x".repeat(20_000)}`, ";\n", ";a=\r"]);
    text += `${said}${extension}\r\n${body.slice(at, at + size)}\r\n`;
    at += size;
  }
  const trailers = random.chance(0.95)
    ? ""
    : random.pick(["x: y\r\n", "content-length: 5\r\n", "authorization: Bearer x\r\n", " x\r\n", "\0: a\r\n"]);
  return `${text}${random.pick(["0", "0", "000"])}\r\n${trailers}\r\n`;
}

function headerCase(random: Random, header: string): string {
  if (random.chance(0.9)) return header;
  const colon = header.indexOf(":");
  const [name, value] = [header.slice(0, colon), header.slice(colon + 1)];
  return random.oneOf(
    () => `${name.toUpperCase()}:${value}`,
    () => `${name}:${value.trim()}`,
    () => `${name}: \t${value}  `,
    () => (random.chance(0.1) ? `${name} :${value}` : header),
  );
}

function shuffled<Item>(random: Random, items: readonly Item[]): readonly Item[] {
  const left = [...items];
  return random.times(left.length, () => left.splice(random.below(left.length), 1)[0] as Item);
}
