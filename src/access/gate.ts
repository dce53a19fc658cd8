// The gate: says no to a command before any of its devices hears of it, and says which rules let it through.
import type { Clock } from "../contract/clock.ts";
import type { Command, Witness } from "../contract/command.ts";
import { ZeusdError } from "../contract/errors.ts";
import type { Target } from "../contract/target.ts";
import { actorKey, describeActor } from "./actor.ts";
import { RuleRefusal, type Asking, type Audit } from "./audit.ts";
import { decide, type Policy, type Rule } from "./policy.ts";
import { RateLimiter } from "./rate.ts";

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

export class Gate {
  readonly #parts: GateParts;
  readonly #limiter: RateLimiter;

  constructor(parts: GateParts) {
    this.#parts = parts;
    this.#limiter = new RateLimiter(parts.clock);
  }

  /**
   * All or nothing over the command's targets. Throws `forbidden` with what is allowed, `audit_unavailable`, or
   * `rate_limited`.
   */
  permit(asking: Asking, command: Command, targets: readonly Target[]): Permit {
    const { policy, audit } = this.#parts;
    const isWrite = command.row.kind === "write";
    if (!policy && !(audit && isWrite)) return free;
    const rules = policy ? this.#judge(policy(), asking, command, targets) : undefined;
    const names = rules ? namesOf(rules) : noRules;
    if (!isWrite) return { rules: names };
    const refusal = audit?.refusal();
    if (refusal) throw refusal;
    if (rules) this.#limit(asking, command, rules);
    return audit ? { rules: names, witness: audit.witness(asking, command, names) } : { rules: names };
  }

  /** The rule that allows the command on each of its targets. */
  #judge(policy: Policy, { actor }: Asking, command: Command, targets: readonly Target[]): ReadonlyMap<number, Rule> {
    const { row, parameters } = command;
    const rules = new Map<number, Rule>();
    for (const target of targets) {
      if (target.kind === "gpu" && target.model === undefined) throw unjudged(target);
      const { rule, refusal } = decide(policy, { actor, row, parameters, target });
      if (!rule || refusal !== undefined)
        throw new RuleRefusal("forbidden", refusal ?? "the policy says no", rule?.name);
      rules.set(target.id, rule);
    }
    return rules;
  }

  /** Uses up the actor's share of each rule that has a rate, or of none of them. */
  #limit({ actor }: Asking, { dryRun }: Command, rules: ReadonlyMap<number, Rule>): void {
    const key = actorKey(actor);
    const counts = countsOf(rules);
    for (const [{ name, rate }, count] of counts) {
      if (!rate) continue;
      const waitMs = this.#limiter.waitMs(`${name} ${key}`, count, rate);
      if (waitMs === 0) continue;
      const allowed = `rule "${name}" allows ${rate.writesPerSecond} writes a second, ${rate.burst} at once`;
      if (waitMs === Infinity) {
        throw new RuleRefusal("forbidden", `${count} writes at once are more than may ever be made: ${allowed}`, name);
      }
      const waitS = Math.ceil(waitMs / 100) / 10;
      const text = `${describeActor(actor)} writes too often: ${allowed}; try again in ${waitS} s`;
      throw new RuleRefusal("rate_limited", text, name, Math.ceil(waitS));
    }
    if (dryRun) return;
    for (const [{ name, rate }, count] of counts) if (rate) this.#limiter.take(`${name} ${key}`, count, rate);
  }
}

/** A refusal would be for good, and clients would never ask again. */
function unjudged({ name }: Target): ZeusdError {
  return new ZeusdError("gpu_away", `${name} has not been there yet, so that the policy cannot be applied to it`);
}

function countsOf(rules: ReadonlyMap<number, Rule>): ReadonlyMap<Rule, number> {
  const counts = new Map<Rule, number>();
  for (const rule of rules.values()) counts.set(rule, (counts.get(rule) ?? 0) + 1);
  return counts;
}

function namesOf(rules: ReadonlyMap<number, Rule>): ReadonlyMap<number, string> {
  return new Map([...rules].map(([id, { name }]) => [id, name]));
}
