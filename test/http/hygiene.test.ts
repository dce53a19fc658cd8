// No way around the guard: however a write is spelled, split, doubled or hidden behind something else, it is judged by the row
// that it reaches, and what reaches none is not run.
import * as fc from "fast-check";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import { allOperations, apiGroups, type Row } from "../../src/contract/operations.ts";
import { startDaemon } from "../../src/daemon.ts";
import { createFolder } from "../folder.ts";
import { createQuietLog } from "../quiet-log.ts";
import { openBare } from "./bare-connection.ts";
import { createFakeMachine } from "./fake-machine.ts";
import { bearer, keyFile, policyFile } from "./subject.ts";
import { testConfig } from "./test-config.ts";

// THE DAEMON --------------------------------------------------------------------------------------------------------------

const headerOf = (sub: string, scopes: readonly string[]): string =>
  `authorization: ${bearer({ sub, scopes }).authorization}\r\n`;

const readOnly = headerOf("reader", ["gpu-read", "cpu-read"]);
const full = headerOf("writer", apiGroups);

interface Guarded {
  readonly path: string;
  /** What reached a device. */
  readonly calls: readonly string[];
  readonly logged: readonly string[];
}

interface Guards {
  readonly key?: boolean;
  readonly policy?: string;
}

/** Files are trusted that belong to whoever runs this. */
async function startGuarded({ key: keyed, policy }: Guards): Promise<Guarded> {
  const machine = createFakeMachine();
  const log = createQuietLog();
  const listener = { mode: "uds", path: join(createFolder(), "socket"), permissions: 0o600 } as const;
  const config = testConfig({
    listener,
    ...(keyed ? keyFile() : {}),
    ...(policy === undefined ? {} : policyFile(policy)),
  });
  const euid = process.geteuid?.() ?? 0;
  const daemon = await startDaemon(config, { version: "1", clock: systemClock, log, euid, backends: machine.backends });
  onTestFinished(async () => {
    daemon.cut();
    await daemon.drain(1_000);
  });
  return { path: listener.path, calls: machine.calls, logged: log.lines };
}

const othersOnly = `[[rule]]\nname = "others"\nuids = [34009]\nallow = ${JSON.stringify(apiGroups)}\n`;

/** Those who may not write, each with what they send along. */
const guards = [
  { who: "a token that may read", guard: { key: true }, headers: readOnly },
  { who: "no token", guard: { key: true }, headers: "" },
  { who: "a uid to which the policy allows nothing", guard: { policy: othersOnly }, headers: "" },
] as const;

// REQUESTS ----------------------------------------------------------------------------------------------------------------

/** A way to make a write: where, and with which body. Each wire ignores what only the other one reads. */
interface Way {
  readonly path: string;
  readonly query: string;
  readonly body: string;
  /** The calls of a device that it takes. */
  readonly calls: readonly string[];
}

const values: Readonly<Record<string, boolean | number>> = {
  enabled: true,
  power_limit_mw: 200_000,
  min_clock_mhz: 500,
  max_clock_mhz: 1000,
  block: true,
};

function waysOf(row: Row): readonly Way[] {
  const names = [...Object.keys(row.parameters), "block"];
  const query = `?gpu_ids=0&${names.map((name) => `${name}=${values[name]}`).join("&")}`;
  const body = JSON.stringify(Object.fromEntries(names.map((name) => [name, values[name]])));
  const paths = [`/gpu/${row.name}`, ...(row.json?.paths ?? []).map((path) => `/gpu/0/${path}`)];
  const calls = row.by === "parts" ? ["resetGpuLockedClocks", "resetMemLockedClocks"] : [row.call];
  return paths.map((path) => ({ path, query, body, calls }));
}

const ways = allOperations.filter(({ kind }) => kind === "write").flatMap(waysOf);
const [anyWay = { path: "", query: "", body: "", calls: [] }] = ways;

