// Revoked tokens: what the file of --revoked-tokens says, one revocation a line.
import { createHash } from "node:crypto";
import type { Claims } from "./token.ts";

export interface Revocations {
  /** Whether a token, whose signature was found good, is revoked. Never throws. */
  includes(token: string, claims: Claims): boolean;
}

export const nothingRevoked: Revocations = { includes: () => false };

/** What the lines add up to. */
interface Revoked {
  readonly ids: Set<string>;
  /** Digests of whole tokens, in lower case. */
  readonly digests: Set<string>;
  /** By user: tokens that were issued before this second since 1970 are refused. */
  readonly users: Map<string, number>;
}

/**
 * Reads the file of --revoked-tokens: empty lines, lines that begin with `#`, and
 *
 *     jti ID                               the token with this id, which `zeusd token issue` tells
 *     sha256 HEX                           the token with this digest: printf %s "$TOKEN" | sha256sum
 *     sub NAME                             all tokens of this user, those still to be issued included
 *     sub NAME before 2026-11-24T12:00:00Z those issued before, and those that do not say when (RFC 3339, in UTC)
 *
 * A line that was meant otherwise than it is read would revoke nothing, and nobody would notice. So whatever is doubtful
 * throws an Error, which names the line and says what is allowed: a comment after a revocation, a time that is none, a
 * character that does not belong into text. A user whose name holds the word `before` can be given with a time in the
 * future, since the last `before` of a line is the one that counts.
 */
export function parseRevocations(text: string): Revocations {
  const revoked: Revoked = { ids: new Set(), digests: new Set(), users: new Map() };
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    try {
      readLine(line, revoked);
    } catch (error) {
      throw error instanceof RangeError ? new Error(`line ${index + 1}: ${error.message}`, { cause: error }) : error;
    }
  }
  return revocationsOf(revoked);
}

function revocationsOf({ ids, digests, users }: Revoked): Revocations {
  return {
    includes(token, { sub, iat, jti }) {
      if (jti !== undefined && ids.has(jti)) return true;
      const before = users.get(sub);
      if (before !== undefined && (iat === undefined || iat < before)) return true;
      return digests.size > 0 && digests.has(createHash("sha256").update(token).digest("hex"));
    },
  };
}

/**
 * Control characters are of another kind of file, and a CR alone would make one comment of all that follows it; the last
 * one stands for bytes that were no UTF-8.
 */
const foreign = /(?!\t)\p{Cc}|\ufffd/u;

function readLine(line: string, revoked: Revoked): void {
  const said = line.trim();
  if (foreign.test(said))
    throw new RangeError(
      "here is a control character or one that is no UTF-8; use plain text, with LF or CR LF after lines",
    );
  if (said === "" || said.startsWith("#")) return;
  const end = said.search(/\s/);
  const kind = end < 0 ? said : said.slice(0, end);
  const rest = said.slice(kind.length).trim();
  if (kind === "jti") readId(rest, revoked);
  else if (kind === "sha256") readDigest(rest, revoked);
  else if (kind === "sub") readUser(rest, revoked);
  else throw new RangeError(`'${beginning(kind)}' is no kind of revocation; use jti, sha256 or sub`);
}

function readId(id: string, { ids }: Revoked): void {
  if (id === "" || /\s/.test(id))
    throw new RangeError("jti takes one id without blanks, and nothing after it; put comments on lines of their own");
  // It would match no id, and the token that was to be revoked would go on.
  if (/^eyJ[\w-]*\.[\w-]+\.[\w-]+$/.test(id))
    throw new RangeError("this is a token and not its id; use jti with the id in it, or sha256 with its SHA-256");
  ids.add(id);
}

function readDigest(digest: string, { digests }: Revoked): void {
  if (!/^[\da-f]{64}$/i.test(digest))
    throw new RangeError("sha256 takes the SHA-256 of a whole token, 64 hexadecimal digits, and nothing after it");
  digests.add(digest.toLowerCase());
}

function readUser(rest: string, { users }: Revoked): void {
  const word = [...rest.matchAll(/(?<=^|\s)before(?=\s|$)/gi)].at(-1);
  const name = rest.slice(0, word?.index).trim();
  if (name === "")
    throw new RangeError("sub takes the name of a user, and, if only older tokens are meant, before TIME");
  if (/(?<=^|\s)#/.test(name))
    throw new RangeError("after a name no comment may follow; put comments on lines of their own");
  const before_s = word ? readTime(rest.slice(word.index + word[0].length).trim()) : Number.POSITIVE_INFINITY;
  users.set(name, Math.max(before_s, users.get(name) ?? 0));
}

/** The first whole second since 1970 that is not before a time. */
function readTime(text: string): number {
  const [, seconds, fraction = ""] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z$/.exec(text) ?? [];
  const ms = Date.parse(`${seconds}Z`);
  // A day such as 02-30 would become another one.
  if (seconds === undefined || Number.isNaN(ms) || new Date(ms).toISOString() !== `${seconds}.000Z`)
    throw new RangeError(`before takes a time in UTC such as 2026-11-24T12:00:00Z, and '${beginning(text)}' is none`);
  return ms / 1000 + (/[1-9]/.test(fraction) ? 1 : 0);
}

/** Not more of a text than tells which one it is: it might be a token, and errors are logged. */
function beginning(text: string): string {
  return text.length > 24 ? `${text.slice(0, 20)}…` : text;
}
