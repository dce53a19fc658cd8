// What a policy says of leases: who may hold one, and how a file says it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describeRule, explain } from "../../src/access/explain.ts";
import { decide, decideLease, leaseNeeds, mayRead, type LeaseQuestion, type Rule } from "../../src/access/policy.ts";
import { PolicyError, readPolicy, type Names } from "../../src/access/policy-file.ts";
import { explainPolicy } from "../../src/cli/policy.ts";
import { allOperations, apiGroups, type Row } from "../../src/contract/operations.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { createFolder } from "../folder.ts";
import { actorOf, gpuOf, policyOf, type Draft } from "./subjects.ts";

const alice = actorOf({ uid: 1000 });

/** The rule that allows the lease, or the refusal. */
function answer(drafts: readonly Draft[], asked: Partial<LeaseQuestion> = {}): string {
  const { rule, refusal } = decideLease(policyOf(...drafts), {
    actor: alice,
    target: gpuOf(0),
    exclusive: false,
    ...asked,
  });
  return refusal === undefined ? `allowed by ${rule?.name}` : refusal;
}

const nothingToLease = (who: string, gpu = "GPU 0"): string =>
  `no rule of the policy allows ${who} to change ${gpu}, so there is nothing to lease`;

describe("a lease", () => {
  it.each<[string, Partial<Draft>, string, string]>([
    ["of which the rule says nothing", {}, "allowed by x", "allowed by x"],
    ["that is optional", { lease: "optional" }, "allowed by x", "allowed by x"],
    ["that is required", { lease: "required" }, "allowed by x", "allowed by x"],
    [
      "that is forbidden",
      { lease: "forbidden" },
      'rule "x" allows no leases on GPU 0',
      'rule "x" allows no leases on GPU 0',
    ],
    ["that may not be exclusive", { exclusive: false }, "allowed by x", 'rule "x" allows no exclusive lease on GPU 0'],
    [
      "that is required and may not be exclusive",
      { lease: "required", exclusive: false },
      "allowed by x",
      'rule "x" allows no exclusive lease on GPU 0',
    ],
    ["of a rule for one operation", { allow: ["gpu-read", "set_power_limit"] }, "allowed by x", "allowed by x"],
    [
      "of a rule that lets nothing be written",
      { allow: ["gpu-read", "cpu-read"] },
      nothingToLease("uid 1000"),
      nothingToLease("uid 1000"),
    ],
    ["of a rule for others", { uids: [1] }, nothingToLease("uid 1000"), nothingToLease("uid 1000")],
    ["of a rule for another GPU", { gpus: [1] }, nothingToLease("uid 1000"), nothingToLease("uid 1000")],
  ])("%s", (_, draft, shared, exclusive) => {
    const drafts = [{ name: "x", ...draft }];
    expect(answer(drafts)).toBe(shared);
    expect(answer(drafts, { exclusive: true })).toBe(exclusive);
  });

  it("is decided by the first rule that lets its holder write to the GPU, whatever stands below it", () => {
    const rules: readonly Draft[] = [
      { name: "readers", allow: ["gpu-read"] },
      { name: "others", uids: [1] },
      { name: "elsewhere", gpus: [1], lease: "forbidden" },
      { name: "shared", gpus: [0], allow: ["set_persistence_mode"], exclusive: false },
      { name: "all" },
    ];
    expect(answer(rules)).toBe("allowed by shared");
    expect(answer(rules, { exclusive: true })).toBe('rule "shared" allows no exclusive lease on GPU 0');
    expect(answer(rules, { target: gpuOf(1) })).toBe('rule "elsewhere" allows no leases on GPU 1');
    expect(answer(rules, { target: gpuOf(2), exclusive: true })).toBe("allowed by all");
    expect(answer(rules, { actor: actorOf({ uid: 1 }), exclusive: true })).toBe("allowed by others");
  });

  it("names who may not have it, over TCP as well", () => {
    const rules = [{ name: "x", tokens: ["ci-*"] }];
    expect(answer(rules, { actor: actorOf({ sub: "ci-1" }) })).toBe("allowed by x");
    expect(answer(rules, { actor: actorOf({ sub: "bob" }), target: gpuOf(3) })).toBe(
      nothingToLease("token subject 'bob'", "GPU 3"),
    );
    expect(answer(rules, { actor: actorOf({}) })).toBe(nothingToLease("a client without identity"));
    expect(answer([])).toBe(nothingToLease("uid 1000"));
  });

  it("is refused wherever no write at all would be allowed, and only there if the rules say nothing of leases", () => {
    const writes = allOperations.filter(({ kind }) => kind === "write");
    const some = fc.subarray(["gpu-control", "set_power_limit", "gpu-read", "get_power"], { minLength: 1 });
    const draft = fc.record({ allow: some, gpus: fc.subarray([0, 1, 2], { minLength: 1 }), uids: fc.subarray([1, 2]) });
    const holds = fc.property(fc.array(draft, { maxLength: 4 }), fc.nat(2), fc.boolean(), (drafts, id, exclusive) => {
      const policy = policyOf(...drafts.map((each, index) => ({ name: `r${index}`, ...each })));
      const [actor, target] = [actorOf({ uid: 1 }), gpuOf(id)];
      const mayWrite = (row: Row): boolean =>
        decide(policy, { actor, row, parameters: {}, target }).refusal === undefined;
      const { refusal } = decideLease(policy, { actor, target, exclusive });
      expect(refusal === undefined).toBe(writes.some(mayWrite));
    });
    fc.assert(holds, { numRuns: 2000 });
  });
});

