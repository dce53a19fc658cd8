// The policy: who may do what on which GPU and within which bounds, and what a refusal says.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decide, isMeant, mismatch, type Policy, type Verdict } from "../../src/access/policy.ts";
import type { Values } from "../../src/contract/field.ts";
import { allOperations, type Row } from "../../src/contract/operations.ts";
import { operationOf } from "../../src/contract/rights.ts";
import type { Target } from "../../src/contract/target.ts";
import { actorOf, cpuOf, gpuOf, h100, policyOf, ruleOf, type Draft } from "./subjects.ts";

const alice = actorOf({ uid: 1000 });

interface Asked {
  readonly actor?: ReturnType<typeof actorOf>;
  readonly right?: string;
  readonly parameters?: Values;
  readonly target?: Target;
}

/** The rule that allows it, or the refusal. */
function answer(policy: Policy, asked: Asked = {}): string {
  const { actor = alice, right = "set_power_limit", parameters = { power_limit_mw: 300_000 }, target } = asked;
  const row = operationOf(right);
  const { rule, refusal } = decide(policy, {
    actor,
    row,
    parameters,
    target: target ?? (row.device === "cpu" ? cpuOf(0) : gpuOf(0)),
  });
  return refusal === undefined ? `allowed by ${rule?.name}` : refusal;
}

const powerLimit = (power_limit_mw: number): Asked => ({ parameters: { power_limit_mw } });

describe("a rule is for", () => {
  it.each<[string, Partial<Draft>, Parameters<typeof actorOf>[0], boolean]>([
    ["its user", { uids: [1000] }, { uid: 1000 }, true],
    ["no other user", { uids: [1000] }, { uid: 1001 }, false],
    ["root only if it says so", { uids: [1000] }, { uid: 0 }, false],
    ["root if it says so", { uids: [1, 0] }, { uid: 0, gid: 0 }, true],
    ["no user whose group has that number", { uids: [1000] }, { uid: 1, gid: 1000, groups: [1000] }, false],
    ["a primary group", { gids: [44] }, { uid: 1, gid: 44 }, true],
    ["a supplementary group", { gids: [7, 44] }, { uid: 1, gid: 1, groups: [2, 44] }, true],
    ["no other group", { gids: [44] }, { uid: 1, gid: 1, groups: [2, 45] }, false],
    ["no group whose user has that number", { gids: [44] }, { uid: 44, gid: 1 }, false],
    ["a token's subject", { tokens: ["alice"] }, { sub: "alice" }, true],
    ["no other subject", { tokens: ["alice"] }, { sub: "alice2" }, false],
    ["a subject with a capital only if it says so", { tokens: ["alice"] }, { sub: "Alice" }, false],
    ["all subjects of a pattern", { tokens: ["bob", "job-*@lab"] }, { sub: "job-17@lab" }, true],
    ["no subject that a pattern only begins", { tokens: ["job-*@lab"] }, { sub: "job-17@lab2" }, false],
    ["every token, with a star", { tokens: ["*"] }, { sub: "" }, true],
    ["nobody without a token, even with a star", { tokens: ["*"] }, { uid: 0 }, false],
    ["a token over the Unix socket", { tokens: ["alice"] }, { uid: 1, sub: "alice" }, true],
    ["a user who has someone's token", { uids: [1] }, { uid: 1, sub: "alice" }, true],
    ["either of a user and a token", { uids: [1], tokens: ["alice"] }, { uid: 2, sub: "alice" }, true],
    ["either of a user and a group", { uids: [1], gids: [5] }, { uid: 1, gid: 2 }, true],
    ["neither of a user and a token", { uids: [1], tokens: ["alice"] }, { uid: 2, sub: "bob" }, false],
    ["nobody over TCP, if it is for users and groups", { uids: [0], gids: [0] }, { sub: "root" }, false],
    ["anyone with a uid", { anyone: true }, { uid: 65534 }, true],
    ["anyone with a token", { anyone: true }, { sub: "x" }, true],
    ["anyone without either", { anyone: true }, {}, true],
    ["nobody without either, unless it is for anyone", { uids: [0], gids: [0], tokens: ["*"] }, {}, false],
    ["nobody, if it names none", { uids: [] }, { uid: 0, gid: 0, sub: "" }, false],
  ])("%s", (_, who, who2, meant) => {
    const rule = ruleOf({ name: "r", ...who });
    const actor = actorOf(who2);
    expect(isMeant(rule.who, actor)).toBe(meant);
    const question = { actor, row: operationOf("set_power_limit"), parameters: {}, target: gpuOf(0) };
    expect(mismatch(rule, question)).toBe(meant ? undefined : "who");
  });
});

