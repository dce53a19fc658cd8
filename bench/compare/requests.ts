// Writes requests as bytes, so that lists of them stay short.
import type { Exchange } from "./exchange.ts";

export type More = Partial<Exchange> & { readonly headers?: readonly string[]; readonly body?: string | Buffer };

/** A request whose head is just what is given: no header is added but `Host`. */
export function request(method: string, target: string, { headers = [], body = "", ...more }: More = {}): Exchange {
  const head = [`${method} ${target} HTTP/1.1`, "Host: localhost", ...headers].join("\r\n");
  return { name: `${method} ${target}`, send: [Buffer.from(`${head}\r\n\r\n`), body], ...more };
}

export const get = (target: string, more?: More): Exchange => request("GET", target, more);

/** As the Python clients post on the query wire. */
export function post(target: string, { headers = [], ...more }: More = {}): Exchange {
  return request("POST", target, { headers: ["Content-Length: 0", ...headers], ...more });
}

/** As the Python clients post on the JSON wire. */
export function postJson(target: string, body: string, { headers = [], ...more }: More = {}): Exchange {
  const type = ["Content-Type: application/json", `Content-Length: ${Buffer.byteLength(body)}`];
  const shown = body.length > 100 ? `${body.slice(0, 100)}…` : body;
  return request("POST", target, { name: `POST ${target} ${shown}`, headers: [...type, ...headers], body, ...more });
}

/** Bytes as they are. */
export const raw = (name: string, ...send: Exchange["send"]): Exchange => ({ name, send });
