// Who is let in from a browser: each kind of listener, each Host, each Origin.
import { performance } from "node:perf_hooks";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StartError } from "../../src/contract/errors.ts";
import { createOriginGuard, type OriginRules } from "../../src/http/origin.ts";

const hostName = "Node7.cluster";
const allowed = ["https://dash.example:8443", "http://plain.example:80", "pages.example", "ported.example:3000"];

/** Listeners, with the address at which a connection arrives. */
const listeners = {
  "a Unix socket": { rules: { hostName, allowed }, localAddress: undefined },
  "loopback TCP": { rules: { hostName, allowed, loopback: true }, localAddress: "127.0.0.1" },
  "loopback TCP over IPv6": { rules: { hostName, allowed, loopback: true }, localAddress: "::1" },
  "TCP at 192.168.1.5": { rules: { hostName, allowed, loopback: false }, localAddress: "192.168.1.5" },
  "TCP at 192.168.1.5, on both families": {
    rules: { hostName, allowed, loopback: false },
    localAddress: "::ffff:192.168.1.5",
  },
  "TCP at 2001:db8::5": { rules: { hostName, allowed, loopback: false }, localAddress: "2001:db8::5" },
  "TCP at fe80::5, with its zone": { rules: { hostName, allowed, loopback: false }, localAddress: "fe80::5%eth0" },
} as const satisfies Record<string, { readonly rules: OriginRules; readonly localAddress: string | undefined }>;
type Listener = keyof typeof listeners;
const everywhere = Object.keys(listeners) as readonly Listener[];
const onLoopback = everywhere.filter((name) => name.startsWith("loopback"));

function judge(
  listener: Listener,
  said: Omit<Parameters<ReturnType<typeof createOriginGuard>>[0], "localAddress">,
): string {
  const { rules, localAddress } = listeners[listener];
  const refusal = createOriginGuard(rules)({ ...said, localAddress });
  if (refusal) expect(refusal).toMatchObject({ code: "origin_refused", status: 403 });
  return refusal?.message ?? "in";
}

/** Origins, with the listeners at which each is let in. */
const origins: readonly (readonly [origin: string, at: readonly Listener[]])[] = [
  ["http://localhost", everywhere],
  ["http://localhost:3000", everywhere],
  ["https://LOCALHOST:3000", everywhere],
  ["http://localhost.", everywhere],
  ["http://app.localhost:5173", everywhere],
  ["http://127.0.0.1:4938", everywhere],
  ["http://127.8.9.10", everywhere],
  ["http://[::1]:4938", everywhere],
  ["http://[0:0:0:0:0:0:0:1]", everywhere],
  ["http://[::ffff:127.0.0.1]", everywhere],
  ["http://[::ffff:7f00:1]", everywhere],
  ["http://node7.cluster:4938", everywhere],
  ["https://NODE7.Cluster.", everywhere],
  // Nobody else has a name without a dot.
  ["http://node7", everywhere],
  ["https://NODE7:4938", everywhere],
  ["https://dash.example:8443", everywhere],
  ["http://plain.example", everywhere],
  ["http://plain.example:80", everywhere],
  ["http://pages.example", everywhere],
  ["https://pages.example:9000", everywhere],
  ["http://ported.example:3000", everywhere],
  ["https://ported.example:3000", everywhere],
  ["http://192.168.1.5:3000", everywhere.filter((name) => name.includes("192.168.1.5"))],
  ["http://[2001:db8::5]", ["TCP at 2001:db8::5"]],
  ["http://[2001:DB8:0::5]:80", ["TCP at 2001:db8::5"]],
  ["http://[fe80::5]", ["TCP at fe80::5, with its zone"]],
  ...[
    "http://evil.example",
    "https://evil.example:4938",
    "http://6.6.6.6",
    "http://[2001:db8::6]",
    "http://[::ffff:6.6.6.6]",
    "http://0.0.0.0:4938",
    "http://[::]",
    "http://[::127.0.0.1]",
    "http://127.evil.example",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1.nip.example",
    "http://localhost.evil.example",
    "http://notlocalhost",
    "http://cluster",
    "http://node7.evil.example",
    "http://node7.cluster.evil.example",
    "http://evil-node7.cluster",
    "https://dash.example",
    "http://dash.example:8443",
    "https://dash.example:443",
    "https://plain.example",
    "http://plain.example:8080",
    "http://sub.pages.example",
    "http://ported.example",
    "http://ported.example:3001",
    "null",
    "",
    " ",
    "localhost",
    "localhost:3000",
    "//localhost",
    "://localhost",
    "http:localhost",
    "http:/localhost",
    "http://",
    "http://.",
    "http://:80",
    "http://localhost/",
    "http://localhost/x",
    "http://localhost?x",
    "http://localhost#x",
    "http://localhost\\@evil.example",
    "http://localhost@evil.example",
    "http://evil.example@localhost",
    "http://user:word@localhost",
    "http://localhost:80:80",
    "http://localhost:99999",
    "http://localhost:x",
    "http://localhost http://localhost",
    "http://localhost, http://localhost",
    "http://localhost,http://evil.example",
    " http://localhost",
    "http://localhost ",
    "http://localhost\t",
    "http://local%68ost",
    "http://l\u00f6calhost",
    "http://\uff4cocalhost",
    "http://[localhost]",
    "http://[::1",
    "http://::1",
    "http://[::1]x",
    "http://[::1%25eth0]",
    "http://[1::2::3]",
    "file://localhost",
    "chrome-extension://localhost",
    "ws://localhost",
    "javascript://localhost",
    "*",
  ].map((origin) => [origin, []] as const),
];