describe("a rule allows", () => {
  it("all operations of a group, and no others", () => {
    for (const group of ["gpu-control", "gpu-read", "cpu-read"]) {
      const policy = policyOf({ name: "r", allow: [group] });
      for (const row of allOperations) {
        const right = `${row.device}/${row.name}`;
        expect([right, answer(policy, { right }) === "allowed by r"]).toEqual([right, row.group === group]);
      }
    }
  });

  it.each<[string, readonly string[]]>([
    ["set_power_limit", ["gpu/set_power_limit"]],
    ["gpu/set_power_limit", ["gpu/set_power_limit"]],
    ["get_power", ["gpu/get_power", "cpu/get_power"]],
    ["gpu/get_power", ["gpu/get_power"]],
    ["cpu/get_power", ["cpu/get_power"]],
    ["stream_power", ["gpu/stream_power", "cpu/stream_power"]],
    ["supports_dram_energy", ["cpu/supports_dram_energy"]],
    ["reset_locked_clocks", ["gpu/reset_locked_clocks"]],
  ])("with %j nothing but %j", (right, allowed) => {
    const policy = policyOf({ name: "r", allow: [right] });
    const all = allOperations.map(({ device, name }) => `${device}/${name}`);
    expect(all.filter((each) => answer(policy, { right: each }) === "allowed by r").toSorted()).toEqual(
      allowed.toSorted(),
    );
  });

  it("the sum of what it names", () => {
    const policy = policyOf({ name: "r", allow: ["set_power_limit", "cpu-read"] });
    expect(answer(policy)).toBe("allowed by r");
    expect(answer(policy, { right: "cpu/get_power", parameters: {} })).toBe("allowed by r");
    expect(answer(policy, { right: "reset_locked_clocks" })).not.toBe("allowed by r");
  });
});

describe("a rule for some GPUs", () => {
  const uuid = "GPU-6f1a0b3c-0000-1111-2222-333344445555";
  const target = gpuOf(2, { uuid, pci_address: "0000:c1:00.0" });

  it.each([
    [2, true],
    [1, false],
    [uuid, true],
    [uuid.toLowerCase(), true],
    [`gpu-${uuid.slice(4).toUpperCase()}`, true],
    [uuid.slice(0, -1), false],
    ["0000:c1:00.0", true],
    ["0000:C1:00.0", true],
    ["00000000:C1:00.0", true],
    ["00000000:c1:00.0", true],
    ["c1:00.0", true],
    ["C1:00.0", true],
    ["0001:c1:00.0", false],
    ["00010000:c1:00.0", false],
    ["c1:00.1", false],
    ["c2:00.0", false],
  ])("that names %j: is the GPU meant? %j", (gpu, meant) => {
    const one = policyOf({ name: "r", gpus: [gpu] });
    const several = policyOf({ name: "r", gpus: [7, gpu, "GPU-0"] });
    expect(answer(one, { target }) === "allowed by r").toBe(meant);
    expect(answer(several, { target }) === "allowed by r").toBe(meant);
  });

  it("of another PCI domain means that domain, however many digits it is written with", () => {
    const far = gpuOf(0, { pci_address: "0000a1b2:c1:00.0" });
    for (const gpu of ["a1b2:c1:00.0", "0000A1B2:C1:00.0"])
      expect(answer(policyOf({ name: "r", gpus: [gpu] }), { target: far })).toBe("allowed by r");
    expect(answer(policyOf({ name: "r", gpus: ["c1:00.0"] }), { target: far })).not.toBe("allowed by r");
  });

  it.each([null, undefined])("means a GPU whose UUID and PCI address are %j by its id alone", (unknown) => {
    const bare = gpuOf(0, { uuid: unknown, pci_address: unknown });
    expect(answer(policyOf({ name: "r", gpus: [0] }), { target: bare })).toBe("allowed by r");
    expect(answer(policyOf({ name: "r", gpus: [uuid, "c1:00.0"] }), { target: bare })).not.toBe("allowed by r");
  });

  it("holds for all CPUs, whatever their id", () => {
    const policy = policyOf({ name: "r", gpus: [7] });
    for (const id of [0, 1, 7])
      expect(answer(policy, { right: "cpu/get_power", target: cpuOf(id) })).toBe("allowed by r");
  });
});

