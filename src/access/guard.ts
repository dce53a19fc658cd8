// The guard: says no to whoever may not use a route. It hangs on the route that was found, never on the path as sent.
import { ZeusdError } from "../contract/errors.ts";
import type { ApiGroup, Row } from "../contract/operations.ts";
import { rights } from "../contract/rights.ts";
import type { Actor, Peer } from "./actor.ts";
import type { Audit } from "./audit.ts";
import type { Gate } from "./gate.ts";
import type { Policy } from "./policy.ts";
import { TokenRefusal, type Claims, type TokenVerifier } from "./token.ts";

/**
 * Who may use a route: everyone; whoever has a valid token; whoever can be told who they are; root of this machine; an API
 * group.
 */
export type Guard = "open" | "token" | "self" | "root" | ApiGroup;

export interface Access {
  /** In the order of `--enable`, duplicates included: `/discover` shows it so. */
  readonly enabledGroups: readonly ApiGroup[];
  /** Absent where no signing key is configured; then nobody needs a token. */
  readonly tokens?: TokenVerifier;
  /** What is in force now; absent where no policy is. */
  readonly policy?: () => Policy;
  readonly gate: Gate;
  readonly audit?: Audit;
}

/** What a guard hangs on: a route, with its row if it has one. */
interface Guarded {
  readonly guard: Guard;
  readonly row?: Row;
}

/** What a request brings along: its headers, by their names in lower case, and the process that connected. */
export interface Credentials {
  readonly peer?: Peer | undefined;
  header(name: string): string | undefined;
}

/**
 * Lets the request through, and says who asks. Throws in this order: `group_disabled`, `auth_disabled`, `unauthenticated`,
 * `scope_missing`, `forbidden`.
 */
export function authorize(access: Access, { guard, row }: Guarded, credentials: Credentials): Actor | Promise<Actor> {
  const { peer } = credentials;
  if (guard === "open") return { peer };
  const { enabledGroups, tokens } = access;
  const group = guard === "token" || guard === "self" || guard === "root" ? undefined : guard;
  if (group && !enabledGroups.includes(group)) throw groupDisabled(group);
  if (!tokens) {
    if (guard === "self" && !(access.policy && peer)) {
      throw new ZeusdError("auth_disabled", "Authentication is not enabled on this server.");
    }
    return checkRoot({ peer }, guard);
  }
  const actorOf = (claims: Claims): Actor => checkRoot({ peer, claims: checkScope(claims, group, row) }, guard);
  const claims = tokens.verify(credentials.header("authorization"));
  return claims instanceof Promise ? claims.then(actorOf) : actorOf(claims);
}

export function groupDisabled(group: ApiGroup): ZeusdError {
  return new ZeusdError("group_disabled", `API group '${group}' is not enabled on this server.`);
}

function checkRoot(actor: Actor, guard: Guard): Actor {
  if (guard !== "root" || actor.peer?.uid === 0) return actor;
  const text = "Only root may ask this, over the Unix socket.";
  throw actor.claims ? new TokenRefusal("forbidden", text, actor.claims) : new ZeusdError("forbidden", text);
}

/** A scope is an API group, or an operation alone. */
function checkScope(claims: Claims, group: ApiGroup | undefined, row: Row | undefined): Claims {
  if (!group || claims.scopes.includes(group)) return claims;
  if (row && claims.scopes.some((scope) => rights.get(scope)?.has(row))) return claims;
  throw new TokenRefusal("scope_missing", scopeText(claims, group), claims);
}

function scopeText({ sub, scopes }: Claims, group: ApiGroup): string {
  const listed = scopes.map((scope) => `'${scope}'`).join(", ");
  return `Token for user '${sub}' lacks required scope '${group}'. Token scopes: [${listed}]`;
}