/** The ways to change leases, with the status of whoever is let through. They reach no device. */
const leaseWays: readonly (Way & { readonly through: number })[] = [
  { path: "/lease/acquire", query: "?gpu_ids=0&exclusive=true&ttl_s=60", body: "", calls: [], through: 200 },
  { path: "/lease/renew", query: `?lease_id=${"0".repeat(32)}`, body: "", calls: [], through: 409 },
  { path: "/lease/release", query: "?lease=4711", body: "", calls: [], through: 409 },
];

const json = (body: string): string =>
  `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;

function requestOf(line: string, headers: string, body: string): string {
  return `${line} HTTP/1.1\r\nhost: x\r\n${headers}${json(body)}`;
}

const lastRequest = "GET /time HTTP/1.1\r\nconnection: close\r\n\r\n";

/** Statuses in the order of the replies. */
const statusesOf = (text: string): readonly number[] =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));

/** Sends whole requests on one connection, and gives back the status of each. */
async function exchange(path: string, requests: readonly string[]): Promise<readonly number[]> {
  const { text, closed } = openBare(path, requests.join("") + lastRequest);
  await closed;
  const statuses = statusesOf(text());
  expect(statuses).toHaveLength(requests.length + 1);
  expect(statuses.at(-1)).toBe(200);
  return statuses.slice(0, -1);
}

async function expectServing(path: string): Promise<void> {
  const { text, closed } = openBare(path, lastRequest);
  await closed;
  expect(text()).toMatch(/^HTTP\/1\.1 200 [^]*"timestamp_ms"/);
}

/** Sends bytes as they are; by the time that it settles the daemon has done all that it does with them. */
async function settle(path: string, bytes: string): Promise<string> {
  const { socket, text, closed } = openBare(path, bytes);
  await expectServing(path);
  socket.end();
  await closed;
  await expectServing(path);
  return text();
}

function chunksOf<Item>(items: readonly Item[], size: number): readonly (readonly Item[])[] {
  const count = Math.ceil(items.length / size);
  return Array.from({ length: count }, (_, index) => items.slice(index * size, (index + 1) * size));
}

// TARGETS -----------------------------------------------------------------------------------------------------------------

interface Variant {
  readonly target: string;
  /** Whether it is another spelling of the same path; undefined where a daemon may see it either way. */
  readonly same?: boolean;
}

const hex = (letter: string): string => `%${letter.charCodeAt(0).toString(16).padStart(2, "0")}`;
const escaped = (letter: string, index: number): string => (index % 2 === 0 ? hex(letter).toUpperCase() : hex(letter));

/** The text with one of its characters replaced, for each that there is a replacement for. */
function oneReplaced(text: string, replace: (letter: string, index: number) => readonly string[]): readonly string[] {
  const letters = [...text];
  return letters.flatMap((letter, index) =>
    replace(letter, index).map((other) => [...letters.slice(0, index), other, ...letters.slice(index + 1)].join("")),
  );
}

const slashes =
  "// %2f %2F / ; /./ /x/../ /%2e/ /%2e%2e/ /..%2f \\ /\\ %5c /%5c /;/ /;x=y/ %252f %c0%af %ef%bc%8f /%00/".split(" ");
const tails =
  "/ // . /. /.. ; ;x=y ;/.. %20 %00 %09 %0a %0d%0a %3f %23 + %2b ~ % %zz %u0020 .json /0 %c0%80 %ff &x".split(" ");
const heads =
  "/ /. /.. /%2e /time/.. /discover/%2e%2e /time/..%2f /x/.. //x /api /auth/whoami/.. /%2f /; /~ /gpu /%00".split(" ");

function variantsOf(path: string): readonly Variant[] {
  const isLetter = (letter: string): boolean => letter !== "/";
  const alternately = (parity: number): string =>
    [...path]
      .map((letter, index) => (isLetter(letter) && index % 2 === parity ? escaped(letter, index) : letter))
      .join("");
  const others = [
    ...oneReplaced(path, (letter) =>
      letter.toUpperCase() === letter ? [] : [letter.toUpperCase(), hex(letter.toUpperCase())],
    ),
    ...oneReplaced(path, (letter) =>
      isLetter(letter) ? [hex(letter).replace("%", "%25"), `%c1%${hex(letter).slice(1)}`] : [],
    ),
    ...oneReplaced(path, (letter) => (letter === "/" ? slashes.filter((slash) => slash !== "/") : [])),
    ...tails.map((tail) => path + tail),
    ...heads.map((head) => head + path),
    ...[
      path.toUpperCase(),
      `http:${path}`,
      `ftp://x${path}`,
      `http://x/time/..${path}`,
      `http://x?${path}`,
      `//x${path}`,
    ],
  ];
  const hosts = ["http://x", "HTTPS://x:1", "http://user:secret@x", "http://[::1]:80", "http://x@y:z@w"];
  return [
    ...oneReplaced(path, (letter, index) => (isLetter(letter) ? [escaped(letter, index)] : [])).map((target) => ({
      target,
      same: true,
    })),
    ...[
      alternately(0),
      alternately(1),
      [...path].map((letter) => (isLetter(letter) ? hex(letter) : letter)).join(""),
    ].map((target) => ({ target, same: true })),
    ...others.map((target) => ({ target, same: false })),
    ...hosts.map((host) => ({ target: host + path, same: true })),
    ...oneReplaced(path, (letter) => (isLetter(letter) ? [`${letter}#`, `${letter}%0`] : [])).map((target) => ({
      target,
    })),
    ...[path, alternately(0)].map((target) => ({ target: `http://${target}` })),
  ];
}

