// `zeusd token issue`: the token that it prints.
import { randomBytes } from "node:crypto";
import { parseExpiry } from "../access/duration.ts";
import { readSigningKey } from "../access/signing-key.ts";
import { issueToken } from "../access/token.ts";
import type { Clock } from "../contract/clock.ts";
import type { Log } from "../contract/log.ts";
import type { IssueFlags } from "./token-options.ts";

export interface Issued {
  readonly token: string;
  /** One line for whoever issued it, to be kept away from the token, which scripts read. */
  readonly note: string;
}

/** A new token. Throws a StartError for the key and a RangeError for the duration. */
export async function issue(flags: IssueFlags, clock: Clock, log: Log): Promise<Issued> {
  const key = await readSigningKey(flags.signingKeyPath, log, flags.allowShortSigningKey ?? false);
  const seconds = parseExpiry(flags.expires);
  const now = clock.epochMs() / 1000;
  const claims = { sub: flags.user, scopes: flags.scope, iat: Math.floor(now), jti: randomBytes(16).toString("hex") };
  const expiry = seconds === undefined ? {} : { exp: Math.floor(now + seconds) };
  return {
    token: await issueToken(key, { ...claims, ...expiry }),
    note: `To revoke this token, write the line 'jti ${claims.jti}' to the daemon's --revoked-tokens file.`,
  };
}
