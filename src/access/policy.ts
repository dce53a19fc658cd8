// The policy: rules in order, of which the first that matches decides; where none matches, the answer is no.
import { isCalled, normalGpuName } from "../contract/device-name.ts";
import type { Quantity, Values } from "../contract/field.ts";
import type { ApiGroup, Row } from "../contract/operations.ts";
import type { Target } from "../contract/target.ts";
import { describeActor, type Actor } from "./actor.ts";

export interface Policy {
  readonly rules: readonly Rule[];
}

export interface Rule {
  /** Stands in refusals and in the audit. */
  readonly name: string;
  /** Where it begins in its file. */
  readonly line: number;
  readonly who: Who;
  /** API groups and operations, as written in the file. */
  readonly allow: readonly string[];
  readonly rows: ReadonlySet<Row>;
  /** Ids, UUIDs and PCI addresses. Absent means all GPUs; CPUs are not meant. */
  readonly gpus?: readonly (number | string)[];
  readonly bounds: readonly Bounds[];
  readonly rate?: Rate;
  /** Whether what it lets be written may, must or must not be within a lease. */
  readonly lease: LeaseNeed;
  /** Whether a lease that it allows may be exclusive. */
  readonly exclusive: boolean;
  /** Whether a write over the Unix socket is put back when its process ends. Absent means what the daemon does otherwise. */
  readonly restoreOnExit?: boolean;
}

export const leaseNeeds = ["optional", "required", "forbidden"] as const;
export type LeaseNeed = (typeof leaseNeeds)[number];

/** Whoever is one of these. */
export interface Who {
  readonly anyone: boolean;
  readonly uids: ReadonlySet<number>;
  readonly gids: ReadonlySet<number>;
  readonly subjects: readonly Pattern[];
}

export interface Pattern {
  readonly text: string;
  matches(text: string): boolean;
}

/** What values may be asked for, in the unit of the quantity. */
export interface Bounds extends Partial<Record<Quantity, Bound>> {
  /** GPU models that they hold for; absent means all. */
  readonly models?: readonly Pattern[];
}

export interface Bound {
  readonly min?: number;
  readonly max?: number;
}

/** How many writes each actor may make, a write to two GPUs being two. */
export interface Rate {
  readonly writesPerSecond: number;
  /** How many may come at once. */
  readonly burst: number;
}

/** What is asked of one device. */
export interface Question {
  readonly actor: Actor;
  readonly row: Row;
  readonly parameters: Values;
  readonly target: Target;
}

/** A lease that somebody wants on one GPU. */
export interface LeaseQuestion {
  readonly actor: Actor;
  readonly target: Target;
  readonly exclusive: boolean;
}

/** The rule that decided, if one did; with a refusal, it said no. */
export interface Verdict {
  readonly rule?: Rule;
  /** What was asked, and what is allowed. */
  readonly refusal?: string;
}

export function decide({ rules }: Policy, question: Question): Verdict {
  for (const rule of rules) {
    if (mismatch(rule, question) !== undefined) continue;
    const refusal = breach(rule, question);
    return refusal === undefined ? { rule } : { rule, refusal };
  }
  return { refusal: noRule(rules, question) };
}

/**
 * Whether somebody may lease a GPU. The first rule that lets them write anything at all to it decides: no operation is
 * known yet, and each write within the lease is judged by itself.
 */
export function decideLease({ rules }: Policy, { actor, target, exclusive }: LeaseQuestion): Verdict {
  const rule = rules.find((each) => isMeant(each.who, actor) && allowsWrites(each) && covers(each, target));
  if (!rule) {
    const who = describeActor(actor);
    return { refusal: `no rule of the policy allows ${who} to change ${target.name}, so there is nothing to lease` };
  }
  const refusal = leaseBreach(rule, exclusive);
  return refusal === undefined
    ? { rule }
    : { rule, refusal: `rule "${rule.name}" allows ${refusal} on ${target.name}` };
}

function leaseBreach({ lease, exclusive }: Rule, wanted: boolean): string | undefined {
  if (lease === "forbidden") return "no leases";
  return wanted && !exclusive ? "no exclusive lease" : undefined;
}

