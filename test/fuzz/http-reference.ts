// What a careful reader of RFC 9112 makes of a client's bytes, and of a daemon's replies. It takes only what admits of one
// reading; of all else it says so, and says nothing about what follows.

export interface SeenRequest {
  readonly method: string;
  readonly target: string;
  readonly version: "1.0" | "1.1";
  /** By names in lower case, in order. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Decoded, if it was sent in chunks. */
  readonly body: string;
}

export interface SeenStream {
  /** Those that are whole. */
  readonly requests: readonly SeenRequest[];
  /**
   * How the bytes end: with a whole request, within one, with what can be read in more than one way, or after a request that
   * said that it is the last.
   */
  readonly tail: "whole" | "unfinished" | "unclear" | "closed";
  /** What follows the whole requests. */
  readonly rest: string;
}

type Parsed = { readonly request: SeenRequest; readonly length: number } | "unfinished" | "unclear";

export function readStream(bytes: string): SeenStream {
  const requests: SeenRequest[] = [];
  let rest = bytes.replace(/^(?:\r\n)+/, "");
  while (rest !== "") {
    const parsed = readRequest(rest);
    if (typeof parsed === "string") return { requests, tail: parsed, rest };
    requests.push(parsed.request);
    rest = rest.slice(parsed.length).replace(/^(?:\r\n)+/, "");
    if (isLast(parsed.request)) return { requests, tail: rest === "" ? "whole" : "closed", rest };
  }
  return { requests, tail: "whole", rest };
}

/** The value of a header that is there once; the first, if it is there more often. */
export function header({ headers }: Pick<SeenRequest, "headers">, name: string): string | undefined {
  return headers.find(([each]) => each === name)?.[1];
}

function isLast(request: SeenRequest): boolean {
  const said = header(request, "connection");
  return said === "close" || (request.version === "1.0" && said !== "keep-alive");
}

const line = /^(GET|POST|PUT|HEAD|DELETE|PATCH) (\/[!-~]*|https?:\/\/[\w.:@[\]-]+\/[!-~]*) HTTP\/(1\.[01])$/;
/** With these a request is more than its text. */
const unclearNames = /^(?:upgrade|expect|transfer-encoding|content-length|connection)$/;