/** Whether node's parser takes it at all: what it does not closes the connection, and has one of its own here. */
const isWhole = (target: string): boolean => /^[!-~]+$/.test(target) && /^(\/|https?:\/\/)/i.test(target);

interface Spelled extends Variant {
  readonly request: string;
  readonly way: Way;
}

function spellings(headers: string, of: readonly Way[] = ways): readonly Spelled[] {
  return of.flatMap((way) =>
    variantsOf(way.path).map((variant) => {
      return { ...variant, way, request: requestOf(`POST ${variant.target}${way.query}`, headers, way.body) };
    }),
  );
}

describe.each(guards)("with $who", ({ guard, headers }) => {
  it("no spelling of the path of any write reaches a device, and none of a lease's has one begin", async () => {
    const { path, calls, logged } = await startGuarded(guard);
    const all = spellings(headers, [...ways, ...leaseWays]);
    const [whole, broken] = [all.filter(({ target }) => isWhole(target)), all.filter(({ target }) => !isWhole(target))];
    expect(whole.length).toBeGreaterThan(1_000);
    for (const chunk of chunksOf(whole, 40)) {
      const statuses = await exchange(
        path,
        chunk.map(({ request }) => request),
      );
      for (const [index, { target, same }] of chunk.entries()) {
        const refusals = [401, 403];
        // What is another path may be said not to exist, once it is clear that one may hear that.
        const allowed = same ? refusals : [...refusals, 400, 404];
        expect({ target, status: statuses[index] }).toEqual({ target, status: expect.toBeOneOf(allowed) });
      }
    }
    for (const { target, request } of broken) {
      const text = await settle(path, request + request);
      for (const status of statusesOf(text))
        expect({ target, status }).toEqual({ target, status: expect.toBeOneOf([400, 401, 403, 404]) });
    }
    expect(calls).toEqual([]);
    expect(logged.filter((line) => /\bLease \d/.test(line))).toEqual([]);
    await expectServing(path);
  });

  it("no other method, and no header that asks for another method or path, makes a write", async () => {
    const { path, calls } = await startGuarded(guard);
    for (const request of [...otherMethods(headers), ...overrides(headers)]) {
      const allowed = request.startsWith("GET /time") ? [200] : [400, 401, 403, 404];
      for (const status of statusesOf(await settle(path, request))) expect(status).toBeOneOf(allowed);
    }
    expect(calls).toEqual([]);
  });

  it.each(Object.entries(oddBytes(headers)))("%s: nothing is run, and the next one is answered", async (_, bytes) => {
    const { path, calls, logged } = await startGuarded(guard);
    const text = await settle(path, bytes);
    expect(statusesOf(text).filter((status) => status === 200 || status >= 500)).toEqual([]);
    expect(calls).toEqual([]);
    expect(logged.filter((line) => line.startsWith("error"))).toEqual([]);
  });

  it.each(Object.entries(ambiguousEnds(headers)))(
    "a request whose end can be seen in two places hides no write: %s",
    async (_, bytes) => {
      const { path, calls } = await startGuarded(guard);
      await settle(path, bytes);
      expect(calls).toEqual([]);
    },
  );
});

