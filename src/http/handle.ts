// THE SPINE: the path that every request takes, whatever brought it here.
import { authorize, type Access } from "../access/guard.ts";
import { CommandFailed, ZeusdError, messageOf } from "../contract/errors.ts";
import type { Log } from "../contract/log.ts";
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

export function createHandler(parts: HandleParts): Handler {
  const { routes, access, fleet, log } = parts;
  const streams = new PowerStreams(parts);
  const handle = async (request: Request): Promise<Reply> => {
    const route = routes.find(request.method, request.path);
    try {
      const claims = await authorize(access, route.guard, request);
      if (route.kind === "unknown") return emptyReply(404);
      if (route.kind === "daemon") return route.answer(claims);
      const { row, wire } = route;
      const command = await wire.decode(row, request, route.segment);
      if (row.kind === "stream") return streams.reply(command);
      return wire.reply(row, await fleet.run(command, request));
    } catch (error) {
      return refuse(route, request, error, log);
    }
  };
  return {
    handle,
    refuse: (request, error) => refuse(routes.find(request.method, request.path), request, error, log),
  };
}

function refuse(route: Route, request: Request, error: unknown, log: Log): Reply {
  const row = route.kind === "operation" ? route.row : undefined;
  if (error instanceof ZeusdError || error instanceof CommandFailed) {
    log.debug(`${request.method} ${request.path} refused: ${messageOf(error)}`, { request_id: request.id });
    return route.wire.refuse(error, row);
  }
  log.error(`${request.method} ${request.path} failed unforeseen`, { request_id: request.id, err: error });
  const text = `Internal error. The log has the details under request id ${request.id}.`;
  return route.wire.refuse(new ZeusdError("internal", text, { cause: error }), row);
}
