// The routes of leases: acquire, renew, release and list.
import { claimantOf, type Actor } from "../access/actor.ts";
import type { Gate } from "../access/gate.ts";
import type { Command } from "../contract/command.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import { isPrintable } from "../contract/printable.ts";
import { gpuKey, longestTtlS, type Lease } from "../contract/lease.ts";
import { gpuRows, type Setting } from "../contract/operations.ts";
import type { Fleet } from "../devices/fleet.ts";
import type { Member } from "../devices/member.ts";
import type { Settings } from "../settings/settings.ts";
import { jsonReply, type Reply, type Request } from "./message.ts";
import { bad, readCount, readFlag, readQuery } from "./query.ts";
import { parseDeviceList } from "./wire/device-list.ts";
import { idsName } from "./wire/query-style.ts";

export interface LeaseRouteParts {
  readonly gate: Gate;
  readonly fleet: Fleet;
  readonly settings: Settings;
}

/** The longest reason, in characters. */
const longestReason = 200;

/** The GPUs that a list names; without a list all that are there. Throws `bad_request` and UnknownDevice. */
function selectGpus(fleet: Fleet, list: string | undefined): readonly Member[] {
  const all: Command = { row: gpuRows.setPowerLimit, parameters: {}, block: true };
  if (list === undefined) return fleet.select(all);
  return fleet.select({ ...all, devices: parseDeviceList(list, "gpu", idsName.gpu) });
}

/** Answers with the id, which nobody else is told. */
export async function acquireReply(parts: LeaseRouteParts, actor: Actor, request: Request): Promise<Reply> {
  const { gate, fleet, settings } = parts;
  const { gpu_ids, exclusive, reason, ttl_s } = readQuery(request.query, ["gpu_ids", "exclusive", "reason", "ttl_s"]);
  const wish = {
    exclusive: readFlag("exclusive", exclusive, false),
    reason: readReason(reason),
    ttlS: readCount("ttl_s", ttl_s, longestTtlS),
  };
  const members = selectGpus(fleet, gpu_ids);
  if (members.length === 0) throw bad("There are no GPUs to lease");
  gate.requireLeasable(actor, members, wish.exclusive);
  const gpus = members.map((member) => ({ key: gpuKey(member), name: member.name }));
  const lease = settings.leases.acquire(claimantOf(actor), { ...wish, gpus });
  if (wish.exclusive) await waitForOthers(settings, lease, members, request);
  return leaseReply(settings, lease);
}

/** What others have asked for before is still done; a GPU that does not get to the end of it cannot be had for oneself. */
async function waitForOthers(
  { leases }: Settings,
  lease: Lease,
  members: readonly Member[],
  request: Request,
): Promise<void> {
  try {
    await Promise.all(members.map((member) => member.reach(request)));
  } catch (error) {
    leases.end(lease, "released");
    throw error;
  }
}

export function renewReply({ gate, settings }: LeaseRouteParts, actor: Actor, { query }: Request): Reply {
  const { lease_id, ttl_s } = readQuery(query, ["lease_id", "ttl_s"]);
  if (lease_id === undefined) throw bad("lease_id is missing");
  const ttlS = readCount("ttl_s", ttl_s, longestTtlS);
  gate.requireAnyOf(actor, "gpu-control");
  return leaseReply(settings, settings.leases.renew(settings.leases.byId(lease_id), ttlS));
}

/** Answers when what the lease had changed is put back, with what became of each GPU; with `block=false` at once. */
export async function releaseReply(
  { gate, fleet, settings }: LeaseRouteParts,
  actor: Actor,
  { query }: Request,
): Promise<Reply> {
  const { lease_id, lease: number, force, block } = readQuery(query, ["lease_id", "lease", "force", "block"]);
  if ((lease_id === undefined) === (number === undefined)) throw bad("Give either lease_id, or lease with its number");
  const waits = readFlag("block", block, true);
  const isForced = readFlag("force", force, false);
  // Root ends whatever it wants to, and has no rule of its own.
  if (!isForced || actor.peer?.uid !== 0) gate.requireAnyOf(actor, "gpu-control");
  const { leases } = settings;
  const lease =
    lease_id === undefined
      ? leases.byNumber(readCount("lease", number, Number.MAX_SAFE_INTEGER))
      : leases.byId(lease_id);
  const isOwn = lease_id !== undefined || leases.isOwnedBy(lease, claimantOf(actor));
  if (!isOwn) requireForce(lease, actor, isForced);
  const ended = fleet.end(lease, isOwn ? "released" : "forced");
  if (!waits) {
    // Ends in words, whatever happens.
    void ended;
    return jsonReply(200, { lease: lease.number });
  }
  return jsonReply(200, { lease: lease.number, gpus: Object.fromEntries(await ended) });
}

function requireForce({ number, owner }: Lease, { peer }: Actor, isForced: boolean): void {
  if (peer?.uid !== 0) {
    const whose = owner.uid === undefined ? "whoever has its id" : `uid ${owner.uid}`;
    throw new ZeusdError("forbidden", `Lease ${number} can be released by ${whose} and by root on this machine only`);
  }
  if (!isForced) throw bad(`Lease ${number} is somebody else's; give force=true to end it all the same`);
}

export function listReply({ gate, fleet, settings }: LeaseRouteParts, actor: Actor, { query }: Request): Reply {
  gate.requireAnyOf(actor, "gpu-read");
  readQuery(query, []);
  const { leases } = settings;
  const members = fleet.gpuMembers;
  const shown = leases.all.flatMap((lease) => {
    const changed = changedBy(lease, members);
    // An implicit lease that has changed nothing is none yet.
    if (lease.implicit && changed.length === 0) return [];
    return { ...leases.factsOf(lease), settings: Object.fromEntries(changed) };
  });
  return jsonReply(200, { leases: shown });
}

interface ChangedSetting {
  readonly asked: Values;
  /** What is there without leases. */
  readonly covers: Values | null;
  /** Whether it is what should be there now: nobody has written since. */
  readonly wins: boolean;
}

function changedBy(
  { number }: Lease,
  members: readonly Member[],
): readonly (readonly [number, Partial<Record<Setting, ChangedSetting>>])[] {
  return members.flatMap(({ id, settings }) => {
    if (!settings?.has(number)) return [];
    const changed: Partial<Record<Setting, ChangedSetting>> = {};
    for (const [setting, { layered }] of settings.knobs) {
      const written = layered.layers.get(number);
      if (!written) continue;
      const wins = settings.winner(setting)?.lease === number;
      changed[setting] = { asked: written.value, covers: layered.base?.value ?? null, wins };
    }
    return [[id, changed] as const];
  });
}

function leaseReply({ leases }: Settings, lease: Lease): Reply {
  return jsonReply(200, { lease_id: lease.id, ...leases.factsOf(lease) });
}

function readReason(reason: string | undefined): string | undefined {
  if (reason === undefined || reason === "") return undefined;
  if (reason.length <= longestReason && isPrintable(reason)) return reason;
  throw bad(`reason must be one line of at most ${longestReason} characters`);
}