describe("with a token that may do everything", () => {
  it("escaped letters and the absolute form reach their row, and every other spelling reaches nothing", async () => {
    const { path, calls } = await startGuarded({ key: true });
    const whole = spellings(full).filter(({ target }) => isWhole(target));
    for (const chunk of chunksOf(whole, 40)) {
      const before = calls.length;
      const statuses = await exchange(
        path,
        chunk.map(({ request }) => request),
      );
      for (const [index, { target, same }] of chunk.entries()) {
        if (same !== undefined) {
          expect({ target, status: statuses[index] }).toEqual({
            target,
            status: same ? 200 : expect.toBeOneOf([400, 404]),
          });
        }
      }
      const reached = chunk.filter((_, index) => statuses[index] === 200).flatMap(({ way }) => way.calls);
      expect(calls.slice(before).map((call) => call.split(" ")[2])).toEqual(reached);
    }
    expect(new Set(calls.map((call) => call.split(" ")[2]))).toEqual(new Set(ways.flatMap((way) => way.calls)));
  });

  it.each(leaseWays)("$path is reached by those spellings alone as well", async (way) => {
    const { path, calls, logged } = await startGuarded({ key: true });
    const whole = spellings(full, [way]).filter(({ target }) => isWhole(target));
    const begun = (): number => logged.filter((line) => /\bLease \d+ .* has begun/.test(line)).length;
    let reached = 0;
    for (const chunk of chunksOf(whole, 40)) {
      const statuses = await exchange(
        path,
        chunk.map(({ request }) => request),
      );
      for (const [index, { target, same }] of chunk.entries()) {
        if (statuses[index] === way.through) reached += 1;
        if (same === undefined) continue;
        const status = same ? way.through : expect.toBeOneOf([400, 404]);
        expect({ target, status: statuses[index] }).toEqual({ target, status });
      }
    }
    expect(begun()).toBe(way.through === 200 ? reached : 0);
    expect(calls).toEqual([]);
  });

  it("a method is a method: in other cases, others, or said by a header it makes no write", async () => {
    const { path, calls } = await startGuarded({ key: true });
    for (const way of ways) {
      for (const request of [...otherMethods(full, way), ...overrides(full, way)]) {
        const allowed = request.startsWith("GET /time") ? [200] : [400, 404];
        for (const status of statusesOf(await settle(path, request))) expect(status).toBeOneOf(allowed);
      }
    }
    expect(calls).toEqual([]);
  });

  it.each(Object.entries(ambiguousEnds(full)))(
    "a request whose end can be seen in two places is the last on its connection: %s",
    async (_, bytes) => {
      const { path, calls } = await startGuarded({ key: true });
      const text = await settle(path, bytes);
      expect(statusesOf(text).filter((status) => status === 200)).toEqual([]);
      expect(calls).toEqual([]);
    },
  );

  it("is alone with it: the next requests on its connection have their own, or none", async () => {
    const { path, calls } = await startGuarded({ key: true });
    const line = `POST ${anyWay.path}${anyWay.query}`;
    const requests = [full, "", readOnly, full, "", readOnly].map((headers) => requestOf(line, headers, anyWay.body));
    expect(await exchange(path, requests)).toEqual([200, 401, 403, 200, 401, 403]);
    expect(calls).toHaveLength(2);
  });

  it("in a trailer, in the query, in a cookie, under another name or behind a bad one it does not count", async () => {
    const { path, calls } = await startGuarded({ key: true });
    const token = full.trim().slice("authorization: Bearer ".length);
    const line = `POST ${anyWay.path}${anyWay.query}`;
    const chunked = `${line} HTTP/1.1\r\nhost: x\r\ntrailer: authorization\r\ntransfer-encoding: chunked\r\n\r\n0\r\n${full}\r\n`;
    const requests = [
      chunked,
      requestOf(`${line}&access_token=${token}`, "", anyWay.body),
      requestOf(line, `cookie: authorization=Bearer ${token}\r\n`, anyWay.body),
      requestOf(line, full.replace("authorization", "proxy-authorization"), anyWay.body),
      requestOf(line, full.replace("authorization", "x-forwarded-authorization"), anyWay.body),
      requestOf(line, `authorization: Bearer a.b.c\r\n${full}`, anyWay.body),
      requestOf(line, `${readOnly}${full}`, anyWay.body),
    ];
    const statuses = await exchange(path, requests);
    expect(statuses).toEqual([401, 401, 401, 401, 401, 401, 403]);
    expect(calls).toEqual([]);
  });
});

