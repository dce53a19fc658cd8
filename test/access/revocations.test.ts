// The file of revoked tokens: what it refuses, and that no line of it is silently without effect.
import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nothingRevoked, parseRevocations } from "../../src/access/revocations.ts";
import type { Claims } from "../../src/access/token.ts";

const noon = 1_795_521_600;
const noonText = "2026-11-24T12:00:00Z";
const alice: Claims = { sub: "alice", scopes: ["gpu-read"], iat: noon, jti: "a1" };
const token = "eyJhbGciOiJIUzI1NiJ9.e30.AAAA";
const digest = createHash("sha256").update(token).digest("hex");

function revokes(text: string, claims: Claims = alice): boolean {
  return parseRevocations(text).includes(token, claims);
}

describe("a file of revocations", () => {
  it.each(["", "\n\n", "\ufeff", "# nothing yet\n  # jti a1\n\t\n", "#", "\r\n"])(
    "that is %j revokes nothing",
    (text) => {
      expect(revokes(text)).toBe(false);
      expect(nothingRevoked.includes(token, alice)).toBe(false);
    },
  );

  it.each([
    "jti a1",
    "jti a1\n",
    "jti a1\r\n",
    "\ufeffjti a1\r\n",
    "\t jti \t a1 \t",
    "# lost laptop\n\njti b2\njti a1\njti c3",
    `sha256 ${digest}`,
    `sha256 ${digest.toUpperCase()}\r\n`,
    "sub alice",
    "sub\talice  ",
    "sub alice before 2026-11-24T12:00:01Z",
    "sub alice before 2026-11-24T12:00:00.001Z",
    "sub alice\tbefore\t2026-11-24T12:00:01Z",
    "sub alice BEFORE 2026-11-24T12:00:01Z",
    `sub alice before 2026-11-24T12:00:01Z\nsub alice before ${noonText}`,
    `sub alice\nsub alice before ${noonText}`,
  ])("with %j revokes alice's token", (text) => {
    expect(revokes(text)).toBe(true);
  });

  it.each([
    "jti A1",
    "jti a",
    "jti alice",
    `sha256 ${digest.replace(/.$/, (last) => (last === "0" ? "1" : "0"))}`,
    "sub Alice",
    "sub alic",
    "sub alice smith",
    "sub a1",
    `sub alice before ${noonText}`,
    "sub alice before 2026-11-24T12:00:00.000Z",
    "sub alice before 1970-01-01T00:00:00Z",
    "sub alice before 0000-01-01T00:00:00Z",
  ])("with %j does not revoke alice's token", (text) => {
    expect(revokes(text)).toBe(false);
  });

  it("revokes before a time what was issued before it, and what does not say when", () => {
    const text = `sub alice before ${noonText}`;
    expect(revokes(text, { ...alice, iat: noon - 1 })).toBe(true);
    expect(revokes(text, { ...alice, iat: 0 })).toBe(true);
    expect(revokes(text, { ...alice, iat: noon })).toBe(false);
    expect(revokes(text, { sub: "alice", scopes: [] })).toBe(true);
    expect(revokes(text, { sub: "bob", scopes: [] })).toBe(false);
  });

  it("revokes a user for ever without a time, whenever a token was issued", () => {
    for (const iat of [0, noon, 253_402_300_799]) expect(revokes("sub alice", { ...alice, iat })).toBe(true);
  });

  it("takes a token without an id for none of the ids", () => {
    expect(revokes("jti undefined\njti null", { sub: "bob", scopes: [] })).toBe(false);
  });

  it.each(["alice smith", "before", "the day before", "a before b", `alice before ${noonText}`, "Zoë 日本", "a#1"])(
    "can name the user %j, since the last before of a line counts",
    (sub) => {
      expect(revokes(`sub ${sub} before 9999-12-31T23:59:59Z`, { ...alice, sub })).toBe(true);
      expect(revokes(`sub ${sub} before 9999-12-31T23:59:59Z`)).toBe(false);
    },
  );

  it.each(["constructor", "__proto__", "toString"])("has no users and ids of its own, such as %s", (name) => {
    expect(revokes("sub x\njti x", { sub: name, scopes: [], jti: name })).toBe(false);
    expect(revokes(`sub ${name}`, { sub: name, scopes: [] })).toBe(true);
  });

  it.each([
    ["jti a\n\njit b", "line 3: 'jit' is no kind of revocation; use jti, sha256 or sub"],
    ["JTI b", "line 1: 'JTI' is no kind of revocation; use jti, sha256 or sub"],
    ["jti=a1", "line 1: 'jti=a1' is no kind of revocation"],
    [`${token}\n`, "line 1: 'eyJhbGciOiJIUzI1NiJ9…' is no kind of revocation"],
    ["jti", "line 1: jti takes one id without blanks"],
    ["jti a1 # laptop", "comments on lines of their own"],
    ["jti a1 b2", "line 1: jti takes one id without blanks"],
    ["jti a1\u00a0b2", "line 1: jti takes one id without blanks"],
    [`jti ${token}`, "line 1: this is a token and not its id; use jti with the id in it, or sha256"],
    ["sha256", "line 1: sha256 takes the SHA-256 of a whole token, 64 hexadecimal digits"],
    [`sha256 ${digest}  -`, "64 hexadecimal digits, and nothing after it"],
    [`sha256 ${digest.slice(1)}`, "64 hexadecimal digits"],
    [`sha256 ${digest.slice(1)}g`, "64 hexadecimal digits"],
    ["sub", "line 1: sub takes the name of a user"],
    ["sub before", "line 1: sub takes the name of a user"],
    [`sub before ${noonText}`, "line 1: sub takes the name of a user"],
    ["sub alice # left in May", "after a name no comment may follow; put comments on lines of their own"],
    ["sub # left in May", "no comment may follow"],
    ["sub alice before", "line 1: before takes a time in UTC such as 2026-11-24T12:00:00Z, and '' is none"],
    ["sub alice before 2026-11-24", "'2026-11-24' is none"],
    ["sub alice Before yesterday", "'yesterday' is none"],
    ["sub alice before 2026-11-24T12:00:00", "is none"],
    ["sub alice before 2026-11-24T12:00:00+01:00", "is none"],
    ["sub alice before 2026-11-24 12:00:00Z", "is none"],
    ["sub alice before 2026-02-30T12:00:00Z", "is none"],
    ["sub alice before 2026-11-24T24:00:00Z", "is none"],
    ["sub alice before 2026-11-24T23:59:60Z", "is none"],
    ["sub alice before 2026-11-24T12:00:00.Z", "is none"],
    [`sub alice before ${noonText} # left`, "is none"],
    ["jti a\0", "line 1: here is a control character or one that is no UTF-8"],
    ["# old line ends\rjti a1\rsub alice", "line 1: here is a control character"],
    ["sub Zo\ufffd", "line 1: here is a control character or one that is no UTF-8"],
    [Buffer.from("\ufeffjti a1\n", "utf16le").toString("utf8"), "line 1: here is a control character"],
  ])("with %j is refused as a whole", (text, reason) => {
    const parse = (): unknown => parseRevocations(`${text}\njti a1`);
    expect(parse).toThrow(reason);
    expect(parse).toThrow(/^line \d+: [^\n]+$/);
  });

  it("does not repeat much of a line that is wrong: it may be a token, and errors are logged", () => {
    for (const line of [`jti x\n${"s".repeat(9999)}`, `sub a before ${"s".repeat(9999)}`, `sha256 ${"s".repeat(9999)}`])
      expect(() => parseRevocations(line)).toThrow(/^(?!.*s{21}).{1,200}$/);
  });
});

