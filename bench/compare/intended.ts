// The differences that are meant: what is asked, what both answer, and why.
import type { Compared, Intended } from "./difference.ts";
import { commandLine } from "./intended-command-line.ts";

const wire: readonly Intended[] = [
  {
    original: /^400 text\/plain; charset=utf-8 GPU index \d+ does not exist\.$/,
    ours: /^400 application\/json {"error":"GPU index \d+ does not exist\.","code":"unknown_device"/,
    reason: "an unknown GPU is refused as JSON everywhere on the query wire, in the same words (13.2 #20)",
  },
  {
    ours: /^400 .*set_\w+_locked_clocks: min_clock_mhz \d+ is above max_clock_mhz \d+/,
    reason: "a minimum above the maximum is refused before it reaches the driver (13.2 #19)",
  },
  {
    name: /&dry_run=true$/,
    original: /^400 .*unknown field `dry_run`/,
    ours: /^200 application\/json {"dry_run":true,[^[]*$/,
    reason: "every write can be rehearsed, and then no device hears of it",
  },
  {
    name: /^POST .*[?&]dry_run=(1|true)$/,
    original: /^400 .*unknown field `dry_run`/,
    ours: /^400 .*Query deserialize error: (missing field|provided string)/,
    only: ["body"],
    reason: "dry_run is known, so what else is wrong is what is told",
  },
  {
    name: /&dry_run=false$/,
    original: /^400 .*unknown field `dry_run`/,
    ours: /^200 \[nvml/,
    reason: "every write can be rehearsed, and one that is not is a write",
  },
];

const driver: readonly Intended[] = [
  {
    name: /^GET \/cpu\/get_power with .* in dram$/,
    original: /^500/,
    ours: /^200 .*"0":{"cpu_mw":\d+,"dram_mw":null}/,
    reason: "what can be read is answered; memory that cannot is null, as in a stream",
  },
  {
    name: /^GET \/gpu\/get_power\S* with .*(code:(2|3|6|13)\b|type:([04-9]|255)\b)/,
    only: ["calls"],
    reason: "where the field is not there, other ways to read the power are asked (13.2 #17)",
  },
  {
    name: "GET /gpu/get_power with field186.0=code:3",
    ours: /^200 .*nvmlDeviceGetPowerUsage 0 -> 0/,
    reason: "where the field is not there, other ways to read the power are asked (13.2 #17)",
  },
  {
    name: /type:[23],value:\d{10}/,
    ours: /"power_mw":{"0":4294967295}/,
    reason: "a value of over 32 bits is cut off at the largest, not truncated (13.2 #18)",
  },
  {
    name: /[=,]code:18\b/,
    ours: /^(200|500 .*NVML error: RM detects a driver\/library version mismatch.*) closed /,
    only: ["headers", "closed"],
    reason: "after a driver was replaced under its library only a new process can go on, so ours answers and ends",
  },
  {
    suite: /CPUs/,
    name: /with "(100|200)\\n" in/,
    ours: /_energy_uj":\d+/,
    only: ["body"],
    reason: "a counter that wrapped went through 0, too: maximum + 1 is added (13.2 #15)",
  },
];

const access: readonly Intended[] = [
  {
    name: /^POST \/(%67pu\/|gpu\/%73et|gpu\/set%5F)/,
    ours: /^(403 .*lacks required scope 'gpu-control'|404 .*API group 'gpu-control' is not enabled|200 \[)/,
    reason: "the right of the row that the path reaches is needed, however it is written (13.2 #1)",
  },
  {
    name: /^GET \/(%63pu|%67pu)\//,
    ours: /^404 .*API group '(cpu|gpu)-read' is not enabled/,
    reason: "the right of the row that the path reaches is needed, however it is written (13.2 #1)",
  },
  {
    name: /^GET \/(%74ime|%64iscover)/,
    original: /^401/,
    ours: /^200/,
    reason: "what is open is open however it is written",
  },
  {
    suite: /^0\.5\.0/,
    name: /^POST \/gpu\/0\/set_power_limit/,
    ours: /^(403|404) .*gpu-control|^400 text\/plain; charset=utf-8 Content type error$/,
    reason: "the JSON wire is served as well, with the right to write (13.2 #1)",
  },
  {
    name: /^GET \/healthz( |$)/,
    original: /^(401|404)/,
    ours: /^200 application\/json {"status":"ok"/,
    reason: "how the daemon is, is told to everyone",
  },
  {
    name: /^GET \/policy\/explain/,
    original: /^404/,
    ours: /^(403|404) application\/json {"error":"(Only root may ask this|There is no policy)/,
    reason: "root can ask what the policy says",
  },
  {
    name: /"Origin: (http:\/\/evil\.example|null)"$/,
    ours: /^403 .*"code":"origin_refused"} closed$/,
    reason: "pages from elsewhere have no business here, whatever their visitor's browser can reach",
  },
  {
    suite: /over TCP/,
    name: /^POST "Host: (y|a b|evil\.example)"$/,
    ours: /^403 .*"code":"origin_refused"} closed$/,
    reason: "on loopback a name that is not this machine's is one that a page has made its own",
  },
  {
    name: "POST /gpu/set_power_limit with set_power_limit scope",
    original: /^401/,
    ours: /^200 \[nvml/,
    reason: "a scope can be one operation",
  },
  {
    name: "POST /gpu/set_power_limit with set_persistence_mode scope",
    original: /^401/,
    ours: /^403 .*lacks required scope/,
    reason: "a scope can be one operation, and is then no other",
  },
  {
    name: /^claims: (an unknown scope|a scope of one operation|a scope in upper case)$/,
    original: /^401/,
    ours: /^200/,
    reason: "a scope that this version does not know is ignored (13.2 #13)",
  },
  {
    name: /^head: (crit|b64 false)$/,
    ours: /^401/,
    reason: "what a token says must be understood, and is not, refuses it (RFC 7515, 4.1.11)",
  },
];

const tokens: readonly Intended[] = [
  {
    name: /^claims: exp (a whole float|with an exponent|beyond 64 bits)$/,
    original: /^401/,
    ours: /^200/,
    reason: "a whole number is one however it is written; only the holder of the key can write it",
  },
  {
    name: /^(claims: \w+ twice|head: a header with alg twice|head: typ number)$/,
    original: /^401/,
    ours: /^200/,
    reason:
      "of a key that is there twice the last one counts, and typ is not looked at; only the holder of the key can write them",
  },
  {
    name: "claims: claims that are empty",
    ours: /^401 .*"Invalid token: /,
    only: ["body"],
    reason: "which of its faults a malformed token is refused for is up to the library",
  },
  {
    name: /^(head|token|scheme): /,
    original: /^401 /,
    ours: /^401 .*"Invalid token: /,
    only: ["body"],
    reason: "which of its faults a malformed token is refused for is up to the library",
  },
];

const json: readonly Intended[] = [
  {
    name: /"x":"\ufffd"}$/,
    ours: /^400 .*invalid unicode code point$/,
    reason: "a body is text as a whole, what is ignored of it included (RFC 8259, 8.1)",
  },
  {
    name: /\\u0000|\\ud800|%00|%FF|set_persistent_mode/,
    original: /^(400|404) text/,
    ours: /^(400|404) text/,
    only: ["body"],
    reason: "how odd characters are quoted, and what 0.1.0 calls its struct, is no client's business",
  },
  {
    name: /Content-Type: application\/json(\+x|; charset| ;a=b|; =|; a=b; c|;;)$/,
    reason: "the type counts, not whether what follows it is well formed",
  },
  {
    original: /^400 text\/plain; charset=utf-8 Json deserialize error: /,
    ours: /^400 text\/plain; charset=utf-8 Json deserialize error: (expected value|EOF while|key must|trailing char)/,
    only: ["body"],
    reason: "what is no JSON is refused as that: another parser stops at another place",
  },
  {
    name: /^content-encoding /,
    ours: /^415 text\/plain; charset=utf-8 The content encoding/,
    reason: "compressed bodies are not read: no client sends them, and they can be bombs",
  },
  {
    suite: /^0\.2\.0/,
    name: /\/set_persistent_mode /,
    original: /^404$/,
    reason: "both spellings are served",
  },
  {
    suite: /^0\.1\.0/,
    original: /^no reply closed$/,
    ours: /^400 text\/plain; charset=utf-8 GPU index \d+ does not exist\.$/,
    reason: "0.1.0 breaks down over an unknown GPU; 0.2.0 answers (13.2 #28)",
  },
  {
    original: /^413/,
    ours: /^413 .* closed$/,
    only: ["headers", "closed"],
    reason: "a body that is too large is not read to its end, so the connection ends",
  },
];

const http: readonly Intended[] = [
  {
    name: /"Transfer-Encoding: identity"$/,
    ours: /^400 closed$/,
    reason: "there is no such encoding any more, so where the body ends is unknown (RFC 9112, 7)",
  },
  {
    name: /^(version HTTP\/1\.0$|1\.0 )/,
    only: ["http version", "headers"],
    reason: "node:http answers 1.1 to clients of 1.0, and tells them whether the connection ends (RFC 9110, 6.2)",
  },
  {
    name: /^(FOO|get|Get|PRI) /,
    original: /^404$/,
    ours: /^400 closed$/,
    reason: "node:http knows a closed list of methods",
  },
  {
    name: /^CONNECT /,
    ours: /^404 closed$/,
    only: ["headers", "closed"],
    reason: "node:http takes it for a tunnel, which ends with the refusal",
  },
  {
    name: /^(GET \/time|POST) "Connection: (close, x|upgrade\\r\\nUpgrade: h2c)"$/,
    ours: /^200/,
    only: ["headers", "closed"],
    reason: "close is one word of a list, and an upgrade that is not offered is ignored (RFC 9110, 7.6.1 and 7.8)",
  },
  {
    name: /"Transfer-Encoding: chunked\\r\\nContent-Length: 0"$/,
    ours: /^400 closed$/,
    reason: "two lengths may be an attempt to smuggle a request (RFC 9112, 6.3)",
  },
  {
    name: /^(bare line feeds|GET (time|:|x:80))$/,
    ours: /^400 closed$/,
    reason: "node:http's parser is the stricter one",
  },
  {
    name: /^(two blanks|GET \/<time>|GET \/time`x|GET http:\/\/\/time|a header name of 70 KiB|1\.0 chunked|a chunked body with a trailer)$/,
    ours: /^(200|404)/,
    reason: "node:http's parser is the more patient one",
  },
  {
    name: "a broken chunk",
    ours: /^(200|400) /,
    reason:
      "what was run is told, and a body that somebody wants is refused; the original answers this or that, or nothing",
  },
  {
    name: "two at once, the first closing",
    ours: /^200 [^+]* closed$/,
    reason: "what comes after a request that closes the connection is not read (RFC 9112, 9.6)",
  },
  {
    name: "two at once, the second broken",
    ours: /^200 .* \+ 400 closed$/,
    only: ["headers"],
    reason: "the first reply may already say that the connection ends",
  },
  {
    name: "no content length",
    ours: /^400 text.*EOF while parsing a value \+ 400 closed$/,
    reason: "what comes after the head is another request then, and a broken one",
  },
  {
    name: "1.0 expect",
    ours: /^200/,
    reason: "clients of 1.0 do not know 100 (RFC 9110, 15.2)",
  },
  {
    name: "GET ftp://x/time",
    ours: /^404$/,
    reason: "it is no ftp server",
  },
  {
    name: "half a second head",
    ours: /^200 .* \+ 408 closed$/,
    reason: "a head that is not complete in time gets its 408 also on a connection that was used before",
  },
  {
    ours: /^200 text\/event-stream data: .*\\n\\ndata: /,
    only: ["one event per chunk"],
    reason: "readings that come together are sent together: events are told apart by their blank lines, not by chunks",
  },
  {
    name: "a stream of 1.0",
    ours: /^200 text\/event-stream data: /,
    only: ["http version", "headers"],
    reason: "HTTP/1.0 knows no chunks: the end of the connection ends the stream (13.2 #26)",
  },
  {
    name: "an idle connection",
    ours: /^200 .* \+ 200 /,
    reason: "idle connections live for 75 s, so that they never race the clients' 5 s (13.2 #6)",
  },
];

export const intended: readonly Intended[] = [
  ...wire,
  ...driver,
  ...access,
  ...tokens,
  ...json,
  ...http,
  ...commandLine,
];

export function ruleFor({ suite, name, original, ours, found }: Compared): Intended | undefined {
  return intended.find(
    (rule) =>
      fits(rule.suite, suite) &&
      fits(rule.name, name) &&
      fits(rule.original, original) &&
      fits(rule.ours, ours) &&
      found.every(({ what }) => rule.only?.includes(what) ?? true),
  );
}

function fits(pattern: string | RegExp | undefined, text: string): boolean {
  if (pattern === undefined) return true;
  return typeof pattern === "string" ? pattern === text : pattern.test(text);
}