function otherMethods(headers: string, { path, query, body } = anyWay): readonly string[] {
  const methods =
    "post Post POSt POSTS PUT PATCH DELETE HEAD OPTIONS TRACE GET PROPFIND M-SEARCH LOCK LINK SOURCE QUERY".split(" ");
  return methods.map((method) => requestOf(`${method} ${path}${query}`, headers, body));
}

/** POST is in none of these the method of a write. */
function overrides(headers: string, { path, query, body } = anyWay): readonly string[] {
  const target = path + query;
  const names = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"];
  const paths = ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path", "X-Forwarded-Uri", "Content-Location"];
  return [
    ...names.map((name) => requestOf(`GET ${target}`, `${headers}${name}: POST\r\n`, body)),
    requestOf(`GET ${target}&_method=POST`, headers, body),
    ...paths.map((name) => requestOf("POST /time", `${headers}${name}: ${target}\r\n`, body)),
    requestOf("GET /time", `${headers}X-Original-URL: ${target}\r\nX-HTTP-Method-Override: POST\r\n`, body),
  ];
}

// BYTES -------------------------------------------------------------------------------------------------------------------

/** Writes in heads and lines that no client sends, most of them with another write behind. */
function oddBytes(headers: string): Readonly<Record<string, string>> {
  const { path, query, body } = anyWay;
  const target = path + query;
  const line = `POST ${target}`;
  const plain = requestOf(line, headers, body);
  const withHeader = (header: string): string => requestOf(line, `${headers}${header}\r\n`, body) + plain;
  const bare = headers.trimEnd();
  return {
    "obs-fold in a header": withHeader("x: a\r\n b"),
    "obs-fold before the first header": `${line} HTTP/1.1\r\n x: y\r\n${headers}${json(body)}${plain}`,
    "obs-fold in the length": `${line} HTTP/1.1\r\n${headers}content-length:\r\n 0\r\n\r\n${plain}`,
    "line feeds alone": plain.replaceAll("\r\n", "\n") + plain,
    "carriage returns alone": plain.replaceAll("\r\n", "\r") + plain,
    "a line feed in a header": withHeader("x: y\nz: w"),
    "a carriage return in a header": withHeader("x: y\rz: w"),
    "NUL in the target": plain.replace(path, `${path}\0`) + plain,
    "NUL in a header": withHeader("x: a\0b"),
    "NUL in a header's name": withHeader("x\0: a"),
    "NUL before the request": `\0${plain}${plain}`,
    "a header without a colon": withHeader("nonsense"),
    "a header without a name": withHeader(": nonsense"),
    "a blank before a colon": withHeader("x : y"),
    "a header's name with a blank": withHeader("a b: c"),
    "letters beyond ASCII": withHeader("x: \u00e9\u00ff") + plain.replace(path, `${path}\u00e9`),
    "a huge header": withHeader(`x: ${"y".repeat(200_000)}`),
    "a huge name": withHeader(`${"y".repeat(200_000)}: x`),
    "many headers": withHeader("x: y\r\n".repeat(5_000).trimEnd()),
    "a huge target": requestOf(`POST ${path}${query}&x=${"y".repeat(100_000)}`, headers, body) + plain,
    "many blanks": plain.replaceAll(" ", " ".repeat(1_000)) + plain,
    "two Hosts": withHeader("host: y\r\nhost: z"),
    "two Origins": withHeader("origin: http://localhost\r\norigin: http://evil.example"),
    "a foreign Origin": withHeader("origin: http://evil.example"),
    "no Origin to name": withHeader("origin: null"),
    "two Authorizations": requestOf(line, `${headers}authorization: Bearer a.b.c\r\n`, body) + plain,
    "two Authorizations in one": requestOf(line, bare === "" ? "" : `${bare}, Bearer a.b.c\r\n`, body) + plain,
    "Basic of root": requestOf(line, "authorization: Basic cm9vdDo=\r\n", body) + plain,
    "a uid that the client names": withHeader(
      "x-remote-user: root\r\nx-uid: 34009\r\nx-real-ip: 127.0.0.1\r\nforwarded: for=127.0.0.1",
    ),
    "HTTP/0.9": `${line}\r\n${plain}`,
    "HTTP/0.9 by name": plain.replace("HTTP/1.1", "HTTP/0.9") + plain,
    "HTTP/2.0": plain.replace("HTTP/1.1", "HTTP/2.0") + plain,
    "HTTP/1.2": plain.replace("HTTP/1.1", "HTTP/1.2") + plain,
    "HTTP/1.10": plain.replace("HTTP/1.1", "HTTP/1.10") + plain,
    "http/1.1": plain.replace("HTTP/1.1", "http/1.1") + plain,
    "no version": plain.replace(" HTTP/1.1", " ") + plain,
    "another protocol": plain.replace("HTTP/1.1", "RTSP/1.0") + plain,
    "the preface of HTTP/2": `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${plain}`,
    "a hello of TLS": `\u0016\u0003\u0001\u0002\0${plain}`,
    "an upgrade to HTTP/2": withHeader(
      "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
    ),
    "an upgrade to a web socket": withHeader(
      "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x",
    ),
    "an expectation": withHeader("expect: 100-continue"),
    "an expectation of nonsense": withHeader("expect: a write"),
    "two blanks in the request line": plain.replace("POST ", "POST  ") + plain,
    "tabs in the request line": plain.replace("POST ", "POST\t").replace(" HTTP", "\tHTTP") + plain,
    "a blank before the request line": ` ${plain}${plain}`,
    "empty lines before the request line": `\r\n\r\n\r\n${plain}`,
    "OPTIONS *": `OPTIONS * HTTP/1.1\r\n${headers}\r\n${plain}`,
    "POST *": `POST *${query} HTTP/1.1\r\n${headers}\r\n${plain}`,
    "a tunnel": `CONNECT x:80 HTTP/1.1\r\n${headers}\r\n${plain}`,
    "a tunnel to a path": `CONNECT ${target} HTTP/1.1\r\n${headers}\r\n${plain}`,
    "a target without a slash": requestOf(`POST ${target.slice(1)}`, headers, body) + plain,
    "a connection that is to close": withHeader("connection: close"),
    "a connection that drops its Authorization": withHeader("connection: authorization, content-length, keep-alive"),
    "HTTP/1.0 that stays": plain.replace("HTTP/1.1\r\n", "HTTP/1.0\r\nconnection: keep-alive\r\n") + plain,
    "a compressed body": withHeader("content-encoding: gzip"),
  };
}