describe("any text", () => {
  const word = fc.oneof(
    fc.constantFrom("jti", "sha256", "sub", "before", noonText, digest, "alice", "a1", "#", "\ufeff", "\0"),
    fc.constantFrom(" ", "\t", "\n", "\r\n", "\r", "\u00a0"),
    fc.string({ unit: "binary", maxLength: 5 }),
  );
  const text = fc.array(word, { maxLength: 30 }).map((words) => words.join(""));
  const claims = fc.record(
    { sub: fc.oneof(word, text), scopes: fc.constant([]), iat: fc.nat(), jti: fc.oneof(word, text) },
    { requiredKeys: ["sub", "scopes"] },
  );

  it("is either refused, naming the line, or gives a judgement of any token", () => {
    const holds = fc.property(
      fc.oneof(text, fc.string({ unit: "binary" })),
      fc.string(),
      claims,
      (given, some, says) => {
        const lines = given.split("\n").length;
        try {
          expect(parseRevocations(given).includes(some, says)).toBeTypeOf("boolean");
        } catch (error) {
          const [, line] = /^line (\d+): [^\n]+$/.exec(error instanceof Error ? error.message : "") ?? [];
          expect(Number(line)).toBeGreaterThan(0);
          expect(Number(line)).toBeLessThanOrEqual(lines);
        }
      },
    );
    fc.assert(holds, { numRuns: 2000 });
  });

  it("that is taken revokes something by each line that is neither empty nor a comment", () => {
    const holds = fc.property(text, (given) => {
      for (const line of given.split("\n")) {
        const effect = effectOf(line);
        if (effect) expect(parseRevocations(line).includes(token, effect)).toBe(true);
      }
    });
    fc.assert(holds, { numRuns: 2000 });
  });

  /** A token that the line names, if it is taken; undefined if it is refused, empty or a comment. */
  function effectOf(line: string): Claims | undefined {
    try {
      parseRevocations(line);
    } catch {
      return undefined;
    }
    const said = line.trim();
    const [kind] = said.split(/\s/);
    const rest = said.slice(kind?.length).trim();
    if (said === "" || said.startsWith("#") || kind === "sha256") return undefined;
    if (kind === "jti") return { sub: "", scopes: [], jti: rest };
    return { sub: rest.replace(/\sbefore\s+\S+$/i, "").trim(), scopes: [] };
  }

  it("of 10,000 lines is read in well under a second, and so is a line of a megabyte", () => {
    const began = performance.now();
    parseRevocations(Array.from({ length: 10_000 }, (_, index) => `sub user ${index} before ${noonText}\n`).join(""));
    for (const filler of [" ", "before ", " #", "\t", "a", "before"]) {
      try {
        parseRevocations(`sub ${filler.repeat(1_000_000 / filler.length)} x`);
      } catch {
        // Only the time counts.
      }
    }
    expect(performance.now() - began).toBeLessThan(2_000);
  });
});
