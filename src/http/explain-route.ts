// `GET /policy/explain`: asks the policy that is in force what it would say to somebody, on the devices that are there.
import { parse as parseQuery, stringify } from "node:querystring";
import { supposedActor, type Actor } from "../access/actor.ts";
import { explain } from "../access/explain.ts";
import { requireJudgeable } from "../access/gate.ts";
import { groupDisabled, type Access } from "../access/guard.ts";
import { ZeusdError, messageOf } from "../contract/errors.ts";
import { U32_MAX } from "../contract/field.ts";
import type { Row } from "../contract/operations.ts";
import { operationOf } from "../contract/rights.ts";
import type { Fleet } from "../devices/fleet.ts";
import { jsonReply, type Reply, type Request } from "./message.ts";
import { excerpt } from "./wire/excerpt.ts";
import { decodeQuery, idsName } from "./wire/query-style.ts";

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
  const { operation, uid, gids, sub, ...own } = parseQuery(request.query, "&", "=", { maxKeys: 0 });
  const row = rowOf(one(operation, "operation"));
  if (!access.enabledGroups.includes(row.group)) throw groupDisabled(row.group);
  const actor = actorOf({ uid, gids, sub });
  const all = fleet.gpus.map(({ id }) => id).join(",");
  const given = { ...(row.kind === "write" ? { block: "true", [idsName.gpu]: all } : {}), ...own };
  const command = decodeQuery(row, stringify(given));
  const policy = access.policy();
  const { parameters } = command;
  const targets = fleet.select(command);
  for (const target of targets) requireJudgeable(target);
  const answers = targets.map((target) => [target.id, explain(policy, { actor, row, parameters, target })]);
  return jsonReply(200, { operation: row.name, [`${row.device}s`]: Object.fromEntries(answers) });
}

type Given = string | readonly string[] | undefined;

function actorOf({ uid, gids, sub }: Readonly<Record<"uid" | "gids" | "sub", Given>>): Actor {
  if (uid === undefined && gids !== undefined) throw new ZeusdError("bad_request", "gids says nothing without uid");
  const groups = gids === undefined ? [] : one(gids, "gids").split(",");
  return supposedActor(
    uid === undefined ? undefined : idOf(one(uid, "uid"), "uid"),
    groups.map((gid) => idOf(gid, "gids")),
    sub === undefined ? undefined : one(sub, "sub"),
  );
}

function rowOf(operation: string): Row {
  try {
    return operationOf(operation.slice(0, longestName));
  } catch (error) {
    throw new ZeusdError("bad_request", `operation: ${messageOf(error)}`, { cause: error });
  }
}

/** Longer than any; what a refusal repeats is not longer. */
const longestName = 100;

function one(given: Given, name: string): string {
  if (typeof given === "string") return given;
  throw new ZeusdError("bad_request", `${name} must be given, and once`);
}

function idOf(text: string, name: string): number {
  const id = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (id <= U32_MAX) return id;
  throw new ZeusdError("bad_request", `${name} holds ${JSON.stringify(excerpt(text))}, which is no id`);
}
