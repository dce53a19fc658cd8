// THE SPINE: the path that every request takes, whatever brought it here.
import type { Actor } from "../access/actor.ts";
import { authorize, type Access } from "../access/guard.ts";
import { TokenRefusal } from "../access/token.ts";
import type { Command } from "../contract/command.ts";
import { CommandFailed, ZeusdError, messageOf } from "../contract/errors.ts";
import type { Log } from "../contract/log.ts";
import type { Target } from "../contract/target.ts";
import { dryRunReply } from "./dry-run.ts";
import { PowerStreams, type PowerStreamsParts } from "./event-stream.ts";
import { emptyReply, type Reply, type Request } from "./message.ts";
import type { Route, RouteTable } from "./routes.ts";

export interface HandleParts extends PowerStreamsParts {
  readonly routes: RouteTable;
  readonly access: Access;
  readonly log: Log;
}

export interface Handler {
  /** Answers a request; never rejects. */
  handle(request: Request): Promise<Reply>;
  /** Refuses a request that is not to be run, in the form of the wire that it came on. */
  refuse(request: Request, error: ZeusdError): Reply;
}

/** How far a request has come: what its refusal can say. */
interface Progress {
  readonly request: Request;
  readonly route: Route;
  actor: Actor;
  command?: Command;
}

export function createHandler(parts: HandleParts): Handler {
  const { routes, access, fleet } = parts;
  const streams = new PowerStreams(parts);
  const begin = (request: Request): Progress => {
    const { method, path, peer } = request;
    return { request, route: routes.find(method, path), actor: { peer } };
  };
  const handle = async (request: Request): Promise<Reply> => {
    const progress = begin(request);
    const { route } = progress;
    try {
      let actor = (progress.actor = await authorize(access, route, request));
      if (route.kind === "unknown") return emptyReply(404);
      if (route.kind === "daemon") return await route.answer(actor, request);
      const { row, wire } = route;
      const decoded = wire.decode(row, request, route.segment);
      const command = (progress.command = await decoded);
      // A body may take its time, and a token may be revoked or expire meanwhile.
      if (access.tokens && decoded instanceof Promise) actor = await authorize(access, route, request);
      const members = fleet.select(command);
      const permit = access.gate.permit({ request, actor }, command, members);
      if (row.kind === "stream")
        return streams.reply(command, members, () => recheck(parts, progress, command, members));
      if (command.dryRun) return dryRunReply(fleet, command, members, permit);
      const { leases, witness } = permit;
      return wire.reply(command, await fleet.run(command, members, { caller: request, leases, witness }));
    } catch (error) {
      return refuse(parts, progress, error);
    }
  };
  return { handle, refuse: (request, error) => refuse(parts, begin(request), error) };
}

/** Rejects if a stream that is open would not be granted any more, now that the policy or the revocations have changed. */
async function recheck(
  { access }: HandleParts,
  { request, route }: Progress,
  command: Command,
  targets: readonly Target[],
): Promise<void> {
  const actor = await authorize(access, route, request);
  access.gate.permit({ request, actor }, command, targets);
}

function refuse({ access, log }: HandleParts, progress: Progress, error: unknown): Reply {
  const { request, route, command } = progress;
  const actor = error instanceof TokenRefusal ? { peer: request.peer, claims: error.claims } : progress.actor;
  const row = route.kind === "operation" ? route.row : undefined;
  // How a command that was run ended on each device, its witness has heard, be it foreseen or not.
  const isRun = error instanceof CommandFailed || (command !== undefined && !(error instanceof ZeusdError));
  if (!isRun && (row?.kind === "write" || isRefusalOfAccess(error))) {
    access.audit?.refused({ request, actor }, row?.name, command, error);
  }
  if (error instanceof ZeusdError || error instanceof CommandFailed) {
    log.debug(`${request.method} ${request.path} refused: ${messageOf(error)}`, { request_id: request.id });
    return route.wire.refuse(error, row);
  }
  log.error(`${request.method} ${request.path} failed unforeseen`, { request_id: request.id, err: error });
  const text = `Internal error. The log has the details under request id ${request.id}.`;
  return route.wire.refuse(new ZeusdError("internal", text, { cause: error }), row);
}

function isRefusalOfAccess(error: unknown): boolean {
  return error instanceof ZeusdError && [401, 403, 429].includes(error.status);
}