/** What may or may not be a whole request, with a write behind that is one only for those who see the end where it is not. */
function ambiguousEnds(headers: string): Readonly<Record<string, string>> {
  const hidden = requestOf(`POST ${anyWay.path}${anyWay.query}`, headers, anyWay.body);
  const front = (framing: string, body = "0\r\n\r\n"): string =>
    `POST /time HTTP/1.1\r\nhost: x\r\n${framing}\r\n\r\n${body}${hidden}`;
  const chunks = (body: string): string => front("transfer-encoding: chunked", body);
  const length = `content-length: ${hidden.length + 5}`;
  return {
    "a length and chunks": front("content-length: 5\r\ntransfer-encoding: chunked"),
    "chunks and a length": front("transfer-encoding: chunked\r\ncontent-length: 5"),
    "a length over the write, and chunks": front(`${length}\r\ntransfer-encoding: chunked`),
    "two lengths": front("content-length: 5\r\ncontent-length: 0"),
    "two lengths in one": front("content-length: 5, 0"),
    "a length twice": front("content-length: 5\r\ncontent-length: 5", "01234"),
    "a length with a sign": front("content-length: +5", "01234"),
    "a negative length": front("content-length: -5"),
    "a length in hexadecimal": front("content-length: 0x5"),
    "a length with a blank in it": front("content-length: 5 5"),
    "a length with a fraction": front("content-length: 5.0", "01234"),
    "an empty length": front("content-length:", ""),
    "a length over 64 bits": front("content-length: 18446744073709551621"),
    "chunks, then identity": front("transfer-encoding: chunked, identity"),
    "identity alone": front("transfer-encoding: identity"),
    "chunks by another name": front("transfer-encoding: xchunked"),
    "chunks with a parameter": front("transfer-encoding: chunked;q=1"),
    "chunks behind a vertical tab": front("transfer-encoding: \u000bchunked"),
    "chunks in quotes": front('transfer-encoding: "chunked"'),
    "chunks and, on a line of its own, identity": front("transfer-encoding: chunked\r\ntransfer-encoding: identity"),
    "identity and, on a line of its own, chunks": front(
      "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\ncontent-length: 5",
    ),
    "a blank before the colon": front("transfer-encoding : chunked\r\ncontent-length: 5"),
    "a fold before chunks": front("transfer-encoding:\r\n chunked\r\ncontent-length: 5"),
    "chunks behind a line feed": front("x: y\ntransfer-encoding: chunked\r\ncontent-length: 5"),
    "a size in hexadecimal notation": chunks("0x0\r\n\r\n"),
    "a size with a sign": chunks("+0\r\n\r\n"),
    "a negative size": chunks("-1\r\n\r\n"),
    "a size with a blank before it": chunks(" 0\r\n\r\n"),
    "a size over 64 bits": chunks("10000000000000000\r\n\r\n"),
    "a size that ends with a line feed": chunks("0\n\r\n"),
    "a size that ends with a carriage return": chunks("0\r\r\n"),
    "an extension with a line feed": chunks("0;x\ny\r\n\r\n"),
    "a chunk longer than it says": chunks("1\r\nabc\r\n0\r\n\r\n"),
    "a chunk without its end": chunks("1\r\na0\r\n\r\n"),
    "no end of chunks": chunks("5\r\nabcde\r\n"),
  };
}

