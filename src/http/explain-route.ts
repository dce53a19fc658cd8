// `GET /policy/explain`: asks the policy that is in force what it would say to somebody, on the devices that are there.
import { parse as parseQuery, stringify } from "node:querystring";
import type { Actor } from "../access/actor.ts";
import { explain } from "../access/explain.ts";
import type { Access } from "../access/guard.ts";
import { ZeusdError } from "../contract/errors.ts";
import { U32_MAX } from "../contract/field.ts";
import { rights } from "../contract/operations.ts";
import type { Fleet } from "../devices/fleet.ts";
import { jsonReply, type Reply, type Request } from "./message.ts";
import { excerpt } from "./wire/excerpt.ts";
import { decodeQuery } from "./wire/query-style.ts";

interface ExplainParts {
  readonly access: Access;
  readonly fleet: Fleet;
}

/**
 * `operation=set_power_limit`, who asks (`uid`, `gids`, `sub`), and the rest as the operation's own query has it. Throws
 * `bad_request`, UnknownDevice, and `not_found` where there is no policy.
 */
export function explainReply({ access, fleet }: ExplainParts, request: Request): Reply {
  if (!access.policy) throw new ZeusdError("not_found", "There is no policy; start the daemon with --policy.");
  const { operation, uid, gids, sub, ...own } = parseQuery(request.query);
  const [row, ...more] = rights.get(one(operation, "operation")) ?? [];
  if (!row || more.length > 0) {
    const text =
      "operation must name one operation, such as set_power_limit, or gpu/get_power where CPUs have it as well";
    throw new ZeusdError("bad_request", text);
  }
  const actor = actorOf({ uid, gids, sub });
  const given = { ...(row.kind === "write" ? { block: "true" } : {}), ...own };
  const command = decodeQuery(row, stringify(given));
  const policy = access.policy();
  const { parameters } = command;
  const answers = fleet
    .select(command)
    .map((target) => [target.id, explain(policy, { actor, row, parameters, target })]);
  return jsonReply(200, { operation: row.name, [`${row.device}s`]: Object.fromEntries(answers) });
}

type Given = string | readonly string[] | undefined;

function actorOf({ uid, gids, sub }: Readonly<Record<"uid" | "gids" | "sub", Given>>): Actor {
  const claims = sub === undefined ? undefined : { sub: one(sub, "sub"), scopes: [] };
  if (uid === undefined) {
    if (gids !== undefined) throw new ZeusdError("bad_request", "gids says nothing without uid");
    return { claims };
  }
  const groups =
    gids === undefined
      ? []
      : one(gids, "gids")
          .split(",")
          .map((gid) => idOf(gid, "gids"));
  const peer = {
    uid: idOf(one(uid, "uid"), "uid"),
    gid: groups[0] ?? U32_MAX,
    groups: new Set(groups),
    program: () => undefined,
  };
  return { peer, claims };
}

function one(given: Given, name: string): string {
  if (typeof given === "string") return given;
  throw new ZeusdError("bad_request", `${name} must be given, and once`);
}

function idOf(text: string, name: string): number {
  const id = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (id <= U32_MAX) return id;
  throw new ZeusdError("bad_request", `${name} holds ${JSON.stringify(excerpt(text))}, which is no id`);
}
