// Explains the policy: which rule decides a question and why, and what the rules allow to somebody.
import type { Actor } from "./actor.ts";
import { decide, isMeant, mismatch, type LeaseNeed, type Policy, type Question, type Rule } from "./policy.ts";

export interface Explanation extends LeaseTerms {
  readonly allowed: boolean;
  /** The rule that decides; absent where none matches. */
  readonly rule?: string;
  /** Why it is refused. */
  readonly refusal?: string;
  /** Every rule, in order, and what it has to do with the question. */
  readonly rules: readonly Considered[];
}

/** What a rule says of the leases of what it lets be written, where that does not go without saying. */
interface LeaseTerms {
  readonly lease?: LeaseNeed;
  readonly exclusive?: boolean;
  readonly restore_on_exit?: boolean;
}

interface Considered {
  readonly rule: string;
  readonly line: number;
  readonly because: string;
}

export function explain(policy: Policy, question: Question): Explanation {
  const { rule: deciding, refusal } = decide(policy, question);
  const end = deciding ? policy.rules.indexOf(deciding) : policy.rules.length;
  const rules = policy.rules.map((rule, index) => ({
    rule: rule.name,
    line: rule.line,
    because: index > end ? "not looked at any more" : (missText(rule, question) ?? "it decides"),
  }));
  return {
    allowed: refusal === undefined,
    ...(deciding ? { rule: deciding.name } : {}),
    ...(refusal === undefined ? {} : { refusal }),
    ...(deciding && refusal === undefined && question.row.kind === "write" ? leaseTermsOf(deciding) : {}),
    rules,
  };
}

function missText(rule: Rule, question: Question): string | undefined {
  const miss = mismatch(rule, question);
  if (miss === "who") return "it is for others";
  if (miss === "operation") return `it does not allow ${question.row.name}`;
  return miss === "gpu" ? `it is not for ${question.target.name}` : undefined;
}

/** What the rules that are for an actor allow, in order, as JSON shows it. */
export function rightsOfActor({ rules }: Policy, actor: Actor): readonly object[] {
  return rules.filter(({ who }) => isMeant(who, actor)).map(describeRule);
}

/** A rule without those whom it is for, as JSON shows it. */
export function describeRule(rule: Rule): object {
  const { name, allow, gpus, bounds, rate } = rule;
  return {
    rule: name,
    allow,
    gpus: gpus ?? "all",
    ...(bounds.length === 0
      ? {}
      : { bounds: bounds.map(({ models, ...quantities }) => ({ ...namesOf(models), ...quantities })) }),
    ...(rate ? { rate: { writes_per_second: rate.writesPerSecond, burst: rate.burst } } : {}),
    ...leaseTermsOf(rule),
  };
}

function leaseTermsOf({ lease, exclusive, restoreOnExit }: Rule): LeaseTerms {
  return {
    ...(lease === "optional" ? {} : { lease }),
    ...(exclusive ? {} : { exclusive }),
    ...(restoreOnExit === undefined ? {} : { restore_on_exit: restoreOnExit }),
  };
}

function namesOf(models: Rule["bounds"][number]["models"]): object {
  return models ? { models: models.map(({ text }) => text) } : {};
}