// ANY TARGET --------------------------------------------------------------------------------------------------------------

/** All that can be the right to something. */
const rightNames = [
  ...new Set([...apiGroups, ...allOperations.flatMap(({ device, name }) => [name, `${device}/${name}`])]),
];

/** A rule for each right, for everyone whose token's subject has it between bars. */
const byRight = rightNames
  .map((right) => `[[rule]]\nname = "${right}"\ntokens = ["*|${right}|*"]\nallow = ["${right}"]\n`)
  .join("");

const includes = (held: readonly string[], { group, device, name }: Row): boolean =>
  [group, name, `${device}/${name}`].some((right) => held.includes(right));

/**
 * The rows that a call which reached a device can be for: power is read for those who follow it, and CPUs' from their counters;
 * all clocks are unlocked in two parts; and a state is put together.
 */
function rowsOf(call: string): readonly Row[] {
  const [device = "", , method = ""] = call.split(" ");
  const others: Readonly<Record<string, readonly string[]>> = {
    "gpu getPower": ["streamPower"],
    "cpu getCumulativeEnergy": ["getPower", "streamPower"],
    "gpu resetGpuLockedClocks": ["resetLockedClocks"],
    "gpu resetMemLockedClocks": ["resetLockedClocks"],
    ...Object.fromEntries(stateCalls.map((reading) => [`gpu ${reading}`, ["getState"]])),
  };
  const methods = new Set([method, ...(others[`${device} ${method}`] ?? [])]);
  return allOperations.filter((row) => row.device === device && methods.has(row.call));
}