describe("of several rules", () => {
  it("the first that matches decides", () => {
    const policy = policyOf({ name: "a", uids: [1] }, { name: "b" }, { name: "c" });
    expect(answer(policy)).toBe("allowed by b");
    expect(answer(policy, { actor: actorOf({ uid: 1 }) })).toBe("allowed by a");
  });

  it("the first that matches decides also where it says no and a later one would not", () => {
    const strict: Draft = { name: "strict", bounds: [{ power_limit_mw: { max: 200_000 } }] };
    const lax: Draft = { name: "lax" };
    expect(answer(policyOf(strict, lax))).toBe(
      'power_limit_mw 300000 is above 200000, the most that rule "strict" allows on GPU 0',
    );
    expect(answer(policyOf(lax, strict))).toBe("allowed by lax");
  });

  it("one for another operation, GPU or actor is passed over with its bounds", () => {
    const bounds = [{ power_limit_mw: { max: 1 } }];
    for (const other of [{ allow: ["gpu-read"] }, { gpus: [1] }, { uids: [1] }])
      expect(answer(policyOf({ name: "a", bounds, ...other }, { name: "b" }))).toBe("allowed by b");
  });
});

describe("bounds", () => {
  it.each<[object, number, boolean]>([
    [{ min: 200_000 }, 199_999, false],
    [{ min: 200_000 }, 200_000, true],
    [{ min: 200_000 }, 4_294_967_295, true],
    [{ max: 200_000 }, 0, true],
    [{ max: 200_000 }, 200_000, true],
    [{ max: 200_000 }, 200_001, false],
    [{ min: 200_000, max: 300_000 }, 199_999, false],
    [{ min: 200_000, max: 300_000 }, 200_000, true],
    [{ min: 200_000, max: 300_000 }, 300_000, true],
    [{ min: 200_000, max: 300_000 }, 300_001, false],
    [{ min: 5, max: 5 }, 5, true],
    [{ min: 0, max: 0 }, 0, true],
    [{ max: 0 }, 1, false],
  ])("of %j: may it be %d? %j", (power_limit_mw, value, allowed) => {
    expect(answer(policyOf({ name: "r", bounds: [{ power_limit_mw }] }), powerLimit(value)) === "allowed by r").toBe(
      allowed,
    );
  });

  it.each([
    ["set_gpu_locked_clocks", "gpu_clock_mhz"],
    ["set_mem_locked_clocks", "memory_clock_mhz"],
  ])("of clocks hold for both ends of a range: %s", (right, quantity) => {
    const policy = policyOf({ name: "r", bounds: [{ [quantity]: { min: 500, max: 1500 } }] });
    const ask = (min_clock_mhz: number, max_clock_mhz: number): string =>
      answer(policy, { right, parameters: { min_clock_mhz, max_clock_mhz } });
    expect(ask(500, 1500)).toBe("allowed by r");
    expect(ask(499, 1500)).toBe('min_clock_mhz 499 is below 500, the least that rule "r" allows on GPU 0');
    expect(ask(500, 1501)).toBe('max_clock_mhz 1501 is above 1500, the most that rule "r" allows on GPU 0');
    expect(ask(1501, 1502)).toBe('min_clock_mhz 1501 is above 1500, the most that rule "r" allows on GPU 0');
    expect(ask(100, 499)).toBe('min_clock_mhz 100 is below 500, the least that rule "r" allows on GPU 0');
  });

  it("of one quantity say nothing of another, nor of what has no value", () => {
    const policy = policyOf({ name: "r", bounds: [{ gpu_clock_mhz: { max: 0 } }] });
    const clocks = { min_clock_mhz: 1, max_clock_mhz: 2 };
    expect(answer(policy)).toBe("allowed by r");
    expect(answer(policy, { right: "set_mem_locked_clocks", parameters: clocks })).toBe("allowed by r");
    expect(answer(policy, { right: "set_gpu_locked_clocks", parameters: clocks })).not.toBe("allowed by r");
    for (const right of ["reset_gpu_locked_clocks", "reset_locked_clocks", "get_power_limit", "cpu/get_power"])
      expect(answer(policy, { right, parameters: {} })).toBe("allowed by r");
    expect(answer(policy, { right: "set_persistence_mode", parameters: { enabled: true } })).toBe("allowed by r");
  });

  it("for models are looked at in order, and the first for the quantity and the model holds", () => {
    const policy = policyOf({
      name: "r",
      bounds: [
        { models: ["*H100*"], gpu_clock_mhz: { max: 1 } },
        { models: ["*B200*", "*H100 80GB*"], power_limit_mw: { max: 700 } },
        { models: ["*H100*"], power_limit_mw: { max: 500 } },
        { power_limit_mw: { max: 100 } },
        { models: ["*A100*"], power_limit_mw: { max: 9 } },
      ],
    });
    const most = (model: string): number | undefined =>
      [700, 500, 100, 9].find(
        (value) => answer(policy, { ...powerLimit(value), target: gpuOf(0, { model }) }) === "allowed by r",
      );
    expect([h100, "NVIDIA H100 PCIe", "NVIDIA B200", "NVIDIA A100", "nvidia h100"].map(most)).toEqual([
      700, 500, 700, 100, 100,
    ]);
  });

  it("that a rule has for other models only let nothing of that quantity through", () => {
    const policy = policyOf({ name: "r", bounds: [{ models: ["*A100*"], power_limit_mw: { max: 400_000 } }] });
    expect(answer(policy, powerLimit(1))).toBe(
      `rule "r" has bounds for power_limit_mw, but none for ${h100}, which GPU 0 is`,
    );
    expect(answer(policy, { target: gpuOf(1, { model: "NVIDIA A100" }) })).toBe("allowed by r");
    const clocks = { right: "set_gpu_locked_clocks", parameters: { min_clock_mhz: 1, max_clock_mhz: 2 } };
    expect(answer(policy, clocks)).toBe("allowed by r");
  });

  it("for models let nothing through where the model is not known, and bounds for all models hold", () => {
    const unknown = { ...powerLimit(1), target: gpuOf(0, { model: undefined }) };
    expect(answer(policyOf({ name: "r", bounds: [{ models: ["*"], power_limit_mw: { max: 5 } }] }), unknown)).toBe(
      'rule "r" has bounds for power_limit_mw by model, and the model of GPU 0 is not known',
    );
    expect(answer(policyOf({ name: "r", bounds: [{ power_limit_mw: { max: 5 } }] }), unknown)).toBe("allowed by r");
  });
});

