// HTTP itself: paths, methods, heads, bodies, versions and connections.
import type { Exchange } from "./exchange.ts";
import { get, post, raw, request, words } from "./requests.ts";

const time = "GET /time HTTP/1.1\r\nHost: localhost\r\n";
const limit = "/gpu/set_power_limit?gpu_ids=0&power_limit_mw=200000&block=true";
const paths = words(`
  / /x /Time /TIME /time/ //time /time// /./time /../time /x/../time /%74ime /tim%65 /time%2F /%2Ftime /time%20 /time%00
  /time%3Fx=1 /time;x /time%3B /%E2%82 /%FF /%zz /% /%7 /time%0A /discover/ /discover%2F /%64iscover /gpu /gpu/ /gpu//get_power
  /gpu/get_power/ /gpu/get_Power /gpu/%67et_power /gpu/get%5Fpower /gpu%2Fget_power /%67pu/get_power /gpu/get_power%20
  /gpu/get_power%3Fgpu_ids=0 /gpu/nothing /gpu/set_nothing /gpu/reset_nothing /gpu/reset_locked_clocks /cpu /cpu/ /cpu/nothing
  /%63pu/get_power /auth/ /auth/whoami/ /auth/%77hoami /AUTH/whoami /favicon.ico /index.html /healthz /healthz/ /policy/explain /gpu/get_power#x /time#x /#
  /gpu/get_power?gpu_ids=0#x /time? /?x /time%252F /%2574ime /gpu/get%2Bpower /time+ /+time /gpu/\\get_power /"time" /<time>
  /tim\u{e9} /time|x /time^ /time{} /time\`x /gpu/../time /gpu/./get_power /gpu/%2e%2e/time /gpu/%2e/get_power`);
const targets = words(`
  http://x/time http://x:80/time HTTP://x/time https://x/time http://x http://x? http://x/ http:///time http://x/time?x=1 x/time
  ftp://x/time http://[::1]/time http://a@b/time http://x/%74ime //x/time * time ?x=1 http:/time : x:80 http://x?x=1 //`);
const methods = words("HEAD POST PUT DELETE OPTIONS PATCH TRACE PROPFIND FOO get Get QUERY M-SEARCH PRI");
const versions = words("HTTP/1.0 HTTP/0.9 HTTP/1.2 HTTP/2.0 HTTP/3 HTTP/11 http/1.1 HTTP/1. XTTP/1.1 HTTP/01.1");
const lines = [
  ...["Expect: 100-continue", "Expect: 200-ok", "Expect: 100-Continue", "Upgrade: websocket", "Connection: close"],
  ...["Connection: Close", "Connection: keep-alive", "Connection: close, x", "Connection: upgrade\r\nUpgrade: h2c"],
  ...["Content-Length: 0", "Content-Length: -1", "Content-Length: +1", "Content-Length: abc", "Content-Length:"],
  ...["Content-Length: 1, 1", "Content-Length: 0\r\nContent-Length: 0", "Content-Length: 0\r\nContent-Length: 1"],
  ...["Content-Length: 99999999999999999999999", "Content-Length: 0x1", "Content-Length: 1 1", "Content-Length: 00"],
  ...["Transfer-Encoding: gzip", "Transfer-Encoding: identity", "Transfer-Encoding: chunked, chunked"],
  ...["Transfer-Encoding: chunked\r\nContent-Length: 0", "Transfer-Encoding: x", "Transfer-Encoding:", "TE: trailers"],
  ...["Host: y", "Host:", "Host: a b", "Host: evil.example", "X", ": x", "X : y", "X: a\r\n b", " X: y", "X: \u{1}"],
  ...["X: a\tb", "X:", "X:y", "X: \u{e9}", "X@: y", "X(: y", "X: y\u{0}", "Accept-Encoding: gzip, deflate, br, zstd"],
  ...[
    "Accept: text/event-stream",
    "Range: bytes=0-1",
    "If-None-Match: *",
    "If-Modified-Since: x",
    "X-HTTP-Method-Override: POST",
  ],
  ...["Origin: http://evil.example", "Origin: null", "Origin: http://localhost:3000", "Origin: http://127.0.0.1:8080"],
  ...["Cookie: a=b", "Authorization: Bearer x", "Authorization:", "Via: x", "X-Request-Id: mine", "Content-Type: ///"],
];
const many = (count: number): string => Array.from({ length: count }, (_, index) => `x${index}: y\r\n`).join("");