/** What a state is put together from. */
const stateCalls = ["getPowerLimit", "getEnforcedPowerLimit", "getPersistenceMode", "getThrottleReasons"];

const bases = allOperations
  .filter(({ kind }) => kind !== "stream")
  .flatMap((row) => {
    const names = [...Object.keys(row.parameters), ...(row.kind === "write" ? ["block"] : [])];
    const query = [`${row.device}_ids=0`, ...names.map((name) => `${name}=${values[name] ?? true}`)].join("&");
    const body = JSON.stringify(Object.fromEntries(names.map((name) => [name, values[name] ?? true])));
    const method = row.kind === "write" ? "POST" : "GET";
    return [
      ...(row.query || row.by === "settings" ? [{ method, target: `/${row.device}/${row.name}?${query}`, body }] : []),
      ...(row.json?.paths ?? []).map((path) => ({
        method: row.json?.method ?? "",
        target: `/${row.device}/0/${path}`,
        body,
      })),
    ];
  });

const pieces =
  "/ // %2f . .. /../ /./ ; % %00 %25 ? & = # + @ : http://x %20 0 gpu cpu set_ get_ _ power reset %67 %73 \\".split(
    " ",
  );
const edit = fc.record({
  how: fc.constantFrom("escape", "escape", "insert", "delete", "case", "repeat"),
  at: fc.nat(50),
  piece: fc.constantFrom(...pieces),
});
type Edit = { readonly how: string; readonly at: number; readonly piece: string };

function mangle(target: string, { how, at, piece }: Edit): string {
  const place = at % target.length;
  const letter = target.charAt(place);
  const flipped = letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase();
  const instead: Readonly<Record<string, string>> = {
    escape: escaped(letter, at),
    insert: letter + piece,
    delete: "",
    case: flipped,
    repeat: letter + letter,
  };
  return target.slice(0, place) + (instead[how] ?? letter) + target.slice(place + 1);
}

const mangled = fc
  .record({
    base: fc.constantFrom(...bases),
    method: fc.constantFrom(undefined, undefined, undefined, undefined, "GET", "POST", "PUT", "HEAD"),
    edits: fc.array(edit, { maxLength: 3 }),
  })
  .map(({ base, method, edits }) => {
    const target = edits.reduce((before, each) => mangle(before, each), base.target);
    return { method: method ?? base.method, target: target === "" ? "/" : target, body: base.body };
  });

it("whatever of a mangled target reaches a device is allowed to whoever sends it, by the token's scopes and by the policy", async () => {
  const { path, calls } = await startGuarded({ key: true, policy: byRight });
  const seen = { reached: 0, refused: 0 };
  const held = fc.oneof(fc.constant(rightNames), fc.subarray(rightNames, { maxLength: 6 }));
  const property = fc.asyncProperty(
    held,
    held,
    fc.array(mangled, { minLength: 12, maxLength: 12 }),
    async (scopes, allowed, sent) => {
      const headers = `connection: close\r\n${headerOf(`|${allowed.join("|")}|`, scopes)}`;
      const before = calls.length;
      const texts = sent.map(async ({ method, target, body }) => {
        const { text, closed } = openBare(path, requestOf(`${method} ${target}`, headers, body));
        await closed;
        return text();
      });
      const statuses = (await Promise.all(texts)).flatMap(statusesOf);
      for (const status of statuses) expect(status).toBeLessThan(500);
      const reached = calls.slice(before);
      for (const call of reached) {
        const rows = rowsOf(call);
        expect(rows.length).toBeGreaterThan(0);
        expect({ call, may: rows.some((row) => includes(scopes, row) && includes(allowed, row)) }).toEqual({
          call,
          may: true,
        });
      }
      seen.reached += reached.length;
      seen.refused += statuses.filter((status) => status === 403).length;
    },
  );
  await fc.assert(property, { seed: 20_261_124, numRuns: 200, endOnFailure: true });
  expect(seen.reached).toBeGreaterThan(50);
  expect(seen.refused).toBeGreaterThan(50);
  await expectServing(path);
});
