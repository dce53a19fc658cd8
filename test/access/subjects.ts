// Rules, actors, devices and commands to try the access part with.
import type { Actor, Peer } from "../../src/access/actor.ts";
import type { Asking } from "../../src/access/asking.ts";
import { glob } from "../../src/access/glob.ts";
import type { Bound, LeaseNeed, Pattern, Policy, Rate, Rule } from "../../src/access/policy.ts";
import type { Command } from "../../src/contract/command.ts";
import type { Quantity, Values } from "../../src/contract/field.ts";
import type { Lease, LeaseBook } from "../../src/contract/lease.ts";
import { operationOf, rights } from "../../src/contract/rights.ts";
import type { Target } from "../../src/contract/target.ts";

/** A rule as a file has it, with numbers instead of names. */
export interface Draft {
  readonly name: string;
  readonly anyone?: boolean;
  readonly uids?: readonly number[];
  readonly gids?: readonly number[];
  readonly tokens?: readonly string[];
  readonly allow?: readonly string[];
  readonly gpus?: readonly (number | string)[];
  readonly bounds?: readonly DraftBounds[];
  readonly rate?: Rate;
  readonly lease?: LeaseNeed;
  readonly exclusive?: boolean;
  readonly restoreOnExit?: boolean;
}

interface DraftBounds extends Partial<Record<Quantity, Bound>> {
  readonly models?: readonly string[];
}

/** A rule that lets everyone do everything, but for what is said otherwise. */
export function ruleOf(draft: Draft): Rule {
  const { name, anyone, uids, gids, tokens, gpus, bounds = [], rate } = draft;
  const { allow = ["gpu-control", "gpu-read", "cpu-read"] } = draft;
  const { lease = "optional", exclusive = true, restoreOnExit } = draft;
  return {
    name,
    line: 1,
    who: {
      anyone: anyone ?? !(uids ?? gids ?? tokens),
      uids: new Set(uids),
      gids: new Set(gids),
      subjects: (tokens ?? []).map(patternOf),
    },
    allow,
    rows: new Set(allow.flatMap((right) => [...(rights.get(right) ?? [])])),
    bounds: bounds.map(({ models, ...quantities }) => ({
      ...quantities,
      ...(models ? { models: models.map(patternOf) } : {}),
    })),
    ...(gpus ? { gpus } : {}),
    ...(rate ? { rate } : {}),
    lease,
    exclusive,
    ...(restoreOnExit === undefined ? {} : { restoreOnExit }),
  };
}

function patternOf(text: string): Pattern {
  return { text, matches: glob(text) };
}

export function policyOf(...drafts: readonly Draft[]): Policy {
  return { rules: drafts.map(ruleOf) };
}

/** With a uid, who came over the Unix socket; with a subject, who has a token. */
export function actorOf({
  uid,
  gid = 100,
  groups = [],
  sub,
}: {
  readonly uid?: number | undefined;
  readonly gid?: number;
  readonly groups?: readonly number[];
  readonly sub?: string | undefined;
}): Actor {
  return {
    ...(uid === undefined ? {} : { peer: peerOf({ uid, gid, groups: new Set([gid, ...groups]), pid: 4321 }) }),
    ...(sub === undefined ? {} : { claims: { sub, scopes: ["gpu-control"], jti: "a1" } }),
  };
}

/** A process that is called train.py, and whose end nobody can watch for, but for what is said otherwise. */
export function peerOf({ uid, gid = 100, ...more }: Partial<Peer> & Pick<Peer, "uid">): Peer {
  return {
    uid,
    gid,
    groups: new Set([gid]),
    program: () => "train.py",
    lineage: () => [],
    hold: () => undefined,
    ...more,
  };
}

/** Where nobody has a lease, and nobody gets one. */
export const noLeases: LeaseBook = { isEmpty: true, claim: () => undefined, implicit: () => undefined };

/** A lease of uid 1000 on GPU 0, but for what is said otherwise. */
export function leaseOf(number: number, more: Partial<Lease> = {}): Lease {
  return {
    number,
    id: number.toString(16).padStart(32, "0"),
    implicit: false,
    exclusive: false,
    sinceMs: 0,
    owner: { uid: 1000 },
    gpus: ["gpu 0"],
    ...more,
  };
}

export const h100 = "NVIDIA H100 80GB HBM3";

/** A GPU that is there. */
export function gpuOf(id: number, facts: Partial<Target> = {}): Target {
  return { kind: "gpu", id, name: `GPU ${id}`, model: h100, uuid: null, pci_address: null, ...facts };
}

export function cpuOf(id: number): Target {
  return { kind: "cpu", id, name: `CPU ${id}` };
}

/** Of an operation by its name, such as `set_power_limit` or `cpu/get_power`. */
export function commandOf(right: string, parameters: Values = {}, more: Partial<Command> = {}): Command {
  return { row: operationOf(right), parameters, block: true, ...more };
}

export function askingOf(actor: Actor, request: Partial<Asking["request"]> = {}): Asking {
  return { actor, request: { id: "r1", arrivedMs: 0, method: "POST", path: "/gpu/set_power_limit", ...request } };
}