describe("where no rule matches the refusal says", () => {
  it.each([
    [{ uid: 1000 }, "uid 1000"],
    [{ uid: 0, sub: "bob" }, "uid 0 with token subject 'bob'"],
    [{ sub: "bob" }, "token subject 'bob'"],
    [{}, "a client without identity"],
  ])("that none is for %j", (who, shown) => {
    const actor = actorOf(who);
    expect(answer({ rules: [] }, { actor })).toBe(`no rule of the policy is for ${shown}`);
    expect(answer(policyOf({ name: "a", uids: [5] }, { name: "b", gids: [5] }), { actor })).toBe(
      `no rule of the policy is for ${shown}`,
    );
  });

  it("what the rules for the actor do allow, in order", () => {
    const policy = policyOf(
      { name: "readers", allow: ["gpu-read", "cpu-read"] },
      { name: "others", uids: [5] },
      { name: "clocks", uids: [1000], allow: ["reset_locked_clocks"] },
    );
    expect(answer(policy)).toBe(
      'no rule of the policy allows set_power_limit to uid 1000: rule "readers" allows gpu-read, cpu-read; ' +
        'rule "clocks" allows reset_locked_clocks',
    );
  });

  it("on which GPUs the operation is allowed, by the first rule that allows it anywhere", () => {
    const policy = policyOf(
      { name: "readers", allow: ["gpu-read"] },
      { name: "own", gpus: [1, "GPU-abc", "0000:c1:00.0"] },
      { name: "more", gpus: [2] },
    );
    expect(answer(policy)).toBe(
      'rule "own" allows set_power_limit to uid 1000 on GPU 1, GPU-abc, 0000:c1:00.0 only, and not on GPU 0',
    );
  });
});

