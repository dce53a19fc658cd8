// The gate: says no to a command before any of its devices hears of it, and says which rules let it through.
import type { Clock } from "../contract/clock.ts";
import type { Command, Witness } from "../contract/command.ts";
import { ZeusdError } from "../contract/errors.ts";
import { gpuKey, type Lease, type LeaseBook } from "../contract/lease.ts";
import type { ApiGroup, Row } from "../contract/operations.ts";
import type { Target } from "../contract/target.ts";
import { actorKey, claimantOf, describeActor, type Actor } from "./actor.ts";
import type { Asking } from "./asking.ts";
import type { Audit } from "./audit.ts";
import { decide, decideLease, isMeant, mayRead, type Policy, type Rate, type Rule } from "./policy.ts";
import { RateLimiter } from "./rate.ts";
import { RuleRefusal } from "./rule-refusal.ts";

export interface GateParts {
  readonly clock: Clock;
  /** What is in force now; absent where everyone may do everything. */
  readonly policy?: () => Policy;
  readonly audit?: Audit;
  readonly leases: LeaseBook;
  /** Whether a write over the Unix socket belongs to its process, where the rule that allows it does not say otherwise. */
  readonly restoreOnExit: boolean;
}

/** A command that may be run. */
export interface Permit {
  /** The rule that allows it, by device; empty where there is no policy. */
  readonly rules: ReadonlyMap<number, Rule>;
  /** The lease within which a write is made, by device; absent if there is none. */
  readonly leases?: ReadonlyMap<number, Lease> | undefined;
  /** Has to hear how a write ends. */
  readonly witness?: Witness;
}

const noRules: ReadonlyMap<number, Rule> = new Map();
const free: Permit = { rules: noRules };
const unruled: Judgement = { rules: noRules };

export class Gate {
  readonly #parts: GateParts;
  readonly #limiter: RateLimiter;

  constructor(parts: GateParts) {
    this.#parts = parts;
    this.#limiter = new RateLimiter(parts.clock);
  }

  /**
   * All or nothing over the command's targets. Throws, in this order, `forbidden` with what is allowed, `held` and what else
   * leases have against it, `rate_limited`, and `audit_unavailable`.
   */
  permit(asking: Asking, command: Command, targets: readonly Target[]): Permit {
    const { policy, audit } = this.#parts;
    const isWrite = command.row.kind === "write";
    if (!policy && !isWrite) return free;
    const { rules, shares } = policy ? judge(policy(), asking, command, targets) : unruled;
    if (!isWrite) return { rules };
    const leases = this.#claim(asking.actor, command, targets, rules);
    if (shares) this.#requireRate(asking.actor, shares);
    if (command.dryRun) return { rules, leases };
    audit?.begin(asking, command, targets);
    if (shares) for (const { key, count, rate } of shares) this.#limiter.take(key, count, rate);
    return audit ? { rules, leases, witness: audit.witness(asking, command, rules, leases) } : { rules, leases };
  }

  /** Throws for the first GPU that may not be leased: `gpu_away` if it was never there, `forbidden` if the policy says no. */
  requireLeasable(actor: Actor, targets: readonly Target[], exclusive: boolean): void {
    const { policy } = this.#parts;
    for (const target of targets) {
      requireJudgeable(target);
      const { rule, refusal } = policy ? decideLease(policy(), { actor, target, exclusive }) : {};
      if (refusal !== undefined) throw new RuleRefusal("forbidden", refusal, rule?.name);
    }
  }

  /** Throws `forbidden` if an actor may not use anything of an API group. */
  requireAnyOf(actor: Actor, group: ApiGroup): void {
    const { policy } = this.#parts;
    const refusal = policy && mayRead(policy(), actor, group);
    if (refusal !== undefined) throw new RuleRefusal("forbidden", refusal, undefined);
  }