/** Values of Host, and whether each is let in on loopback. */
const hosts: readonly (readonly [host: string | undefined, isIn: boolean])[] = [
  ...[
    ...[undefined, "", "127.0.0.1:4938", "127.0.0.1", "127.1.2.3:80", "localhost:4938", "localhost", "LocalHost:1"],
    ...["localhost.:4938", "x.localhost:4938", "localhost:", "[::1]:4938", "[::1]", "[::ffff:127.0.0.1]:4938"],
    ...["node7.cluster:4938", "NODE7.CLUSTER", "node7.cluster.:4938", "node7:4938", "pages.example", "pages.example:1"],
    ...["dash.example", "dash.example:4938", "plain.example", "ported.example:4938"],
  ].map((host) => [host, true] as const),
  ...[
    ...["evil.example", "evil.example:4938", "6.6.6.6:4938", "192.168.1.5:4938", "0.0.0.0:4938", "[::]:4938"],
    ...["127.evil.example", "127.0.0.1.evil.example:4938", "localhost.evil.example", "cluster", "sub.pages.example"],
    ...["localhost:x", "localhost:4938:1", "localhost:123456", "localhost/", "user@localhost", "http://localhost"],
    ...[
      "localhost, localhost",
      " localhost",
      "[localhost]",
      "[::1",
      "::1",
      "null",
      ".",
      ":4938",
      "l\u00f6calhost",
      "*",
    ],
  ].map((host) => [host, false] as const),
];

/** What a browser says in Sec-Fetch-Site and Sec-Fetch-Dest, and whether it is let in where somebody looks. */
const sites: readonly (readonly [said: { readonly site?: string; readonly destination?: string }, isIn: boolean])[] = [
  ...["image", "script", "iframe", "empty", "object", "embed", "", "Document", undefined].map(
    (destination) => [{ site: "cross-site", ...(destination === undefined ? {} : { destination }) }, false] as const,
  ),
  [{ site: "cross-site", destination: "document" }, true],
  ...["same-origin", "same-site", "none"].flatMap((site) =>
    ["image", "empty", "document"].map((destination) => [{ site, destination }, true] as const),
  ),
  [{ destination: "image" }, true],
];