// Small worlds, in which rules, actors and devices often meet.

/** The GPUs of the world, with all ways to name them. */
const gpus = [
  { target: gpuOf(0, { uuid: "GPU-aa00", pci_address: "0000:01:00.0" }), names: [0, "gpu-AA00", "01:00.0"] },
  {
    target: gpuOf(1, { uuid: "GPU-aa01", pci_address: "0001:01:00.0", model: "NVIDIA A100" }),
    names: [1, "0001:01:00.0"],
  },
  { target: gpuOf(2, { uuid: null, pci_address: null, model: "NVIDIA A100 PCIe" }), names: [2] },
];
const strangers: readonly (number | string)[] = [9, "GPU-ffff", "02:00.0"];
const targets = [...gpus.map(({ target }) => target), cpuOf(0), cpuOf(1)];
const namesOf = new Map(gpus.map(({ target, names }): [Target, readonly (number | string)[]] => [target, names]));

/** What the parameters of the operations are, said once more. */
const quantitiesOf: Readonly<Record<string, "power_limit_mw" | "gpu_clock_mhz" | "memory_clock_mhz">> = {
  "set_power_limit power_limit_mw": "power_limit_mw",
  "set_gpu_locked_clocks min_clock_mhz": "gpu_clock_mhz",
  "set_gpu_locked_clocks max_clock_mhz": "gpu_clock_mhz",
  "set_mem_locked_clocks min_clock_mhz": "memory_clock_mhz",
  "set_mem_locked_clocks max_clock_mhz": "memory_clock_mhz",
};

const small = fc.nat(6);
const uid = fc.constantFrom(0, 1, 2);
const subjects = ["alice", "al", "bob", "b*b"];
const bound = fc.oneof(
  fc.record({ min: small }),
  fc.record({ max: small }),
  fc.tuple(small, small).map(([one, other]) => ({ min: Math.min(one, other), max: Math.max(one, other) })),
);
const some = <Each>(...values: readonly Each[]): fc.Arbitrary<Each[]> =>
  fc.array(fc.constantFrom(...values), { minLength: 1, maxLength: 3 });