describe("what belongs to an API group as a whole", () => {
  it.each<[string, readonly string[]]>([
    ["gpu-read", ["gpu-read"]],
    ["gpu/get_power", ["gpu-read"]],
    ["get_power", ["gpu-read", "cpu-read"]],
    ["set_power_limit", ["gpu-control"]],
    ["cpu-read", ["cpu-read"]],
  ])("may be read by whom a rule allows %s: %j", (right, readable) => {
    const policy = policyOf({ name: "others", uids: [1] }, { name: "x", gpus: [7], allow: [right] });
    expect(apiGroups.filter((group) => mayRead(policy, alice, group) === undefined).toSorted()).toEqual(
      readable.toSorted(),
    );
  });

  it("may not be read by anyone else, and the refusal says so", () => {
    const policy = policyOf({ name: "x", uids: [1] }, { name: "y", allow: ["gpu-control"] });
    expect(mayRead(policy, alice, "gpu-read")).toBe("no rule of the policy allows anything of gpu-read to uid 1000");
    expect(mayRead({ rules: [] }, actorOf({ sub: "a" }), "gpu-read")).toBe(
      "no rule of the policy allows anything of gpu-read to token subject 'a'",
    );
  });
});

const names: Names = { user: async () => undefined, group: async () => undefined };
const head = '[[rule]]\nname = "x"\nanyone = true\n';

/** The first rule of a file that lets the power limit be set, with more. */
async function ruleWith(more: string): Promise<Rule | undefined> {
  return (await readPolicy(`${head}allow = ["set_power_limit"]\n${more}`, names)).rules[0];
}

async function problemsOf(more: string, allow = '"set_power_limit"'): Promise<readonly string[]> {
  const error = await readPolicy(`${head}allow = [${allow}]\n${more}`, names).catch((thrown: unknown) => thrown);
  if (!(error instanceof PolicyError)) return [];
  return error.problems.map(({ line, key, text }) => `${line} ${key}: ${text}`);
}

