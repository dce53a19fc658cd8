// The daemon's own routes: what devices there are, what time it is, who a token says that one is.
import type { Access } from "../access/guard.ts";
import type { GpuStreamFormat } from "../contract/config.ts";
import type { Clock } from "../contract/clock.ts";
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
  readonly gpuStreamFormat: GpuStreamFormat;
}

export function createDaemonRoutes(parts: DaemonRouteParts): readonly DaemonRoute[] {
  const { wire, clock } = parts;
  return [
    {
      kind: "daemon",
      path: "/discover",
      guard: "open",
      wire,
      answer: () => jsonReply(200, discover(parts)),
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
      // The guard lets nobody through without claims.
      answer: (claims) => jsonReply(200, { sub: claims?.sub, scopes: claims?.scopes, exp: claims?.exp }),
    },
  ];
}

/** The keys of every generation at once: each client reads its own and ignores the rest. */
export function discover({
  fleet,
  access,
  version,
  gpuStreamFormat,
}: Omit<DaemonRouteParts, "clock" | "wire">): object {
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
