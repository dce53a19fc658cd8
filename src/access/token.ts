// Tokens: HS256 JWTs, byte-compatible with the original's in both directions.
import { compactVerify, CompactSign, errors } from "jose";
import type { Clock } from "../contract/clock.ts";
import { ZeusdError } from "../contract/errors.ts";

/** What a token says. */
export interface Claims {
  /** The user that it was issued to. */
  readonly sub: string;
  /** API groups; names that this daemon does not know are kept and mean nothing. */
  readonly scopes: readonly string[];
  /** Seconds since 1970 after which it is refused; absent if it never expires. */
  readonly exp?: number;
}

/** How much later than `exp` a token is still taken, for clocks that differ; the original's value. */
const leewaySeconds = 60;
const knownTokens = 1024;

/** Makes a token of `claims`, with the header and the order of claims that the original has. */
export function issueToken(key: Uint8Array, { sub, scopes, exp }: Claims): Promise<string> {
  const payload = JSON.stringify({ sub, scopes, ...(exp === undefined ? {} : { exp }) });
  return new CompactSign(new TextEncoder().encode(payload)).setProtectedHeader({ typ: "JWT", alg: "HS256" }).sign(key);
}

export interface TokenVerifier {
  /** The claims of the token in an `Authorization` header. Throws `unauthenticated`. */
  verify(authorization: string | undefined): Claims | Promise<Claims>;
}

/**
 * A signature is checked off the event loop, which takes longer than all else in a request; so a token that was found
 * good is remembered, and from then on only its time is checked.
 */
export function createTokenVerifier(key: Uint8Array, clock: Clock): TokenVerifier {
  const known = new Map<string, Claims>();
  /** Whoever brings a token that is being checked waits for the same check: none of a client's requests overtakes another. */
  const pending = new Map<string, Promise<Claims>>();

  async function check(token: string): Promise<Claims> {
    try {
      const claims = checkTime(await readToken(token, key), clock);
      const [oldest] = known.keys();
      if (known.size >= knownTokens && oldest !== undefined) known.delete(oldest);
      known.set(token, claims);
      return claims;
    } finally {
      pending.delete(token);
    }
  }

  return {
    verify(authorization) {
      const token = bearerToken(authorization);
      const claims = known.get(token);
      if (claims) return checkTime(claims, clock);
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
  if (claims.exp !== undefined && claims.exp < now - leewaySeconds) throw refused("Token has expired.");
  return claims;
}

/** Three parts of base64url, without padding; the last one 32 bytes. */
const strictToken = /^[\w-]+\.[\w-]+\.[\w-]{43}$/;

async function readToken(token: string, key: Uint8Array): Promise<Claims> {
  if (token.split(".").length !== 3) throw refused("Invalid token: InvalidToken");
  // The library's decoder overlooks blanks and padding, so that one token could be spelled, and remembered, in endless ways.
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
  const { sub, scopes, exp, aud } = payload as Readonly<Record<string, unknown>>;
  if (typeof sub !== "string") throw new TypeError("sub must be a string");
  if (!Array.isArray(scopes) || !scopes.every((scope) => typeof scope === "string")) {
    throw new TypeError("scopes must be an array of strings");
  }
  const absent = exp === undefined || exp === null;
  if (!absent && !(Number.isInteger(exp) && Number(exp) >= 0)) throw new TypeError("exp must be a whole number");
  // A token for some audience is for someone else: this daemon has no name of its own.
  if (typeof aud === "string" || Array.isArray(aud)) throw refused("Invalid token: InvalidAudience");
  return absent ? { sub, scopes } : { sub, scopes, exp: Number(exp) };
}

function refused(message: string, cause?: unknown): ZeusdError {
  return new ZeusdError("unauthenticated", message, { cause });
}
