// The daemon's own routes: what devices there are, what time it is, who one is, and what the policy says.
import { describeActor, type Actor } from "../access/actor.ts";
import { rightsOfActor } from "../access/explain.ts";
import type { Access } from "../access/guard.ts";
import type { GpuStreamFormat } from "../contract/config.ts";
import type { Clock } from "../contract/clock.ts";
import type { Health } from "../contract/health.ts";
import type { Fleet } from "../devices/fleet.ts";
import { explainReply } from "./explain-route.ts";
import { jsonReply, type Reply } from "./message.ts";
import type { DaemonRoute } from "./routes.ts";
import type { Wire } from "./wire/wire.ts";

export interface DaemonRouteParts {
  readonly access: Access;
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly health: Health;
  readonly wire: Wire;
  readonly version: string;
  readonly gpuStreamFormat: GpuStreamFormat;
}

export function createDaemonRoutes(parts: DaemonRouteParts): readonly DaemonRoute[] {
  const { wire, clock, access } = parts;
  const route = (path: string, guard: DaemonRoute["guard"], answer: DaemonRoute["answer"]): DaemonRoute => {
    return { kind: "daemon", path, guard, wire, answer };
  };
  return [
    route("/discover", "open", () => jsonReply(200, discover(parts))),
    route("/time", "open", () => jsonReply(200, { timestamp_ms: clock.epochMs() })),
    route("/healthz", "open", () => healthReply(parts.health)),
    route("/auth/whoami", "self", (actor) => jsonReply(200, whoami(access, actor))),
    route("/policy/explain", "root", (_, request) => explainReply(parts, request)),
  ];
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
