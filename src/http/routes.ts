// From method and path to a row of the table and the wire that carries it. Built once; the path is decoded already.
import { allOperations, type Row } from "../contract/operations.ts";
import type { Guard } from "../access/guard.ts";
import type { Actor } from "../access/actor.ts";
import type { Reply, Request } from "./message.ts";
import type { Wire } from "./wire/wire.ts";

interface Guarded {
  readonly guard: Guard;
  /** How its refusals look. */
  readonly wire: Wire;
}

interface OperationRoute extends Guarded {
  readonly kind: "operation";
  readonly row: Row;
  /** The device id in the path, on the wire that has it there. */
  readonly segment: string;
}

/** A route of the daemon itself. */
export interface DaemonRoute extends Guarded {
  readonly kind: "daemon";
  readonly method: "GET" | "POST";
  readonly path: string;
  /** Whose right it takes, where that is an operation's. */
  readonly row?: Row;
  answer(actor: Actor, request: Request): Reply | Promise<Reply>;
}

/** A path that reaches no row. It passes the guard of the group whose prefix it has before it gets its 404. */
interface UnknownRoute extends Guarded {
  readonly kind: "unknown";
}

export type Route = OperationRoute | DaemonRoute | UnknownRoute;

export interface RouteTable {
  find(method: string, path: string): Route;
}

export interface Wires {
  readonly query: Wire;
  readonly path: Wire;
}

export function createRoutes(wires: Wires, daemonRoutes: readonly DaemonRoute[]): RouteTable {
  const exact = new Map<string, Route>();
  const byId = new Map<string, Row>();
  for (const route of daemonRoutes) exact.set(`${route.method} ${route.path}`, route);
  const openPaths = new Set(daemonRoutes.filter(({ guard }) => guard === "open").map(({ path }) => path));
  for (const row of allOperations) {
    const method = row.kind === "write" ? "POST" : "GET";
    const route: OperationRoute = { kind: "operation", row, segment: "", guard: row.group, wire: wires.query };
    if (row.query) exact.set(`${method} /${row.device}/${row.name}`, route);
    for (const path of row.json?.paths ?? []) byId.set(`${row.json?.method} /${row.device}/{id}/${path}`, row);
  }
  return {
    find(method, path) {
      const route = exact.get(`${method} ${path}`);
      if (route) return route;
      const [, device, segment, name, ...more] = path.split("/");
      const row = more.length === 0 && segment ? byId.get(`${method} /${device}/{id}/${name}`) : undefined;
      if (!row || !segment)
        return { kind: "unknown", guard: openPaths.has(path) ? "open" : unknownGuard(path), wire: wires.query };
      return { kind: "operation", row, segment, guard: row.group, wire: wires.path };
    },
  };
}

/** What must be allowed to someone to learn that a path does not exist (protocol of 0.4 and later), if it is not open. */
function unknownGuard(path: string): Guard {
  if (path.startsWith("/gpu/set_") || path.startsWith("/gpu/reset_")) return "gpu-control";
  if (path.startsWith("/gpu/")) return "gpu-read";
  if (path.startsWith("/cpu/")) return "cpu-read";
  return path.startsWith("/auth/") ? "self" : "token";
}