  /** The lease within which each of the targets is written to. */
  #claim(
    actor: Actor,
    { leaseId, dryRun }: Command,
    targets: readonly Target[],
    rules: ReadonlyMap<number, Rule>,
  ): ReadonlyMap<number, Lease> | undefined {
    const { leases, restoreOnExit } = this.#parts;
    if (leaseId === undefined && leases.isEmpty && !restoreOnExit && !speakOfLeases(rules)) return undefined;
    const claimant = claimantOf(actor);
    const claimed = new Map<number, Lease>();
    for (const target of targets) {
      const rule = rules.get(target.id);
      const asked = leases.claim(claimant, gpuKey(target), target.name, leaseId);
      if (rule?.lease === "forbidden" && asked) throw leaseRefusal(rule, `allows no leases on ${target.name}`);
      const implied = rule?.lease !== "forbidden" && (rule?.restoreOnExit ?? restoreOnExit) && actor.peer !== undefined;
      const lease = asked ?? (implied && !dryRun ? leases.implicit(claimant) : undefined);
      if (lease) claimed.set(target.id, lease);
      else if (rule?.lease === "required" && !(implied && dryRun && actor.peer?.pid !== undefined)) {
        throw leaseRefusal(rule, `requires a lease to write to ${target.name}; acquire one, or use zeusd run`);
      }
    }
    return claimed.size > 0 ? claimed : undefined;
  }

  /** Throws if the actor's share of one of the rules is used up. */
  #requireRate(actor: Actor, shares: readonly Share[]): void {
    let longest: Share | undefined;
    let longestMs = 0;
    for (const share of shares) {
      const waitMs = this.#limiter.waitMs(share.key, share.count, share.rate);
      if (waitMs <= longestMs) continue;
      longestMs = waitMs;
      longest = share;
    }
    if (longest) throw tooOften(actor, longest, longestMs);
  }
}

/** What the policy says to a command. */
interface Judgement {
  /** The rule that allows it, by device. */
  readonly rules: ReadonlyMap<number, Rule>;
  /** Of these, those that have a rate; absent if none has. */
  readonly shares?: readonly Share[] | undefined;
}

/** What a command needs of a rule's rate. */
interface Share {
  readonly rule: Rule;
  readonly rate: Rate;
  /** Whose share of which rule. */
  readonly key: string;
  /** How many devices the rule allows it on. */
  count: number;
}

function judge(policy: Policy, { actor }: Asking, command: Command, targets: readonly Target[]): Judgement {
  const { row, parameters } = command;
  // Nothing is asked of any device, but who may not ask shall not be told so.
  if (targets.length === 0) requireAnyRule(policy, actor, row);
  const rules = new Map<number, Rule>();
  let shares: Share[] | undefined;
  for (const target of targets) {
    requireJudgeable(target);
    const { rule, refusal } = decide(policy, { actor, row, parameters, target });
    if (!rule || refusal !== undefined) throw new RuleRefusal("forbidden", refusal ?? "the policy says no", rule?.name);
    rules.set(target.id, rule);
    const { rate } = rule;
    if (!rate) continue;
    shares ??= [];
    const share = shares.find((one) => one.rule === rule);
    if (share) share.count += 1;
    else shares.push({ rule, rate, key: shareKey(rule, actor), count: 1 });
  }
  return { rules, shares };
}

function speakOfLeases(rules: ReadonlyMap<number, Rule>): boolean {
  for (const { lease, restoreOnExit } of rules.values()) if (lease === "required" || restoreOnExit) return true;
  return false;
}

function leaseRefusal({ name }: Rule, text: string): RuleRefusal {
  return new RuleRefusal("forbidden", `rule "${name}" ${text}`, name);
}

function requireAnyRule({ rules }: Policy, actor: Actor, row: Row): void {
  if (rules.some((rule) => isMeant(rule.who, actor) && rule.rows.has(row))) return;
  throw new RuleRefusal("forbidden", `no rule of the policy allows ${row.name} to ${describeActor(actor)}`, undefined);
}

/** With the name's length, so that no name and actor together read like others. */
function shareKey({ name }: Rule, actor: Actor): string {
  return `${name.length} ${name} ${actorKey(actor)}`;
}

function tooOften(actor: Actor, { rule: { name }, rate, count }: Share, waitMs: number): RuleRefusal {
  const allowed = `rule "${name}" allows ${rate.writesPerSecond} writes a second, ${rate.burst} at once`;
  if (waitMs === Infinity) {
    return new RuleRefusal("forbidden", `${count} writes at once are more than may ever be made: ${allowed}`, name);
  }
  const waitS = Math.ceil(waitMs / 100) / 10;
  const text = `${describeActor(actor)} writes too often: ${allowed}; try again in ${waitS} s`;
  return new RuleRefusal("rate_limited", text, name, Math.ceil(waitS));
}

/** Throws for a GPU that was never there, which has no model and no names. To say no would be for good: nobody would ask again. */
export function requireJudgeable({ kind, name, model }: Target): void {
  if (kind !== "gpu" || model !== undefined) return;
  throw new ZeusdError("gpu_away", `${name} has not been there yet, so that the policy cannot be applied to it`);
}
