// The daemon's own routes: what devices there are, what time it is, who one is, and what the policy says.
import { describeActor, type Actor } from "../access/actor.ts";
import { rightsOfActor } from "../access/explain.ts";
import { authorize, type Access } from "../access/guard.ts";
import type { GpuStreamFormat } from "../contract/config.ts";
import type { Clock } from "../contract/clock.ts";
import type { Events } from "../contract/events.ts";
import type { Health } from "../contract/health.ts";
import { gpuRows, type Row } from "../contract/operations.ts";
import type { Fleet } from "../devices/fleet.ts";
import type { Settings } from "../settings/settings.ts";
import { eventsReply } from "./events.ts";
import { explainReply } from "./explain-route.ts";
import { acquireReply, listReply, releaseReply, renewReply } from "./lease-routes.ts";
import { jsonReply, type Reply, type Request } from "./message.ts";
import { readQuery } from "./query.ts";
import type { DaemonRoute } from "./routes.ts";
import { stateReply } from "./state-route.ts";
import type { Wire } from "./wire/wire.ts";

export interface DaemonRouteParts {
  readonly access: Access;
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly health: Health;
  readonly events: Events;
  readonly settings: Settings;
  readonly wire: Wire;
  readonly version: string;
  readonly gpuStreamFormat: GpuStreamFormat;
}

export function createDaemonRoutes(parts: DaemonRouteParts): readonly DaemonRoute[] {
  const { wire, clock, access } = parts;
  const route = (line: string, guard: DaemonRoute["guard"], answer: DaemonRoute["answer"], row?: Row): DaemonRoute => {
    const [method, path = ""] = line.split(" ");
    const about = { kind: "daemon", method: method === "POST" ? "POST" : "GET", path, guard, wire, answer } as const;
    return row ? { ...about, row } : about;
  };
  const own = { ...parts, gate: access.gate };
  return [
    route("GET /discover", "open", () => jsonReply(200, discover(parts))),
    route("GET /time", "open", () => jsonReply(200, { timestamp_ms: clock.epochMs() })),
    route("GET /healthz", "open", () => healthReply(parts.health)),
    route("GET /auth/whoami", "self", (actor) => jsonReply(200, whoami(access, actor))),
    route("GET /policy/explain", "root", (_, request) => explainReply(parts, request)),
    route("POST /lease/acquire", "gpu-control", (actor, request) => acquireReply(own, actor, request)),
    route("POST /lease/renew", "gpu-control", (actor, request) => renewReply(own, actor, request)),
    route("POST /lease/release", "gpu-control", (actor, request) => releaseReply(own, actor, request)),
    route("GET /lease/list", "gpu-read", (actor, request) => listReply(own, actor, request)),
    route("GET /gpu/get_state", "gpu-read", (actor, request) => stateReply(own, actor, request), gpuRows.getState),
    route("GET /events", "gpu-read", (actor, request) => followEvents(own, actor, request)),
  ];
}

/** A stream that ends when it would not be granted any more. */
function followEvents({ access, events, clock }: DaemonRouteParts, actor: Actor, request: Request): Reply {
  access.gate.requireAnyOf(actor, "gpu-read");
  readQuery(request.query, []);
  return eventsReply({ events, clock }, async () => {
    access.gate.requireAnyOf(await authorize(access, { guard: "gpu-read" }, request), "gpu-read");
  });
}

/** 200 in any case: a daemon that goes on is not to be started anew. */
function healthReply({ problems }: Health): Reply {
  const status = problems.size === 0 ? "ok" : "degraded";
  return jsonReply(200, { status, problems: Object.fromEntries(problems) });
}

/** Without a policy nobody gets here without claims, and is told those alone, as by the original. */
function whoami({ policy }: Access, actor: Actor): object {
  const { peer, claims } = actor;
  const told = claims && { sub: claims.sub, scopes: claims.scopes, exp: claims.exp };
  if (!policy) return { ...told };
  const who = peer && { uid: peer.uid, gid: peer.gid, groups: [...peer.groups], pid: peer.pid };
  return { ...told, ...who, you: describeActor(actor), rules: rightsOfActor(policy(), actor) };
}

/** The keys of every generation at once: each client reads its own and ignores the rest. */
export function discover({
  fleet,
  access,
  version,
  gpuStreamFormat,
}: Pick<DaemonRouteParts, "fleet" | "access" | "version" | "gpuStreamFormat">): object {
  const { gpus, cpus } = fleet;
  return {
    gpus: gpus.map(({ id, name, pci_address, cumulative_energy_available, uuid }) => ({
      id,
      name,
      // Clients of this generation read it as text and fail without it.
      pci_address: pci_address ?? "",
      cumulative_energy_available,
      uuid,
    })),
    cpus: cpus.map(({ id, dram_available }) => ({ id, dram_available })),
    enabled_api_groups: access.enabledGroups,
    auth_required: access.tokens !== undefined,
    // Who reads this key also expects v1 events, and would wait for ever on v2's; without it those clients say what is wrong.
    ...(gpuStreamFormat === "v1" ? { gpu_ids: gpus.map(({ id }) => id) } : {}),
    cpu_ids: cpus.map(({ id }) => id),
    dram_available: cpus.map(({ dram_available }) => dram_available),
    version,
  };
}