const bounds = fc.record(
  {
    models: some("*", "NVIDIA A100", "NVIDIA A100*", "*H100*", "*80*3"),
    power_limit_mw: bound,
    gpu_clock_mhz: bound,
    memory_clock_mhz: bound,
  },
  { requiredKeys: [] },
);
const rights = ["gpu-control", "gpu-control", "gpu-read", "cpu-read", "set_power_limit", "get_power", "gpu/get_power"];
const draft: fc.Arbitrary<Draft> = fc.record(
  {
    name: fc.string({ minLength: 1, maxLength: 3 }),
    anyone: fc.boolean(),
    uids: some(0, 1, 2),
    gids: some(10, 11, 12),
    tokens: some("*", "a*", "*b", "al*ice", "bob", "**", "a*l*"),
    allow: some(...rights),
    gpus: some(...gpus.flatMap(({ names }) => names), ...strangers),
    bounds: fc.array(bounds, { maxLength: 3 }),
  },
  { requiredKeys: ["name", "allow"] },
);
const drafts = fc.array(draft, { maxLength: 5 });
const actor = fc.record(
  { uid, gid: fc.constantFrom(10, 11, 13), groups: fc.subarray([10, 12, 14]), sub: fc.constantFrom(...subjects) },
  { requiredKeys: ["gid", "groups"] },
);
const parametersOf = ({ parameters }: Row): fc.Arbitrary<Values> =>
  fc.record(
    Object.fromEntries(
      Object.entries(parameters).map(([name, { type }]) => [name, type === "u32" ? small : fc.boolean()]),
    ),
  );
const writesMostly = [...allOperations, ...allOperations.filter(({ kind }) => kind === "write")];
const question = fc.tuple(fc.constantFrom(...writesMostly), fc.nat()).chain(([row, pick]) => {
  const own = targets.filter(({ kind }) => kind === row.device);
  return fc.record({
    who: actor,
    row: fc.constant(row),
    parameters: parametersOf(row),
    target: fc.constant(own[pick % own.length] ?? gpuOf(0)),
  });
});
type AskedOf = typeof question extends fc.Arbitrary<infer Value> ? Value : never;

/** `a*b` as a regular expression. */
function fits(patterns: readonly string[], text: string): boolean {
  return patterns.some((pattern) =>
    new RegExp(`^${pattern.replaceAll(/[^\w*]/g, String.raw`\$&`).replaceAll("*", "[^]*")}$`).test(text),
  );
}

function isInScope(rule: Draft, { who: { uid: user, gid, groups, sub }, row, target }: AskedOf): boolean {
  const { anyone, uids = [], gids = [], tokens = [], allow = [] } = rule;
  const unsaid = anyone === undefined && !rule.uids && !rule.gids && !rule.tokens;
  const meant =
    anyone === true ||
    unsaid ||
    (user !== undefined && (uids.includes(user) || [gid, ...groups].some((each) => gids.includes(each)))) ||
    (sub !== undefined && fits(tokens, sub));
  const allowed = [row.group, row.name, `${row.device}/${row.name}`].some((right) => allow.includes(right));
  const covered = row.device === "cpu" || !rule.gpus || rule.gpus.some((gpu) => namesOf.get(target)?.includes(gpu));
  return meant && allowed && covered;
}

function isInBounds(rule: Draft, { row, parameters, target }: AskedOf): boolean {
  return Object.entries(parameters).every(([name, value]) => {
    const quantity = quantitiesOf[`${row.name} ${name}`];
    const all = (rule.bounds ?? []).filter((each) => quantity !== undefined && each[quantity] !== undefined);
    if (quantity === undefined || all.length === 0) return true;
    const own = all.find(({ models }) => models === undefined || fits(models, target.model ?? ""))?.[quantity];
    return own !== undefined && Number(value) >= (own.min ?? 0) && Number(value) <= (own.max ?? Infinity);
  });
}