describe.each(everywhere)("at %s", (listener) => {
  it("a request without Host and Origin, as a program may send it, is let in", () => {
    expect(judge(listener, {})).toBe("in");
  });

  it.each(origins)("a page from %j is let in if it is this machine's or allowed there", (origin, at) => {
    const verdict = judge(listener, { origin });
    expect(verdict === "in").toBe(at.includes(listener));
    if (verdict !== "in") expect(verdict).toMatch(/^[^]+ --allow-origin \S+ [a-z ]+\.$/);
  });

  it.each(hosts)("Host %j counts on loopback alone", (host, isIn) => {
    const verdict = judge(listener, host === undefined ? {} : { host });
    expect(verdict === "in").toBe(isIn || !onLoopback.includes(listener));
    if (verdict !== "in") expect(verdict).toMatch(/^Host '[^]*' is not [^]* --allow-origin \S+ [a-z ]+\.$/);
  });

  it.each(sites)("what a browser says of a request without Origin, %j, is let in: %j", (said, isIn) => {
    const verdict = judge(listener, said);
    expect(verdict === "in").toBe(isIn);
    if (verdict !== "in") expect(verdict).toBe("What pages from elsewhere embed is not served; open it by itself.");
  });

  it("what a browser says of where a page stands counts only without an Origin, and lets no Host in", () => {
    for (const [said] of sites)
      for (const [origin, at] of origins)
        expect(judge(listener, { ...said, origin }) === "in").toBe(at.includes(listener));
    const foreign = { host: "evil.example", destination: "document", site: "cross-site" };
    expect(judge(listener, foreign) === "in").toBe(!onLoopback.includes(listener));
  });

  it("a request is let in if both its Origin and its Host are", () => {
    for (const [origin, at] of origins)
      for (const [host, isIn] of hosts) {
        const verdict = judge(listener, host === undefined ? { origin } : { origin, host });
        const expected = at.includes(listener) && (isIn || !onLoopback.includes(listener));
        expect([origin, host, verdict === "in"]).toEqual([origin, host, expected]);
      }
  });

  it("a value of 64 KB is refused at once, in one sentence that a person reads", () => {
    const fillers = ["a", ".", "-", "1", ":", "[", "]", "%", "@", "://", "http://", "a.", "[:", " ", "\u00ff", "127."];
    const began = performance.now();
    for (const filler of fillers)
      for (const head of ["", "http://", "http://[", "http://localhost.", "http://localhost:"]) {
        const long = head + filler.repeat(65_536 / filler.length);
        const messages = [judge(listener, { origin: long })];
        if (onLoopback.includes(listener)) messages.push(judge(listener, { host: long }));
        for (const message of messages) {
          expect(message).not.toBe("in");
          expect(message.length).toBeLessThan(700);
        }
      }
    expect(judge(listener, { origin: `http://${"a".repeat(65_536)}.localhost` })).not.toBe("in");
    expect(performance.now() - began).toBeLessThan(1_000);
  });
});

it("says what was refused, and what lets it in", () => {
  expect([
    judge("loopback TCP", { origin: "http://evil.example:8000" }),
    judge("loopback TCP", { origin: "null" }),
    judge("loopback TCP", { origin: "http://a/b" }),
    judge("loopback TCP", { host: "evil.example:4938" }),
    judge("loopback TCP", { host: "[2001:DB8::6]:4938" }),
    judge("loopback TCP", { host: "a/b" }),
  ]).toEqual([
    "Pages from 'http://evil.example:8000' may not use this daemon; --allow-origin http://evil.example:8000 lets them in.",
    "Pages without an origin ('null'), such as files, may not use this daemon; serve the page from a host that --allow-origin NAME lets in.",
    "Origin 'http://a/b' is not one scheme, host and port, such as https://node7:8443, which --allow-origin NAME could let in.",
    "Host 'evil.example:4938' is not a name of this machine; --allow-origin evil.example lets it in.",
    "Host '[2001:DB8::6]:4938' is not a name of this machine; --allow-origin [2001:db8::6] lets it in.",
    "Host 'a/b' is not a name or an address; a name that --allow-origin NAME gives is let in.",
  ]);
});

it("what a refusal names lets the next request in", () => {
  const from = { localAddress: "127.0.0.1", origin: "http://evil.example:8000", host: "[2001:db8::6]:4938" };
  const named: string[] = [];
  for (let round = 0; round < 2; round += 1) {
    const refusal = createOriginGuard({ hostName, allowed: named, loopback: true })(from);
    named.push(/--allow-origin (\S+)/.exec(refusal?.message ?? "")?.[1] ?? "none");
  }
  expect(named).toEqual(["http://evil.example:8000", "[2001:db8::6]"]);
  expect(createOriginGuard({ hostName, allowed: named, loopback: true })(from)).toBeUndefined();
});

it("a machine without a name, and one without anything that is allowed, let nobody in for that", () => {
  for (const name of ["", ".", "%"]) {
    const guard = createOriginGuard({ hostName: name, allowed: [], loopback: true });
    for (const origin of ["http://", "http://.", "http://..", "http://evil.example", "null", ""])
      expect(guard({ origin, localAddress: "" })).toBeDefined();
    for (const host of [".", "..", ":", "evil.example"]) expect(guard({ host, localAddress: "" })).toBeDefined();
  }
});

