// A refusal of the policy, with the rule that says no, if one does.
import { ZeusdError } from "../contract/errors.ts";

export class RuleRefusal extends ZeusdError {
  readonly rule: string | undefined;

  constructor(code: "forbidden" | "rate_limited", message: string, rule: string | undefined, retryAfterS?: number) {
    super(code, message, retryAfterS === undefined ? {} : { retryAfterS });
    this.rule = rule;
  }
}
