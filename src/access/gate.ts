// The gate: says no to a command before any of its devices hears of it, and says which rules let it through.
import type { Clock } from "../contract/clock.ts";
import type { Command, Witness } from "../contract/command.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Row } from "../contract/operations.ts";
import type { Target } from "../contract/target.ts";
import { actorKey, describeActor, type Actor } from "./actor.ts";
import type { Asking } from "./asking.ts";
import type { Audit } from "./audit.ts";
import { decide, isMeant, type Policy, type Rate, type Rule } from "./policy.ts";
import { RateLimiter } from "./rate.ts";
import { RuleRefusal } from "./rule-refusal.ts";

export interface GateParts {
  readonly clock: Clock;
  /** What is in force now; absent where everyone may do everything. */
  readonly policy?: () => Policy;
  readonly audit?: Audit;
}

/** A command that may be run. */
export interface Permit {
  /** The rule that allows it, by device; empty where there is no policy. */
  readonly rules: ReadonlyMap<number, string>;
  /** Has to hear how a write ends. */
  readonly witness?: Witness;
}

const noRules: ReadonlyMap<number, string> = new Map();
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
   * All or nothing over the command's targets. Throws, in this order, `forbidden` with what is allowed, `rate_limited`, and
   * `audit_unavailable`.
   */
  permit(asking: Asking, command: Command, targets: readonly Target[]): Permit {
    const { policy, audit } = this.#parts;
    const isWrite = command.row.kind === "write";
    if (!policy && !(audit && isWrite)) return free;
    const { rules, shares } = policy ? judge(policy(), asking, command, targets) : unruled;
    if (!isWrite) return { rules };
    if (shares) this.#requireRate(asking.actor, shares);
    if (command.dryRun) return { rules };
    audit?.begin(asking, command, targets);
    if (shares) for (const { key, count, rate } of shares) this.#limiter.take(key, count, rate);
    return audit ? { rules, witness: audit.witness(asking, command, rules) } : { rules };
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
  readonly rules: ReadonlyMap<number, string>;
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
  const rules = new Map<number, string>();
  let shares: Share[] | undefined;
  for (const target of targets) {
    requireJudgeable(target);
    const { rule, refusal } = decide(policy, { actor, row, parameters, target });
    if (!rule || refusal !== undefined) throw new RuleRefusal("forbidden", refusal ?? "the policy says no", rule?.name);
    rules.set(target.id, rule.name);
    const { rate } = rule;
    if (!rate) continue;
    shares ??= [];
    const share = shares.find((one) => one.rule === rule);
    if (share) share.count += 1;
    else shares.push({ rule, rate, key: shareKey(rule, actor), count: 1 });
  }
  return { rules, shares };
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
