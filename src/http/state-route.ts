// `GET /gpu/get_state`: what each setting of each GPU was asked to be, what it is, and who wants it so.
import type { Actor } from "../access/actor.ts";
import type { Gate } from "../access/gate.ts";
import type { Clock } from "../contract/clock.ts";
import type { Command } from "../contract/command.ts";
import { gpuRows } from "../contract/operations.ts";
import type { Fleet } from "../devices/fleet.ts";
import { stateOf } from "../devices/state.ts";
import type { Settings } from "../settings/settings.ts";
import { jsonReply, type Reply, type Request } from "./message.ts";
import { bad, readQuery } from "./query.ts";
import { parseDeviceList } from "./wire/device-list.ts";
import { idsName } from "./wire/query-style.ts";

export interface StateRouteParts {
  readonly gate: Gate;
  readonly fleet: Fleet;
  readonly settings: Settings;
  readonly clock: Clock;
}

/** A GPU that cannot be asked now is shown as it was last known. */
export async function stateReply(parts: StateRouteParts, actor: Actor, request: Request): Promise<Reply> {
  const { gate, fleet, settings, clock } = parts;
  const { gpu_ids, include } = readQuery(request.query, ["gpu_ids", "include"]);
  if (include !== undefined && include !== "supported") throw bad("include must be supported");
  const command: Command = {
    row: gpuRows.getState,
    parameters: {},
    block: true,
    devices:
      gpu_ids === undefined ? fleet.gpuMembers.map(({ id }) => id) : parseDeviceList(gpu_ids, "gpu", idsName.gpu),
  };
  const members = fleet.select(command);
  // A GPU that was never there has nothing to tell, and is no reason to be told nothing of the others.
  const judged = gpu_ids === undefined ? members.filter(({ model }) => model !== undefined) : members;
  gate.permit({ request, actor }, command, judged);
  const { leases } = settings;
  const told = {
    nowMs: () => clock.monotonicMs(),
    leases: () => leases.all,
    factsOf: (lease: (typeof leases.all)[number]) => leases.factsOf(lease),
  };
  const states = members.map(async (member) => {
    return [member.id, await stateOf(member, told, request, include === "supported")] as const;
  });
  const gpus = Object.fromEntries(await Promise.all(states));
  return jsonReply(200, { timestamp_ms: clock.epochMs(), gpus });
}