export const httpRequests: readonly Exchange[] = [
  ...paths.map((path) => get(path)),
  ...words("/gpu/%73et_power_limit /%67pu/set_power_limit /gpu/set%5Fpower_limit /gpu/set_power_limit/").map((path) =>
    post(`${path}?gpu_ids=0&power_limit_mw=200000&block=true`),
  ),
  ...targets.map((target) => request("GET", target)),
  ...methods.flatMap((method) => [request(method, "/time"), request(method, limit), request(method, "/nothing")]),
  request("OPTIONS", "*"),
  request("CONNECT", "x:80"),
  request("CONNECT", "/time"),
  ...versions.map((version) => raw(`version ${version}`, `GET /time ${version}\r\nHost: localhost\r\n\r\n`)),
  ...lines.map((line) => raw(`GET /time ${JSON.stringify(line)}`, `${time}${line}\r\n\r\n`)),
  ...lines.map((line) => raw(`POST ${JSON.stringify(line)}`, `POST ${limit} HTTP/1.1\r\n${line}\r\n\r\n`)),
  raw("no host", "GET /time HTTP/1.1\r\n\r\n"),
  raw("no version", "GET /time\r\n\r\n"),
  raw("1.0 without host", "GET /time HTTP/1.0\r\n\r\n"),
  raw("1.0 with keep-alive", "GET /time HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
  raw("1.0 write", `POST ${limit} HTTP/1.0\r\nContent-Length: 0\r\n\r\n`),
  raw("1.0 expect", "GET /time HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
  raw("1.0 chunked", `POST ${limit} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`),
  raw("h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  raw("TLS hello", Buffer.from("160301020001000001fc0303", "hex")),
  raw("garbage", "\u{1}\u{2}\u{3}\r\n\r\n"),
  raw("nothing but line ends", "\r\n\r\n\r\n\r\n"),
  raw("line ends before the request", `\r\n\r\n${time}\r\n`),
  raw("bare line feeds", "GET /time HTTP/1.1\nHost: localhost\n\n"),
  raw("bare carriage returns", "GET /time HTTP/1.1\rHost: localhost\r\r"),
  raw("two blanks", "GET  /time HTTP/1.1\r\n\r\n"),
  raw("tabs", "GET\t/time\tHTTP/1.1\r\n\r\n"),
  raw("a blank in the target", "GET /time x HTTP/1.1\r\n\r\n"),
  raw("a blank at the end of the first line", "GET /time HTTP/1.1 \r\n\r\n"),
  raw("latin1 in the target", Buffer.from("GET /tim\u{e9} HTTP/1.1\r\n\r\n", "latin1")),
  raw("a slow head", "GET /ti", 50, "me HTTP/1.1\r\nHo", 50, "st: localhost\r\n", 50, "\r\n"),
  raw("90 headers", `${time}${many(90)}\r\n`),
  raw("96 headers", `${time}${many(95)}\r\n`),
  raw("97 headers", `${time}${many(96)}\r\n`),
  raw("2000 headers", `${time}${many(2000)}\r\n`),
  raw("a head of 100 KiB", `${time}x: ${"y".repeat(100 * 1024)}\r\n\r\n`),
  raw("a head of 130 KiB", `${time}x: ${"y".repeat(130 * 1024)}\r\n\r\n`),
  raw("a header name of 70 KiB", `${time}${"x".repeat(70 * 1024)}: y\r\n\r\n`),
  ...[65_533, 65_534, 65_535, 65_536, 70_000].map((size) =>
    raw(`a target of ${size} bytes`, `GET /time?${"x".repeat(size - 6)} HTTP/1.1\r\nHost: localhost\r\n\r\n`),
  ),
  raw("a target of 140 KiB", `GET /time?${"x".repeat(140 * 1024)} HTTP/1.1\r\nHost: localhost\r\n\r\n`),
  raw("a body on GET", `${time}Content-Length: 3\r\n\r\nabc`),
  { ...raw("a body on GET, then another request", `${time}Content-Length: 3\r\n\r\nabc${time}\r\n`), replies: 2 },
  { ...raw("two requests at once", `${time}\r\n${time}\r\n`), replies: 2 },
  { ...raw("three at once, the second wrong", `${time}\r\nGET /x HTTP/1.1\r\n\r\n${time}\r\n`), replies: 3 },
  { ...raw("two at once, the first closing", `${time}Connection: close\r\n\r\n${time}\r\n`), replies: 2 },
  { ...raw("two at once, the second broken", `${time}\r\nGET\r\n\r\n`), replies: 2 },
  { ...raw("two on one connection", `${time}\r\n`, 100, `${time}\r\n`), replies: 2 },
  {
    ...raw("a write with a body, then another", `POST ${limit} HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd${time}\r\n`),
    replies: 2,
  },
  {
    ...raw(
      "a chunked body with a trailer",
      `${time}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n${time}\r\n`,
    ),
    replies: 2,
  },
  raw("a broken chunk", `POST ${limit} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`),
  raw("chunk extensions", `POST ${limit} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n`),
  {
    ...raw(
      "100-continue with a body",
      `POST ${limit} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n`,
      50,
      "x",
    ),
    replies: 2,
  },
];

/** What takes as long as the daemons wait. */
export const slowRequests: readonly Exchange[] = [
  { ...raw("nothing at all"), patience: 7_000 },
  { ...raw("half a head", "GET /time HT"), patience: 7_000 },
  { ...raw("an idle connection", `${time}\r\n`, 6_000, `${time}\r\n`), replies: 2, patience: 1_000 },
  { ...raw("half a second head", `${time}\r\nGET /ti`), replies: 2, patience: 7_000 },
];
