// Tokens under fuzz: of all that is made from a good one, only itself is good.
import { createHmac } from "node:crypto";
import { createTokenVerifier, type Claims, type TokenVerifier } from "../../src/access/token.ts";
import { systemClock } from "../../src/contract/clock.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import { mutate } from "./mutate.ts";
import type { Random } from "./random.ts";

const key = Buffer.from("k".repeat(32));

export interface TokenCase {
  readonly token: string;
  /** Whether it must be taken; undefined where that is a matter of its claims. */
  readonly good: boolean | undefined;
}

export function createTokenJudge(): (header: TokenCase) => Promise<string | undefined> {
  const verifier = createTokenVerifier(key, systemClock);
  return async ({ token, good }) => {
    const outcome = await verify(verifier, `Bearer ${token}`);
    if (typeof outcome === "string")
      return good === true ? `a good token was refused: ${outcome}` : outcome || undefined;
    if (good === false) return "a token was taken that is none";
    const { sub, scopes, exp, iat, jti } = outcome;
    const isRight =
      typeof sub === "string" &&
      Array.isArray(scopes) &&
      [exp, iat].every((second) => second === undefined || Number.isInteger(second)) &&
      (jti === undefined || typeof jti === "string");
    return isRight ? undefined : `a token gave ${JSON.stringify(outcome)}`;
  };
}

/** The claims; empty if it was refused properly, else what was wrong with that. */
async function verify(verifier: TokenVerifier, header: string): Promise<Claims | string> {
  try {
    return await verifier.verify(header);
  } catch (error) {
    return error instanceof ZeusdError && error.code === "unauthenticated" ? "" : `a token threw ${String(error)}`;
  }
}

export function tokenCase(random: Random): TokenCase {
  const good = sign({ typ: "JWT", alg: "HS256" }, { sub: random.pick(["a", "zoë"]), scopes: ["gpu-read"] });
  return random.oneOf<TokenCase>(
    () => ({ token: good, good: true }),
    () => unlike(good, mutate(random, good, 1)),
    () => unlike(good, mutate(random, good, random.between(1, 5))),
    () => unlike(good, replaced(random, good)),
    () => unlike(good, respelled(random, good)),
    () => ({ token: sign({ typ: "JWT", alg: "HS256" }, oddClaims(random)), good: undefined }),
    () => ({ token: sign(oddHeader(random), { sub: "a", scopes: ["gpu-control"] }), good: false }),
  );
}

function unlike(good: string, token: string): TokenCase {
  return { token, good: token === good };
}

/** One of its parts is another's. */
function replaced(random: Random, good: string): string {
  const parts = good.split(".");
  const other = sign({ typ: "JWT", alg: "HS256" }, { sub: "a", scopes: ["gpu-control"] }, Buffer.alloc(32, 1)).split(
    ".",
  );
  const at = random.below(3);
  parts[at] = other[random.below(3)] ?? "";
  return parts.join(".");
}

/** The same bits, or nearly, in other letters. */
function respelled(random: Random, good: string): string {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const last = letters.indexOf(good.slice(-1));
  return random.oneOf(
    () => good.slice(0, -1) + letters.charAt(last ^ random.between(1, 3)),
    () => `${good}=`,
    () => good.replaceAll("-", "+").replaceAll("_", "/"),
    () => good.replace(".", "=."),
    () => ` ${good}`,
    () => `${good}\n`,
    () => good.toUpperCase(),
    () => `${good}.`,
    () => `Bearer ${good}`,
  );
}

function oddHeader(random: Random): unknown {
  return random.pick<unknown>([
    { alg: "none" },
    { typ: "JWT", alg: "HS512" },
    { typ: "JWT", alg: "hs256" },
    { typ: "JWT", alg: ["HS256"] },
    { typ: "JWT" },
    { alg: "HS256", crit: ["x"] },
    { alg: "HS256", crit: ["b64"], b64: false },
    { alg: "HS256", crit: [] },
    [],
    null,
    "HS256",
    1,
  ]);
}

function oddClaims(random: Random): unknown {
  const odd = (): unknown =>
    random.pick<unknown>([
      undefined,
      null,
      0,
      -1,
      1.5,
      1e308,
      "",
      "x",
      [],
      [1],
      ["gpu-read"],
      {},
      { a: 1 },
      true,
      "\u0000",
    ]);
  return random.oneOf<unknown>(
    () => ({ sub: odd(), scopes: odd(), exp: odd(), iat: odd(), jti: odd(), aud: odd() }),
    () => ({ sub: "a", scopes: ["gpu-read"], exp: odd(), iat: odd(), jti: odd() }),
    () => odd(),
    () => JSON.parse('{"__proto__":{"scopes":["gpu-control"]},"sub":"a","scopes":["constructor"]}'),
  );
}

function sign(header: unknown, claims: unknown, signedWith = key): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value) ?? "").toString("base64url");
  const signed = `${part(header)}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", signedWith).update(signed).digest("base64url")}`;
}