function verdictOf(rules: readonly Draft[], { who, ...rest }: AskedOf): Verdict {
  return decide(policyOf(...rules), { actor: actorOf(who), ...rest });
}

const many = { numRuns: 5000 };

describe("any policy and any question", () => {
  it("are decided by the first rule in whose scope the question is, and allowed if it is within its bounds", () => {
    let allowed = 0;
    let refused = 0;
    const holds = fc.property(drafts, question, (rules, asked) => {
      const deciding = rules.findIndex((rule) => isInScope(rule, asked));
      const rule = rules[deciding];
      const verdict = verdictOf(rules, asked);
      expect(verdict.rule).toEqual(rule && { ...ruleOf(rule), who: expect.anything(), bounds: expect.anything() });
      expect(verdict.refusal === undefined).toBe(rule !== undefined && isInBounds(rule, asked));
      if (verdict.refusal === undefined) allowed += 1;
      else if (rule) refused += 1;
    });
    fc.assert(holds, many);
    // Else it would show little.
    expect(Math.min(allowed, refused)).toBeGreaterThan(many.numRuns / 50);
  });

  it("give a rule or a refusal, and a refusal of a rule names it", () => {
    const holds = fc.property(drafts, question, (rules, asked) => {
      const { rule, refusal } = verdictOf(rules, asked);
      expect(rule !== undefined || refusal !== undefined).toBe(true);
      if (refusal === undefined) return;
      expect(refusal).not.toContain("undefined");
      expect(refusal).toContain(rule ? `rule "${rule.name}"` : "");
      if (rule) expect(refusal).toContain(asked.target.name);
    });
    fc.assert(holds, many);
  });

  it("are decided the same whatever comes after the rule that decides", () => {
    const holds = fc.property(drafts, drafts, question, (rules, others, asked) => {
      const deciding = rules.findIndex((rule) => isInScope(rule, asked));
      fc.pre(deciding >= 0);
      const before = verdictOf(rules, asked);
      const after = verdictOf([...rules.slice(0, deciding + 1), ...others], asked);
      expect([after.rule?.name, after.refusal]).toEqual([before.rule?.name, before.refusal]);
    });
    fc.assert(holds, many);
  });

  it("are decided the same without a rule in whose scope the question is not", () => {
    const holds = fc.property(drafts, question, (rules, asked) => {
      const before = verdictOf(rules, asked);
      const after = verdictOf(
        rules.filter((rule) => isInScope(rule, asked)),
        asked,
      );
      expect(after.rule?.name).toBe(before.rule?.name);
      // What says no without a rule tells of the rules that there are.
      if (before.rule) expect(after.refusal).toBe(before.refusal);
      else expect(after.refusal).toBeTypeOf("string");
    });
    fc.assert(holds, many);
  });

  it("never throw, however little is known of the device and whatever the parameters are", () => {
    const odd = fc.record({
      kind: fc.constantFrom("gpu", "cpu"),
      id: fc.integer(),
      name: fc.string(),
      model: fc.option(fc.string(), { nil: undefined }),
      uuid: fc.option(fc.string(), { nil: null }),
      pci_address: fc.option(fc.string(), { nil: undefined }),
    } satisfies Record<keyof Target, fc.Arbitrary<unknown>>);
    const values = fc.dictionary(
      fc.constantFrom("power_limit_mw", "min_clock_mhz", "max_clock_mhz", "enabled", "__proto__"),
      fc.oneof(fc.boolean(), fc.double(), fc.constant(null)),
    );
    const rows = fc.constantFrom(...allOperations);
    const holds = fc.property(drafts, actor, rows, odd, values, (rules, who, row, target, parameters) => {
      const verdict = decide(policyOf(...rules), { actor: actorOf(who), row, parameters, target });
      expect(verdict.rule !== undefined || typeof verdict.refusal === "string").toBe(true);
    });
    fc.assert(holds, many);
  });
});
