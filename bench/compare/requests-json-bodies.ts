// How a body comes on the JSON wire: large, in chunks, compressed.
import { gzipSync } from "node:zlib";
import type { Exchange } from "./exchange.ts";
import { postJson, raw } from "./requests.ts";

const to = "/gpu/0/set_power_limit";
const ok = '{"power_limit_mw":200000,"block":true}';

export const bodyRequests: readonly Exchange[] = [...sizes(), ...chunked(), ...encoded()];

/** Bodies about the limit of 2 MiB. */
function sizes(): readonly Exchange[] {
  const padded = (size: number): string => `${" ".repeat(size - ok.length)}${ok}`;
  const declare = (size: number | bigint): Exchange =>
    raw(
      `a body declared as ${size}`,
      `POST ${to} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: ${size}\r\n\r\n`,
    );
  return [
    { ...postJson(to, padded(33_000)), name: "a body of 33,000 bytes" },
    { ...postJson(to, padded(300_000)), name: "a body of 300,000 bytes" },
    { ...postJson(to, padded(2_097_152)), name: "a body of 2 MiB" },
    declare(2_097_153),
    declare(10_000_000_000),
    declare(18_446_744_073_709_551_615n),
    raw(
      "413 before the id's range",
      `POST /gpu/9/set_power_limit HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 3000000\r\n\r\n`,
    ),
    raw(
      "400 for the type before 413",
      `POST ${to} HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 3000000\r\n\r\n`,
    ),
    raw(
      "100-continue",
      `POST ${to} HTTP/1.1\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 38\r\n\r\n`,
      50,
      ok,
    ),
  ].map((one) => (one.name === "100-continue" ? { ...one, replies: 2 } : one));
}

function chunked(): readonly Exchange[] {
  const head = `POST ${to} HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
  return [
    raw("chunked in one", `${head}${chunk(ok)}0\r\n\r\n`),
    raw("chunked in many", `${head}${[...ok].map(chunk).join("")}0\r\n\r\n`),
    raw("chunked and empty", `${head}0\r\n\r\n`),
    raw("chunked and slow", head, 30, chunk(ok.slice(0, 10)), 30, chunk(ok.slice(10)), 30, "0\r\n\r\n"),
    raw("chunked beyond the limit", `${head}${chunk(" ".repeat(2_097_153))}`),
    raw("chunked beyond the limit in pieces", head, ...Array.from({ length: 34 }, () => chunk(" ".repeat(65_536)))),
    raw("a broken chunk", `${head}zz\r\n`),
    { ...raw("chunked, then another", `${head}${chunk(ok)}0\r\n\r\nGET /x HTTP/1.1\r\n\r\n`), replies: 2 },
  ];
}

function encoded(): readonly Exchange[] {
  const type = "Content-Type: application/json";
  const coded = (coding: string, body: string | Buffer): Exchange => ({
    ...postJson(to, body, { headers: [type, `Content-Encoding: ${coding}`] }),
    name: `content-encoding ${coding}`,
  });
  return [
    coded("gzip", gzipSync(ok)),
    ...["identity", "", "Identity", "x", "gzip, identity", "chunked"].map((coding) => coded(coding, ok)),
    { ...coded("gzip", ok), name: "content-encoding gzip, but it is not" },
  ];
}
