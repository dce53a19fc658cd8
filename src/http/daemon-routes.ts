// The daemon's own routes: what devices there are, what time it is, who a token says that one is.
import type { Access } from "../access/guard.ts";
import type { Clock } from "../contract/clock.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Fleet } from "../devices/fleet.ts";
import { jsonReply } from "./message.ts";
import type { DaemonRoute } from "./routes.ts";
import type { Wire } from "./wire/wire.ts";

export interface DaemonRouteParts {
  readonly access: Access;
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly wire: Wire;
  readonly version: string;
}

export function createDaemonRoutes({ access, fleet, clock, wire, version }: DaemonRouteParts): readonly DaemonRoute[] {
  return [
    {
      kind: "daemon",
      path: "/discover",
      guard: "open",
      wire,
      answer: () => jsonReply(200, discover(fleet, access, version)),
    },
    {
      kind: "daemon",
      path: "/time",
      guard: "open",
      wire,
      answer: () => jsonReply(200, { timestamp_ms: clock.epochMs() }),
    },
    {
      kind: "daemon",
      path: "/auth/whoami",
      guard: "auth",
      wire,
      answer(claims) {
        if (!claims) throw new ZeusdError("auth_disabled", "Authentication is not enabled on this server.");
        return jsonReply(200, { sub: claims.sub, scopes: claims.scopes, exp: claims.exp });
      },
    },
  ];
}

/** The keys of every generation at once: each client reads its own and ignores the rest. */
function discover(fleet: Fleet, access: Access, version: string): object {
  const { gpus, cpus } = fleet;
  return {
    gpus: gpus.map(({ id, name, uuid, pci_address, cumulative_energy_available }) => ({
      id,
      name,
      pci_address: pci_address ?? "",
      cumulative_energy_available,
      uuid,
    })),
    cpus: cpus.map(({ id, dram_available }) => ({ id, dram_available })),
    enabled_api_groups: access.enabledGroups,
    auth_required: access.tokens !== undefined,
    gpu_ids: gpus.map(({ id }) => id),
    cpu_ids: cpus.map(({ id }) => id),
    dram_available: cpus.map(({ dram_available }) => dram_available),
    version,
  };
}