function readRequest(bytes: string): Parsed {
  const end = bytes.indexOf("\r\n\r\n");
  // Half a head may be wrong already, and is not looked at.
  if (end < 0) return "unclear";
  const [first = "", ...lines] = bytes.slice(0, end).split("\r\n");
  const [, method, target, version] = line.exec(first) ?? [];
  if (method === undefined || target === undefined || target.length > 60_000) return "unclear";
  if (lines.length > 90 || end > 100_000) return "unclear";
  const headers: (readonly [string, string])[] = [];
  for (const each of lines) {
    const [, name, value] = /^([\w!#$%&'*+.^`|~-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*$/.exec(each) ?? [];
    if (name === undefined || value === undefined) return "unclear";
    headers.push([name.toLowerCase(), value]);
  }
  const seen = { method, target, version: version as "1.0" | "1.1", headers };
  const names = headers.map(([name]) => name).filter((name) => unclearNames.test(name));
  if (new Set(names).size !== names.length || names.includes("upgrade") || names.includes("expect")) return "unclear";
  if (!/^(?:close|keep-alive)$/.test(header(seen, "connection") ?? "close")) return "unclear";
  return readBody(bytes, end + 4, seen);
}

function readBody(bytes: string, at: number, seen: Omit<SeenRequest, "body">): Parsed {
  const [length, encoding] = [header(seen, "content-length"), header(seen, "transfer-encoding")];
  if (encoding !== undefined) {
    if (encoding !== "chunked" || length !== undefined || seen.version === "1.0") return "unclear";
    return readChunks(bytes, at, seen);
  }
  if (length === undefined) return { request: { ...seen, body: "" }, length: at };
  if (!/^\d{1,7}$/.test(length)) return "unclear";
  const end = at + Number(length);
  if (end > bytes.length) return "unfinished";
  return { request: { ...seen, body: bytes.slice(at, end) }, length: end };
}

function readChunks(bytes: string, start: number, seen: Omit<SeenRequest, "body">): Parsed {
  let [at, body] = [start, ""];
  for (;;) {
    const [head, size] = /^([\da-f]{1,6})(?:;[a-z]{1,20}(?:=[a-z]{1,20})?)?\r\n/i.exec(bytes.slice(at, at + 60)) ?? [];
    if (head === undefined || size === undefined) return "unclear";
    at += head.length;
    const end = at + Number.parseInt(size, 16);
    if (end === at) {
      if (bytes.slice(at, at + 2) !== "\r\n") return "unclear";
      return { request: { ...seen, body }, length: at + 2 };
    }
    if (bytes.length < end + 2) return "unclear";
    if (bytes.slice(end, end + 2) !== "\r\n") return "unclear";
    body += bytes.slice(at, end);
    at = end + 2;
  }
}

// REPLIES -----------------------------------------------------------------------------------------------------------------

export interface SeenReply {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  /** False for a stream that goes on. */
  readonly whole: boolean;
}

export interface SeenReplies {
  /** Without those of the 1xx kind. */
  readonly replies: readonly SeenReply[];
  /** What is wrong with them. */
  readonly wrong?: string;
  /** What came of a reply that is not whole. */
  readonly rest: string;
}

/** Of replies to `HEAD`, and of those to bytes in which nobody can tell, the body may be left out. */
export function readReplies(bytes: string, requests: readonly SeenRequest[]): SeenReplies {
  const replies: SeenReply[] = [];
  let rest = bytes;
  while (rest !== "") {
    const end = rest.indexOf("\r\n\r\n");
    if (end < 0) {
      const begins = /^(?:HTTP\/1\.1 \d{3} |HTTP\/1\.1 ?\d{0,3}$|H)/.test(rest) || "HTTP/1.1 ".startsWith(rest);
      return { replies, rest, ...(begins ? {} : { wrong: "a reply does not begin as one" }) };
    }
    const [first = "", ...lines] = rest.slice(0, end).split("\r\n");
    const [, code] = /^HTTP\/1\.1 ([1-5]\d\d) [A-Za-z' -]+$/.exec(first) ?? [];
    if (code === undefined)
      return { replies, rest, wrong: `a reply begins with ${JSON.stringify(first.slice(0, 60))}` };
    if (code.startsWith("1")) {
      if (first !== "HTTP/1.1 100 Continue" || lines.length > 0) return { replies, rest, wrong: `a reply is ${first}` };
      rest = rest.slice(end + 4);
      continue;
    }
    const headers: (readonly [string, string])[] = [];
    for (const each of lines) {
      const [, name, value] = /^([A-Za-z-]+): ([ -~]*)$/.exec(each) ?? [];
      if (name === undefined || value === undefined)
        return { replies, rest, wrong: `a reply has the header ${JSON.stringify(each)}` };
      headers.push([name.toLowerCase(), value]);
    }
    const taken = takeBody(rest.slice(end + 4), Number(code), headers, requests[replies.length]?.method);
    if (typeof taken === "string") return { replies, rest, wrong: taken };
    if (!taken) return { replies, rest };
    replies.push({ status: Number(code), headers, body: taken.body, whole: taken.whole });
    rest = taken.rest;
  }
  return { replies, rest };
}

function takeBody(
  bytes: string,
  status: number,
  headers: SeenReply["headers"],
  method: string | undefined,
): { readonly body: string; readonly whole: boolean; readonly rest: string } | string | undefined {
  const count = (name: string): number => headers.filter(([each]) => each === name).length;
  if (count("x-request-id") !== 1) return `a reply of ${status} has ${count("x-request-id")} request ids`;
  if (count("date") !== 1) return `a reply of ${status} has ${count("date")} dates`;
  const isStream = header({ headers }, "content-type") === "text/event-stream";
  if (!isStream) {
    const length = header({ headers }, "content-length") ?? "";
    if (count("content-length") !== 1 || count("transfer-encoding") > 0 || !/^\d+$/.test(length))
      return `a reply of ${status} has no clear length`;
    const isBare = method === "HEAD" || (method === undefined && (bytes === "" || bytes.startsWith("HTTP/1.1 ")));
    const end = isBare ? 0 : Number(length);
    return bytes.length < end ? undefined : { body: bytes.slice(0, end), whole: true, rest: bytes.slice(end) };
  }
  if (count("content-length") > 0) return "a stream has a length";
  if (count("transfer-encoding") === 0) return { body: bytes, whole: false, rest: "" };
  let [at, body] = [0, ""];
  for (;;) {
    const [head, size] = /^([\da-f]{1,6})\r\n/.exec(bytes.slice(at, at + 10)) ?? [];
    if (head === undefined || size === undefined) {
      return /^[\da-f]{0,6}\r?$/.test(bytes.slice(at)) ? { body, whole: false, rest: "" } : "a stream has a bad chunk";
    }
    const [start, end] = [at + head.length, at + head.length + Number.parseInt(size, 16)];
    if (end === start) return { body, whole: true, rest: bytes.slice(end + 2) };
    body += bytes.slice(start, end);
    at = end + 2;
  }
}