it.each(["http://", "ftp://node7", "node7/", "http://node7/x", "*", "", "node7:99999", "[::::]", "a b"])(
  "an entry %j, which could let nobody in, stops the start",
  (entry) => {
    const create = (): unknown => createOriginGuard({ hostName, allowed: [entry] });
    expect(create).toThrow(StartError);
    expect(create).toThrow(`--allow-origin '${entry}' is neither an origin such as https://node7:8443 nor a host name`);
  },
);

describe("whatever is sent", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      "http://",
      "https://",
      "localhost",
      ".localhost",
      "127.0.0.1",
      "127.",
      "[::1]",
      "[::ffff:",
      "7f00:1]",
    ),
    fc.constantFrom("evil.example", "6.6.6.6", hostName, "pages.example", "ported.example", ":3000", ":80", "0x7f.1"),
    fc.constantFrom(
      "@",
      ":",
      "/",
      "\\",
      "?",
      "#",
      ".",
      "%",
      ",",
      " ",
      "\t",
      "[",
      "]",
      "null",
      "%2e",
      "\u3002",
      "\u00ad",
    ),
    fc.webAuthority(),
    fc.ipV4(),
    fc.ipV6().map((address) => `[${address}]`),
    fc.string({ unit: "binary", maxLength: 3 }),
  );
  const text = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(""));
  const listener = fc.constantFrom(...everywhere);
  const inSet = ["node7.cluster", "node7", "dash.example", "plain.example", "pages.example", "ported.example"];

  /** A browser's reading of who is asked: the parser of Node is the one of the URL standard. */
  function isInSet(read: string, localAddress: string | undefined): boolean {
    const host = read.replace(/\.$/, "");
    const local = localAddress?.replace("::ffff:", "").replace("%eth0", "");
    return (
      [...inSet, "localhost", "[::1]", local, `[${local}]`].includes(host) ||
      /\.localhost$|^127\.\d+\.\d+\.\d+$|^\[::ffff:7f[\da-f]{2}:[\da-f]+\]$/.test(host)
    );
  }

  it("no page is let in whose host, as a browser reads it, is not in the set", () => {
    const holds = fc.property(
      listener,
      fc.oneof(
        text,
        text.map((rest) => `http://${rest}`),
      ),
      (at, origin) => {
        if (judge(at, { origin }) !== "in") return;
        const { hostname, username, password, pathname, search, hash } = new URL(origin);
        expect({ hostname, isIn: isInSet(hostname, listeners[at].localAddress) }).toEqual({ hostname, isIn: true });
        expect({ username, password, pathname, search, hash }).toEqual({
          ...{ username: "", password: "", pathname: "/", search: "", hash: "" },
        });
      },
    );
    fc.assert(holds, { numRuns: 5000 });
  });

  it("no Host is let in on loopback that a browser would send for another site", () => {
    const holds = fc.property(fc.constantFrom(...onLoopback), text, (at, host) => {
      if (host === "" || judge(at, { host }) !== "in") return;
      const { hostname } = new URL(`http://${host}`);
      expect({ hostname, isIn: isInSet(hostname, listeners[at].localAddress) }).toEqual({ hostname, isIn: true });
    });
    fc.assert(holds, { numRuns: 5000 });
  });

  it("a site of the internet is let in nowhere, by its name or by its address", () => {
    const site = fc.oneof(
      fc.domain(),
      fc.ipV4().filter((address) => !address.startsWith("127.") && address !== "192.168.1.5"),
      fc.ipV6().map((address) => new URL(`http://[${address}]`).hostname),
    );
    const port = fc.option(
      fc.nat({ max: 65_535 }).map((number) => `:${number}`),
      { nil: "" },
    );
    const holds = fc.property(listener, site, port, fc.constantFrom("http", "https"), (at, host, colon, scheme) => {
      fc.pre(!isInSet(host, listeners[at].localAddress));
      expect(judge(at, { origin: `${scheme}://${host}${colon}` })).toMatch(/ may not use this daemon; /);
      if (onLoopback.includes(at))
        expect(judge(at, { host: host + colon })).toMatch(/ is not a name of this machine; /);
    });
    fc.assert(holds, { numRuns: 2000 });
  });
});