describe("a rule of a file", () => {
  it("that says nothing of leases allows them, also exclusive ones, and leaves it to the daemon what is put back", async () => {
    const rule = await ruleWith("");
    expect(rule).toMatchObject({ lease: "optional", exclusive: true });
    expect(rule).not.toHaveProperty("restoreOnExit");
    expect(describeRule(rule as Rule)).toEqual({ rule: "x", allow: ["set_power_limit"], gpus: "all" });
  });

  it.each([
    ['lease = "optional"', { lease: "optional", exclusive: true }, {}],
    ['lease = "required"', { lease: "required", exclusive: true }, { lease: "required" }],
    ['lease = "forbidden"', { lease: "forbidden", exclusive: true }, { lease: "forbidden" }],
    ["exclusive = true", { exclusive: true }, {}],
    ["exclusive = false", { exclusive: false }, { exclusive: false }],
    ["restore_on_exit = true", { restoreOnExit: true }, { restore_on_exit: true }],
    ["restore_on_exit = false", { restoreOnExit: false }, { restore_on_exit: false }],
    [
      'lease = "required"\nrestore_on_exit = true',
      { lease: "required", restoreOnExit: true },
      { lease: "required", restore_on_exit: true },
    ],
    [
      'lease = "forbidden"\nexclusive = false\nrestore_on_exit = false',
      { lease: "forbidden", exclusive: false, restoreOnExit: false },
      { lease: "forbidden", exclusive: false, restore_on_exit: false },
    ],
  ])("can say %j, and shows it where it does not go without saying", async (more, read, shown) => {
    const rule = await ruleWith(more);
    expect(rule).toMatchObject(read);
    expect(describeRule(rule as Rule)).toEqual({ rule: "x", allow: ["set_power_limit"], gpus: "all", ...shown });
  });

  const need = 'it must be one of "optional", "required", "forbidden"';
  const truth = "it must be true or false";
  const idle = "it says something of leases, but allows no write";

  it.each([
    ['lease = "Required"', [`5 rule.lease: ${need}`]],
    ['lease = ""', [`5 rule.lease: ${need}`]],
    ["lease = true", [`5 rule.lease: ${need}`]],
    ['lease = ["required"]', [`5 rule.lease: ${need}`]],
    ["exclusive = 1", [`5 rule.exclusive: ${truth}`]],
    ['exclusive = "true"', [`5 rule.exclusive: ${truth}`]],
    ['restore_on_exit = "no"', [`5 rule.restore_on_exit: ${truth}`]],
    ["restore_on_exit = {}", [`5 rule.restore_on_exit: ${truth}`]],
    ['exclusive = true\nlease = "forbidden"', ['5 rule.exclusive: it contradicts lease = "forbidden"']],
    [
      '\nlease = "forbidden"\n\nrestore_on_exit = true\nexclusive = true',
      [
        '8 rule.restore_on_exit: it contradicts lease = "forbidden", since it makes leases',
        '9 rule.exclusive: it contradicts lease = "forbidden"',
      ],
    ],
  ])("is refused with %j", async (more, problems) => {
    expect(await problemsOf(more)).toEqual(problems);
  });

  it("that lets nothing be written is refused with every word of leases, and one with any write is not", async () => {
    const more = 'lease = "optional"\nexclusive = false\nrestore_on_exit = false';
    for (const allow of ['"gpu-read"', '"cpu-read", "gpu-read"', '"get_power"']) {
      expect(await problemsOf(more, allow)).toEqual([
        `5 rule.lease: ${idle}`,
        `6 rule.exclusive: ${idle}`,
        `7 rule.restore_on_exit: ${idle}`,
      ]);
    }
    for (const { name, kind } of allOperations) {
      if (kind === "write") expect(await problemsOf(more, `"gpu-read", "${name}"`)).toEqual([]);
    }
  });

  it("whose right is misspelt is not told that it allows no write", async () => {
    expect(await problemsOf('lease = "required"', '"set_powerlimit"')).toEqual([
      expect.stringMatching(/^4 rule\.allow: there is no "set_powerlimit"/),
    ]);
  });

  it("that reads as it should can be written in every way that does not contradict itself", async () => {
    const truths = [undefined, true, false];
    for (const lease of [undefined, ...leaseNeeds])
      for (const exclusive of truths)
        for (const restore of truths) {
          const said = { lease, exclusive, restore_on_exit: restore };
          const lines = Object.entries(said).flatMap(([key, value]) =>
            value === undefined ? [] : `${key} = ${JSON.stringify(value)}`,
          );
          const contradiction = lease === "forbidden" && (exclusive === true || restore === true);
          expect([lines, (await problemsOf(lines.join("\n"))).length > 0]).toEqual([lines, contradiction]);
        }
  });
});

describe("the explanation of a question", () => {
  const policy = policyOf({ name: "x", lease: "required", exclusive: false, restoreOnExit: true });
  const question = {
    actor: alice,
    row: operationOf("set_power_limit"),
    parameters: { power_limit_mw: 7 },
    target: gpuOf(0),
  };

  it("says of a write that is allowed what its rule says of leases", () => {
    const said = { allowed: true, rule: "x", lease: "required", exclusive: false, restore_on_exit: true };
    expect(explain(policy, question)).toMatchObject(said);
    const plain = explain(policyOf({ name: "x" }), question);
    expect(Object.keys(plain).toSorted()).toEqual(["allowed", "rule", "rules"]);
  });

  it("says nothing of leases where nothing is written", () => {
    const bounded = policyOf({ name: "x", lease: "required", bounds: [{ power_limit_mw: { max: 1 } }] });
    expect(explain(bounded, question)).not.toHaveProperty("lease");
    const reading = { ...question, row: operationOf("get_power_limit"), parameters: {} };
    expect(explain(policy, reading)).toMatchObject({ allowed: true });
    expect(explain(policy, reading)).not.toHaveProperty("lease");
  });

  it.each([
    ['lease = "required"\nexclusive = false', ' with lease = "required", exclusive = false'],
    ["restore_on_exit = true", " with restore_on_exit = true"],
    ["", ""],
  ])("is printed with the words of the file: %j", async (more, told) => {
    const path = join(createFolder(), "policy.toml");
    writeFileSync(path, `${head}allow = ["set_power_limit"]\n${more}\n`, { mode: 0o600 });
    let stdout = "";
    const people = { ...names, user: async () => undefined, groupsOf: async () => [] };
    const flags = {
      socketPath: "",
      policy: path,
      operation: "set_power_limit",
      uid: 1000,
      gid: [],
      parameters: { power_limit_mw: "300000" },
    };
    const parts = { people, euid: process.geteuid?.() ?? 0, stdout: (text: string) => void (stdout += text) };
    expect(await explainPolicy(flags, parts)).toBe(true);
    expect(stdout.split("\n")[0]).toBe(`set_power_limit on GPU 0 for uid 1000: allowed by rule "x"${told}`);
  });
});