/** Whether it lets anything be written. All writes are to GPUs. */
export function allowsWrites({ rows }: Pick<Rule, "rows">): boolean {
  for (const row of rows) if (row.kind === "write") return true;
  return false;
}

/** Why somebody may not be told what belongs to an API group, but to none of its operations; undefined if a rule allows one of them. */
export function mayRead({ rules }: Policy, actor: Actor, group: ApiGroup): string | undefined {
  const allows = ({ who, rows }: Rule): boolean => isMeant(who, actor) && [...rows].some((row) => row.group === group);
  return rules.some(allows)
    ? undefined
    : `no rule of the policy allows anything of ${group} to ${describeActor(actor)}`;
}

/** What keeps a rule from being the one that decides. */
export function mismatch(rule: Rule, { actor, row, target }: Question): "who" | "operation" | "gpu" | undefined {
  if (!isMeant(rule.who, actor)) return "who";
  if (!rule.rows.has(row)) return "operation";
  return covers(rule, target) ? undefined : "gpu";
}

export function isMeant({ anyone, uids, gids, subjects }: Who, { peer, claims }: Actor): boolean {
  if (anyone) return true;
  if (peer && (uids.has(peer.uid) || intersects(gids, peer.groups))) return true;
  return claims !== undefined && subjects.some((subject) => subject.matches(claims.sub));
}

function intersects(gids: ReadonlySet<number>, groups: ReadonlySet<number>): boolean {
  for (const gid of gids) if (groups.has(gid)) return true;
  return false;
}

function covers({ gpus }: Rule, target: Target): boolean {
  if (!gpus || target.kind === "cpu") return true;
  return gpus.some((gpu) => (typeof gpu === "number" ? gpu === target.id : isCalled(target, normalGpuName(gpu))));
}

/** Why a value is not within the bounds of the rule that decides. */
function breach(rule: Rule, { row, parameters, target }: Question): string | undefined {
  for (const name in row.parameters) {
    const field = row.parameters[name];
    const value = parameters[name];
    if (field?.type !== "u32" || field.quantity === undefined || typeof value !== "number") continue;
    const bound = boundFor(rule, field.quantity, target);
    if (bound === "none") {
      const bounds = `rule "${rule.name}" has bounds for ${field.quantity}`;
      if (target.model === undefined) return `${bounds} by model, and the model of ${target.name} is not known`;
      return `${bounds}, but none for ${target.model}, which ${target.name} is`;
    }
    const miss = bound && missOf(value, bound);
    if (miss) return `${name} ${value} is ${miss} that rule "${rule.name}" allows on ${target.name}`;
  }
  return undefined;
}

function missOf(value: number, { min, max }: Bound): string | undefined {
  if (min !== undefined && value < min) return `below ${min}, the least`;
  return max !== undefined && value > max ? `above ${max}, the most` : undefined;
}

/** The first bound on a quantity that is meant for the model. A rule that bounds it for other models only lets nothing through. */
function boundFor({ bounds }: Rule, quantity: Quantity, { model }: Target): Bound | "none" | undefined {
  let isBound = false;
  for (const each of bounds) {
    const bound = each[quantity];
    if (!bound) continue;
    if (!each.models || (model !== undefined && each.models.some((one) => one.matches(model)))) return bound;
    isBound = true;
  }
  return isBound ? "none" : undefined;
}

/** Says of the rules that come closest what they do allow. */
function noRule(rules: readonly Rule[], question: Question): string {
  const { actor, row, target } = question;
  const who = describeActor(actor);
  const own = rules.filter((rule) => mismatch(rule, question) !== "who");
  if (own.length === 0) return `no rule of the policy is for ${who}`;
  const near = own.find((rule) => mismatch(rule, question) === "gpu");
  if (near) {
    return `rule "${near.name}" allows ${row.name} to ${who} on GPU ${near.gpus?.join(", ")} only, and not on ${target.name}`;
  }
  const allowed = own.map(({ name, allow }) => `rule "${name}" allows ${allow.join(", ")}`);
  return `no rule of the policy allows ${row.name} to ${who}: ${allowed.join("; ")}`;
}
