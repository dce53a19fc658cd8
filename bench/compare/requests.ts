// Writes requests as bytes, so that lists of them stay short.
import type { Exchange } from "./exchange.ts";

export type More = Partial<Exchange> & { readonly headers?: readonly string[]; readonly body?: string | Buffer };

/** A request whose head is just what is given: no header is added but `Host`. */
export function request(method: string, target: string, { headers = [], body = "", ...more }: More = {}): Exchange {
  const head = [`${method} ${target} HTTP/1.1`, "Host: localhost", ...headers].join("\r\n");
  const name = [`${method} ${target}`, ...headers].join(" ");
  return { name: shorten(name), send: [Buffer.from(`${head}\r\n\r\n`), body], ...more };
}

export const get = (target: string, more?: More): Exchange => request("GET", target, more);

/** As the Python clients post on the query wire. */
export function post(target: string, { headers = [], ...more }: More = {}): Exchange {
  const name = [`POST ${target}`, ...headers].join(" ");
  return request("POST", target, { name: shorten(name), headers: ["Content-Length: 0", ...headers], ...more });
}

/** As the Python clients post on the JSON wire. */
export function postJson(target: string, body: string | Buffer, { headers, ...more }: More = {}): Exchange {
  const type = headers ?? ["Content-Type: application/json"];
  const name = shorten([`POST ${target} ${body}`, ...(headers ?? [])].join(" "));
  return request("POST", target, {
    name,
    headers: [...type, `Content-Length: ${Buffer.byteLength(body)}`],
    body,
    ...more,
  });
}

/** Bytes as they are. */
export const raw = (name: string, ...send: Exchange["send"]): Exchange => ({ name, send });

/** A list of what has no blanks in it. */
export const words = (text: string): readonly string[] => text.trim().split(/\s+/);

function shorten(text: string): string {
  const line = text.replaceAll("\n", "\\n").replaceAll("\r", "\\r");
  return line.length > 160 ? `${line.slice(0, 160)}…` : line;
}
