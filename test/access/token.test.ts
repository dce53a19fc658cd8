// Tokens: the same bytes as the original's, and the same answer to each that is wrong.
import { createHmac } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nothingRevoked, parseRevocations, type Revocations } from "../../src/access/revocations.ts";
import { createTokenVerifier, issueToken, type Claims } from "../../src/access/token.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import { createFakeClock } from "../fake-clock.ts";

const key = Buffer.from("k".repeat(32));
const encode = (value: unknown): string =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

function sign(head: unknown, claims: unknown): string {
  const signed = `${encode(head)}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
}

const header = { typ: "JWT", alg: "HS256" };

/** The claims, or what the refusal says. */
async function verdict(token: string, clock = createFakeClock()): Promise<Claims | string> {
  try {
    return await createTokenVerifier(key, clock).verify(`Bearer ${token}`);
  } catch (error) {
    if (error instanceof ZeusdError && error.status === 401) return error.message;
    throw error;
  }
}

describe("a token", () => {
  it.each([
    [
      { sub: "alice", scopes: ["gpu-read", "cpu-read"] },
      "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsInNjb3BlcyI6WyJncHUtcmVhZCIsImNwdS1yZWFkIl19.J3Rs7fkeuiBSMWGqVLXQ2vGIrvR0mei0SKUF6SYDypA",
    ],
    [
      { sub: 'zoë "x"', scopes: [] },
      "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ6b8OrIFwieFwiIiwic2NvcGVzIjpbXX0.ahS0xhayVGcTxBFnfnDodMfmAnHHV71ATpneIem-PY4",
    ],
  ])("for %j has the bytes that the original 0.5.0 gives it", async (claims, token) => {
    expect(await issueToken(key, claims)).toBe(token);
    expect(await verdict(token)).toEqual(claims);
  });

  it("is verified to what it was issued with", async () => {
    const optional = { exp: fc.nat().map((ahead) => 2 ** 40 + ahead), iat: fc.nat(), jti: fc.string() };
    const claims = fc.record(
      { sub: fc.string(), scopes: fc.array(fc.string()), ...optional },
      { requiredKeys: ["sub", "scopes"] },
    );
    const survives = fc.asyncProperty(claims, async (given) => {
      expect(await verdict(await issueToken(key, given))).toEqual(given);
    });
    await fc.assert(survives);
  });

  it("says when it was issued and its id after what the original says", async () => {
    const claims = { sub: "a", scopes: ["gpu-read"], exp: 2e9, iat: 17, jti: "x" };
    const [, said = ""] = (await issueToken(key, claims)).split(".");
    expect(Buffer.from(said, "base64url").toString()).toBe(
      '{"sub":"a","scopes":["gpu-read"],"exp":2000000000,"iat":17,"jti":"x"}',
    );
  });

  it("with one character changed is refused, also if it still spells the same bytes", async () => {
    const token = await issueToken(key, { sub: "alice", scopes: ["gpu-control"] });
    for (let at = 0; at < token.length; at += 1) {
      const changed = token.slice(0, at) + (token[at] === "A" ? "B" : "A") + token.slice(at + 1);
      expect(await verdict(changed)).toMatch(/^Invalid token: /);
    }
  });

  it("may have unknown scopes and claims, and a null for what is absent (13.2 #13)", async () => {
    const claims = { sub: "a", scopes: ["gpu-read", "gpu-fly"], exp: null, aud: null, iss: "x", nbf: 9e12 };
    expect(await verdict(sign(header, claims))).toEqual({ sub: "a", scopes: ["gpu-read", "gpu-fly"] });
  });

  it.each([
    { iat: "x" },
    { iat: -1 },
    { iat: 1.5 },
    { iat: null },
    { iat: 1_700_000_000_000 },
    { jti: 1 },
    { jti: null },
    { iat: [], jti: {} },
  ])("of another program with %j is taken, since the original takes it, as one that does not say", async (odd) => {
    expect(await verdict(sign(header, { sub: "a", scopes: [], ...odd }))).toEqual({ sub: "a", scopes: [] });
  });

  it("has one spelling: what is left over in its last letter is 0, as in the original's", async () => {
    const token = await issueToken(key, { sub: "alice", scopes: [] });
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const taken = await Promise.all([...letters].map((letter) => verdict(token.slice(0, -1) + letter)));
    expect(taken.filter((outcome) => typeof outcome === "object")).toHaveLength(1);
    expect(new Set(taken)).toContain("Invalid token: InvalidSignature");
  });

  it.each([
    ["one part", "abc", "InvalidToken"],
    ["two parts", "a.b", "InvalidToken"],
    ["four parts", "a.b.c.d", "InvalidToken"],
    ["another algorithm", sign({ typ: "JWT", alg: "HS384" }, { sub: "a", scopes: [] }), "InvalidAlgorithm"],
    ["an audience", sign(header, { sub: "a", scopes: [], aud: "zeusd" }), "InvalidAudience"],
    ["no algorithm", sign({ typ: "JWT", alg: "none" }, { sub: "a", scopes: [] }), ""],
    ["a header that is no JSON", sign("nonsense", { sub: "a", scopes: [] }), "JSON error: "],
    ["claims that are no JSON", sign(header, "nonsense"), "JSON error: "],
    ["claims that are no object", sign(header, "[]"), "JSON error: "],
    ["no user", sign(header, { scopes: [] }), "JSON error: "],
    ["no scopes", sign(header, { sub: "a" }), "JSON error: "],
    ["scopes that are no names", sign(header, { sub: "a", scopes: [1] }), "JSON error: "],
    ["an expiry with a fraction", sign(header, { sub: "a", scopes: [], exp: 1.5 }), "JSON error: "],
    ["an expiry that is text", sign(header, { sub: "a", scopes: [], exp: "9999999999" }), "JSON error: "],
    ["a negative expiry", sign(header, { sub: "a", scopes: [], exp: -1 }), "JSON error: "],
  ])("with %s is refused", async (_, token, reason) => {
    expect(await verdict(token)).toMatch(new RegExp(`^Invalid token: ${reason}`));
  });

  it("is taken for 60 s after its expiry, also when it was known before", async () => {
    const clock = createFakeClock(1_000_000_000_000);
    const verifier = createTokenVerifier(key, clock);
    const authorization = `Bearer ${sign(header, { sub: "a", scopes: [], exp: 1_000_000_000 })}`;
    expect(await verifier.verify(authorization)).toMatchObject({ sub: "a" });
    await clock.advance(60_999);
    expect(await verifier.verify(authorization)).toMatchObject({ sub: "a" });
    await clock.advance(1);
    await expect((async () => verifier.verify(authorization))()).rejects.toThrow("Token has expired.");
    expect(await verdict(authorization.slice("Bearer ".length), clock)).toBe("Token has expired.");
  });

  it("is remembered once it was found good, but not more than 1024 of them", async () => {
    const verifier = createTokenVerifier(key, createFakeClock());
    const authorizations = Array.from(
      { length: 1025 },
      (_, index) => `Bearer ${sign(header, { sub: String(index), scopes: [] })}`,
    );
    const [first = ""] = authorizations;
    await verifier.verify(first);
    expect(verifier.verify(first)).toEqual({ sub: "0", scopes: [] });
    for (const authorization of authorizations) await verifier.verify(authorization);
    expect(verifier.verify(first)).toBeInstanceOf(Promise);
    expect(verifier.verify(authorizations[1])).toEqual({ sub: "1", scopes: [] });
  });

  it("that several bring while it is checked is checked once for all of them, who go on in the order in which they came", async () => {
    const verifier = createTokenVerifier(key, createFakeClock());
    const authorization = `Bearer ${sign(header, { sub: "a", scopes: [] })}`;
    const order: number[] = [];
    const waiting = [0, 1, 2, 3].map(async (index) => {
      const claims = await verifier.verify(authorization);
      order.push(index);
      return claims;
    });
    const [first, ...others] = await Promise.all(waiting);
    for (const claims of others) expect(claims).toBe(first);
    expect(order).toEqual([0, 1, 2, 3]);
    expect(verifier.verify(authorization)).toBe(first);
  });

  it("that is wrong is refused to all who bring it at the same time, and checked anew when it comes again", async () => {
    const verifier = createTokenVerifier(Buffer.from("x".repeat(32)), createFakeClock());
    const authorization = `Bearer ${sign(header, { sub: "a", scopes: [] })}`;
    for (let round = 0; round < 2; round += 1) {
      const outcomes = await Promise.allSettled([0, 1, 2].map(async () => verifier.verify(authorization)));
      for (const outcome of outcomes)
        expect(outcome).toMatchObject({ reason: { message: "Invalid token: InvalidSignature" } });
    }
  });

  it.each([undefined, "", "Bearer", "bearer x.y.z", "Basic x", "Token x"])(
    "is asked for when the header is %j",
    async (authorization) => {
      await expect((async () => createTokenVerifier(key, createFakeClock()).verify(authorization))()).rejects.toThrow(
        "Authentication required. Provide an Authorization: Bearer <token> header.",
      );
    },
  );
});

describe("a revoked token", () => {
  const claims = { sub: "eve", scopes: [], exp: 2_000_000_000, jti: "1" };
  const authorization = `Bearer ${sign(header, claims)}`;
  const revokedText = "Token has been revoked.";

  /** A verifier, and the revocations that are in force, which a test can exchange. */
  function createSubject(first: Revocations, clock = createFakeClock()) {
    const inForce = { now: first };
    const verifier = createTokenVerifier(key, clock, () => inForce.now);
    return { inForce, clock, verify: async () => verifier.verify(authorization) };
  }

  it("is refused with 401", async () => {
    const { verify } = createSubject(parseRevocations("jti 1"));
    await expect(verify()).rejects.toMatchObject({ code: "unauthenticated", status: 401, message: revokedText });
    await expect(verify()).rejects.toThrow(revokedText);
  });

  it("is refused from the moment on at which it is revoked, also when it was known before, and taken again after it", async () => {
    const { verify, inForce } = createSubject(nothingRevoked);
    expect(await verify()).toEqual(claims);
    inForce.now = parseRevocations("jti 1");
    await expect(verify()).rejects.toThrow(revokedText);
    await expect(verify()).rejects.toThrow(revokedText);
    inForce.now = parseRevocations("jti 2");
    expect(await verify()).toEqual(claims);
  });

  it("is refused if it is revoked while it is checked, and taken if that is called off meanwhile", async () => {
    const { verify, inForce } = createSubject(nothingRevoked);
    const checking = [verify(), verify()];
    inForce.now = parseRevocations("jti 1");
    for (const outcome of await Promise.allSettled(checking))
      expect(outcome).toMatchObject({ reason: { message: revokedText } });
    const again = verify();
    inForce.now = nothingRevoked;
    expect(await again).toEqual(claims);
  });

  it("is told only to whoever brings one that is good otherwise: a wrong or expired one is refused for that", async () => {
    const { verify, clock } = createSubject(parseRevocations("jti 1"), createFakeClock(2_000_000_000_000));
    await expect(verify()).rejects.toThrow(revokedText);
    await clock.advance(61_000);
    await expect(verify()).rejects.toThrow("Token has expired.");
    const verifier = createTokenVerifier(key, clock, () => parseRevocations("jti 1"));
    await expect((async () => verifier.verify(`${authorization.slice(0, -4)}AAAA`))()).rejects.toThrow("Invalid token");
  });

  it("is looked up once for each set of revocations, not for each request", async () => {
    const asked: string[] = [];
    const counting = (name: string): Revocations => ({ includes: () => asked.push(name) < 0 });
    const { verify, inForce } = createSubject(counting("first"));
    for (let request = 0; request < 3; request += 1) await verify();
    inForce.now = counting("second");
    for (let request = 0; request < 3; request += 1) await verify();
    expect(asked).toEqual(["first", "second"]);
  });
});
