// The guard: says no to whoever may not use a route. It hangs on the route that was found, never on the path as sent.
import { ZeusdError } from "../contract/errors.ts";
import type { ApiGroup } from "../contract/operations.ts";
import type { Claims, TokenVerifier } from "./token.ts";

/** Who may use a route: everyone; whoever has a valid token; the same, where tokens are in use at all; an API group. */
export type Guard = "open" | "token" | "auth" | ApiGroup;

export interface Access {
  /** In the order of `--enable`, duplicates included: `/discover` shows it so. */
  readonly enabledGroups: readonly ApiGroup[];
  /** Absent where no signing key is configured; then nobody needs a token. */
  readonly tokens?: TokenVerifier;
}

/** What a request brings along: its headers, by their names in lower case. */
export interface Credentials {
  header(name: string): string | undefined;
}

/**
 * Lets the request through, with the claims of its token if one is needed. Throws in this order: `group_disabled`,
 * `auth_disabled`, `unauthenticated`, `scope_missing`.
 */
export function authorize(
  { enabledGroups, tokens }: Access,
  guard: Guard,
  credentials: Credentials,
): Claims | undefined | Promise<Claims> {
  if (guard === "open") return undefined;
  const group = guard === "token" || guard === "auth" ? undefined : guard;
  if (group && !enabledGroups.includes(group)) {
    throw new ZeusdError("group_disabled", `API group '${group}' is not enabled on this server.`);
  }
  if (!tokens) {
    if (guard === "auth") throw new ZeusdError("auth_disabled", "Authentication is not enabled on this server.");
    return undefined;
  }
  const claims = tokens.verify(credentials.header("authorization"));
  return claims instanceof Promise ? claims.then((fresh) => checkScope(fresh, group)) : checkScope(claims, group);
}

function checkScope(claims: Claims, group: ApiGroup | undefined): Claims {
  if (group && !claims.scopes.includes(group)) throw new ZeusdError("scope_missing", scopeText(claims, group));
  return claims;
}

function scopeText({ sub, scopes }: Claims, group: ApiGroup): string {
  const listed = scopes.map((scope) => `'${scope}'`).join(", ");
  return `Token for user '${sub}' lacks required scope '${group}'. Token scopes: [${listed}]`;
}
