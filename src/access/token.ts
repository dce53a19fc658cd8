// Tokens: HS256 JWTs, byte-compatible with the original's in both directions.
import { compactVerify, CompactSign, errors } from "jose";
import type { Clock } from "../contract/clock.ts";
import { ZeusdError } from "../contract/errors.ts";
import { nothingRevoked, type Revocations } from "./revocations.ts";

/** What a token says. */
export interface Claims {
  /** The user that it was issued to. */
  readonly sub: string;
  /** API groups and operations; names that this daemon does not know are kept and mean nothing. */
  readonly scopes: readonly string[];
  /** Seconds since 1970 after which it is refused; absent if it never expires. */
  readonly exp?: number;
  /** Seconds since 1970 at which it was issued; absent in tokens of the original. */
  readonly iat?: number;
  /** Its id, by which it can be revoked; absent in tokens of the original. */
  readonly jti?: string;
}

/** How much later than `exp` a token is still taken, for clocks that differ; the original's value. */
const leewaySeconds = 60;
const knownTokens = 1024;

/**
 * Makes a token of `claims`, with the header and the order of claims that the original has. It ignores `iat` and `jti`,
 * which come after its own; without them the bytes are the same as its.
 */
export function issueToken(key: Uint8Array, { sub, scopes, exp, iat, jti }: Claims): Promise<string> {
  // What is undefined is left out.
  const payload = JSON.stringify({ sub, scopes, exp, iat, jti });
  return new CompactSign(new TextEncoder().encode(payload)).setProtectedHeader({ typ: "JWT", alg: "HS256" }).sign(key);
}

/** A refusal of somebody whose token was found good but for one thing. */
export class TokenRefusal extends ZeusdError {
  readonly claims: Claims;

  constructor(code: "unauthenticated" | "scope_missing" | "forbidden", message: string, claims: Claims) {
    super(code, message);
    this.claims = claims;
  }
}

export interface TokenVerifier {
  /** The claims of the token in an `Authorization` header. Throws `unauthenticated`. */
  verify(authorization: string | undefined): Claims | Promise<Claims>;
}

/** A token whose signature was found good. */
interface Known {
  readonly claims: Claims;
  /** The revocations that were last seen not to include it. */
  under: Revocations;
}

/**
 * A signature is checked off the event loop, which takes longer than all else in a request; so a token that was found
 * good is remembered, and from then on only its time is checked, and whether other revocations are in force than before:
 * `revoked` gives those of this moment, the same object for as long as they are the same.
 */
export function createTokenVerifier(
  key: Uint8Array,
  clock: Clock,
  revoked: () => Revocations = () => nothingRevoked,
): TokenVerifier {
  const known = new Map<string, Known>();
  /** Whoever brings a token that is being checked waits for the same check: none of a client's requests overtakes another. */
  const pending = new Map<string, Promise<Claims>>();

  async function check(token: string): Promise<Claims> {
    try {
      const claims = checkTime(await readToken(token, key), clock);
      // Asked for only now: a token that was revoked while its signature was checked must not get through.
      const under = checkRevoked(token, claims, revoked());
      const [oldest] = known.keys();
      if (known.size >= knownTokens && oldest !== undefined) known.delete(oldest);
      known.set(token, { claims, under });
      return claims;
    } finally {
      pending.delete(token);
    }
  }

  function checkAgain(token: string, found: Known): Claims {
    const claims = checkTime(found.claims, clock);
    const inForce = revoked();
    if (found.under !== inForce) found.under = checkRevoked(token, claims, inForce);
    return claims;
  }

  return {
    verify(authorization) {
      const token = bearerToken(authorization);
      const found = known.get(token);
      if (found) return checkAgain(token, found);
      const checking = pending.get(token) ?? check(token);
      pending.set(token, checking);
      return checking;
    },
  };
}

function bearerToken(authorization: string | undefined): string {
  if (authorization?.startsWith("Bearer ")) return authorization.slice("Bearer ".length);
  throw refused("Authentication required. Provide an Authorization: Bearer <token> header.");
}

function checkTime(claims: Claims, clock: Clock): Claims {
  const now = Math.floor(clock.epochMs() / 1000);
  if (claims.exp !== undefined && claims.exp < now - leewaySeconds)
    throw new TokenRefusal("unauthenticated", "Token has expired.", claims);
  return claims;
}

/** The revocations, if they do not include the token. */
function checkRevoked(token: string, claims: Claims, revocations: Revocations): Revocations {
  if (revocations.includes(token, claims)) throw new TokenRefusal("unauthenticated", "Token has been revoked.", claims);
  return revocations;
}

/** Three parts of base64url, without padding; the last one 32 bytes, of whose 43rd letter two bits are left over and 0. */
const strictToken = /^[\w-]+\.[\w-]+\.[\w-]{42}[AEIMQUYcgkosw048]$/;

async function readToken(token: string, key: Uint8Array): Promise<Claims> {
  if (token.split(".").length !== 3) throw refused("Invalid token: InvalidToken");
  // The library's decoder overlooks blanks, padding and left-over bits: one token could be spelled in endless ways, which would
  // all be remembered, and all but one of which would get past a revocation by its digest.
  if (!strictToken.test(token)) throw refused("Invalid token: InvalidSignature");
  try {
    const { payload } = await compactVerify(token, key, { algorithms: ["HS256"] });
    return readClaims(JSON.parse(new TextDecoder("utf8", { fatal: true }).decode(payload)));
  } catch (error) {
    throw error instanceof ZeusdError ? error : refused(`Invalid token: ${reasonOf(error)}`, error);
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof errors.JWSSignatureVerificationFailed) return "InvalidSignature";
  if (error instanceof errors.JOSEAlgNotAllowed) return "InvalidAlgorithm";
  if (error instanceof errors.JWSInvalid && /base64/i.test(error.message)) return `Base64 error: ${error.message}`;
  return `JSON error: ${error instanceof Error ? error.message : String(error)}`;
}

function readClaims(payload: unknown): Claims {
  if (typeof payload !== "object" || payload === null) throw new TypeError("the claims are not an object");
  const { sub, scopes, exp, aud, iat, jti } = payload as Readonly<Record<string, unknown>>;
  if (typeof sub !== "string") throw new TypeError("sub must be a string");
  if (!Array.isArray(scopes) || !scopes.every((scope) => typeof scope === "string")) {
    throw new TypeError("scopes must be an array of strings");
  }
  const absent = exp === undefined || exp === null;
  if (!absent && !(Number.isInteger(exp) && Number(exp) >= 0)) throw new TypeError("exp must be a whole number");
  // A token for some audience is for someone else: this daemon has no name of its own.
  if (typeof aud === "string" || Array.isArray(aud)) throw refused("Invalid token: InvalidAudience");
  return { sub, scopes, ...(absent ? {} : { exp: Number(exp) }), ...readIssue(iat, jti) };
}

/** The last second of the year 9999: what is above it is no time in seconds, but most likely one in milliseconds. */
const latestIssue = 253_402_300_799;

/**
 * When a token was issued, and its id. The original ignores both, so that what is no such thing makes no token invalid: it
 * counts as absent, and one that does not say when it was issued counts as issued before any revocation of its user.
 */
function readIssue(iat: unknown, jti: unknown): Pick<Claims, "iat" | "jti"> {
  const known = typeof iat === "number" && Number.isInteger(iat) && iat >= 0 && iat <= latestIssue;
  return { ...(known ? { iat } : {}), ...(typeof jti === "string" ? { jti } : {}) };
}

function refused(message: string, cause?: unknown): ZeusdError {
  return new ZeusdError("unauthenticated", message, { cause });
}
