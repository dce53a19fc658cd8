// The policy file: what it may say, and that nothing that is wrong with it goes unsaid.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describeRule, rightsOfActor } from "../../src/access/explain.ts";
import { decide, leaseNeeds, type Policy } from "../../src/access/policy.ts";
import { PolicyError, readPolicy, type Names } from "../../src/access/policy-file.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { actorOf, gpuOf, h100, ruleOf, type Draft } from "./subjects.ts";

const users: Readonly<Record<string, number>> = { root: 0, alice: 1000, zoë: 1001, bob: 1002 };
const groups: Readonly<Record<string, number>> = { gpu: 44, "domain users": 2000 };
const names: Names = {
  user: async (name) => (Object.hasOwn(users, name) ? { uid: users[name] ?? -1 } : undefined),
  group: async (name) => (Object.hasOwn(groups, name) ? groups[name] : undefined),
};

const read = (text: string): Promise<Policy> => readPolicy(text, names);

/** What is wrong with a file, one problem a line. */
async function problemsOf(text: string, service = names): Promise<string> {
  const error = await readPolicy(text, service).then(
    () => "nothing",
    (thrown: unknown) => thrown,
  );
  if (error instanceof PolicyError) return error.message.replaceAll(/; (?=line \d)/g, "\n");
  if (error instanceof Error) throw error;
  return String(error);
}

/** Four lines, to which more can be added. */
const plain = 'name = "all"\nanyone = true\nallow = ["gpu-read"]\n';
const rule = `[[rule]]\n${plain}`;

const example = `# Who may do what.
[[rule]]
name = "operators"
users = ["root", "alice"]   # by name
groups = ["gpu", "domain users"]
uids = [1003, 1_004]
gids = [0x2d]
tokens = ["ops", "ops-*"]
allow = ["gpu-control", "gpu/get_power", "set_power_limit"]
lease = "required"
exclusive = false
restore_on_exit = true
gpus = [
  0, 1,
  "GPU-6f1a0b3c-0000-1111-2222-333344445555", # by UUID
  "0000:41:00.0",
]

[rule.rate]
writes_per_second = 2.5
burst = 8

[[rule.bounds]]
models = ["*H100*", "*H200*"]
power_limit_mw = { min = 200_000, max = 700_000 }
gpu_clock_mhz = { max = 1980 }

[[rule.bounds]]
memory_clock_mhz = { min = 0 }

[[rule]]
name = 'everyone "else"'
anyone = true
allow = ["gpu-read", "cpu-read"]
rate = { writes_per_second = 0.5 }
`;

describe("a policy file", () => {
  it("with every key that there is gives the rules in order, with numbers instead of names", async () => {
    const { rules } = await read(example);
    expect(rules.map(({ name, line }) => [name, line])).toEqual([
      ["operators", 2],
      ['everyone "else"', 31],
    ]);
    const [operators, others] = rules;
    expect(operators?.who).toMatchObject({
      anyone: false,
      uids: new Set([1003, 1004, 0, 1000]),
      gids: new Set([45, 44, 2000]),
    });
    expect(operators?.who.subjects.map(({ text }) => text)).toEqual(["ops", "ops-*"]);
    expect(operators && describeRule(operators)).toEqual({
      rule: "operators",
      allow: ["gpu-control", "gpu/get_power", "set_power_limit"],
      gpus: [0, 1, "GPU-6f1a0b3c-0000-1111-2222-333344445555", "0000:41:00.0"],
      bounds: [
        {
          models: ["*H100*", "*H200*"],
          power_limit_mw: { min: 200_000, max: 700_000 },
          gpu_clock_mhz: { max: 1980 },
        },
        { memory_clock_mhz: { min: 0 } },
      ],
      rate: { writes_per_second: 2.5, burst: 8 },
      lease: "required",
      exclusive: false,
      restore_on_exit: true,
    });
    expect(others?.who).toEqual({ anyone: true, uids: new Set(), gids: new Set(), subjects: [] });
    expect(others && describeRule(others)).toEqual({
      rule: 'everyone "else"',
      allow: ["gpu-read", "cpu-read"],
      gpus: "all",
      rate: { writes_per_second: 0.5, burst: 1 },
    });
  });

  it("is what decides", async () => {
    const policy = await read(example);
    const ask = (uid: number, sub: string, power_limit_mw: number, id = 0): string => {
      const question = { row: operationOf("set_power_limit"), parameters: { power_limit_mw }, target: gpuOf(id) };
      const { rule: deciding, refusal } = decide(policy, { actor: actorOf({ uid, sub }), ...question });
      return refusal ?? deciding?.name ?? "";
    };
    expect(ask(1000, "", 700_000)).toBe("operators");
    expect(ask(9, "ops-7", 200_000)).toBe("operators");
    expect(ask(9, "op", 200_000)).toMatch(/^no rule of the policy allows set_power_limit to uid 9/);
    expect(ask(1004, "", 700_001)).toMatch(/^power_limit_mw 700001 is above 700000, the most that rule "operators"/);
    expect(ask(0, "", 700_000, 2)).toMatch(
      /^rule "operators" allows set_power_limit to uid 0 .* only, and not on GPU 2/,
    );
    const rights = rightsOfActor(policy, actorOf({ uid: 7 }));
    expect(rights).toMatchObject([{ rule: 'everyone "else"' }]);
  });

  it.each([
    ["LF only", rule],
    ["CR LF", rule.replaceAll("\n", "\r\n")],
    ["no line end at its end", rule.trimEnd()],
    ["comments and empty lines", `# one\n\n  \t\n[[rule]] # two\n${plain.replaceAll("\n", "# three\n\n")}# four`],
    ["arrays over several lines", rule.replace('["gpu-read"]', '[ # which\n\n"gpu-read",\n# that is all\n]')],
    ["an array of inline tables", "rule = [{ name = 'all', anyone = true, allow = ['gpu-read'] }]"],
    ["quoted keys", `[["rule"]]\n"name" = "all"\n'anyone' = true\nallow = ["gpu-read"]`],
    ["escapes and blanks", '[[ rule ]]\n  name="\\u0061ll"\n\tanyone  =  true\nallow=["gpu\\u002dread"]'],
    ["texts of several lines", `[[rule]]\nname = """\nall"""\nanyone = true\nallow = ['''gpu-read''']`],
  ])("with %s says the same", async (_, text) => {
    const { rules } = await read(text);
    expect(rules.map(describeRule)).toEqual([{ rule: "all", allow: ["gpu-read"], gpus: "all" }]);
    expect(rules[0]?.who.anyone).toBe(true);
  });

  it.each([
    ["inline", "rate = { writes_per_second = 3, burst = 4 }\nbounds = [{ power_limit_mw = { max = 5 } }]"],
    [
      "as tables",
      "[rule.rate]\nburst = 4\nwrites_per_second = 3\n[[rule.bounds]]\n[rule.bounds.power_limit_mw]\nmax = 5",
    ],
    ["with dotted keys", "rate.burst = 4\nrate.writes_per_second = 3\n[[rule.bounds]]\npower_limit_mw.max = 5"],
    [
      "with quoted ones",
      `"rate"."burst" = 4\nrate.'writes_per_second' = 3e0\n[["rule".bounds]]\n"power_limit_mw".max = 5`,
    ],
  ])("can have its tables %s", async (_, text) => {
    const { rules } = await read(rule + text);
    expect(rules.map(describeRule)).toMatchObject([
      { rate: { writes_per_second: 3, burst: 4 }, bounds: [{ power_limit_mw: { max: 5 } }] },
    ]);
  });

  it.each([
    [0.001, 1],
    [0.5, 1],
    [1, 1],
    [1.2, 2],
    [7, 7],
    [1_000_000, 1_000_000],
  ])("with a rate of %d and no burst allows %d at once", async (writesPerSecond, burst) => {
    const { rules } = await read(`${rule}rate = { writes_per_second = ${writesPerSecond} }`);
    expect(rules[0]?.rate).toEqual({ writesPerSecond, burst });
  });

  it("looks each name up when it is read, and none that is a number", async () => {
    const asked: string[] = [];
    const service: Names = {
      user: async (name) => ({ uid: asked.push(`user ${name}`) }),
      group: async (name) => asked.push(`group ${name}`),
    };
    const text = '[[rule]]\nname = "r"\nusers = ["a", "b"]\ngroups = ["a"]\nuids = [7]\nallow = ["gpu-read"]\n';
    // However many rules name them, once is enough.
    const { rules } = await readPolicy(text + text.replace('"r"', '"other"'), service);
    expect(rules[1]?.who).toEqual(rules[0]?.who);
    expect(asked.toSorted()).toEqual(["group a", "user a", "user b"]);
    expect(rules[0]?.who.uids.size).toBe(3);
    expect(rules[0]?.who.gids.size).toBe(1);
  });

  it("takes uid 0, which is root's, for a uid", async () => {
    const { rules } = await read('[[rule]]\nname = "r"\nusers = ["root"]\ngids = [0]\nallow = ["gpu-read"]');
    expect(rules[0]?.who).toMatchObject({ uids: new Set([0]), gids: new Set([0]) });
  });
});

const allowed =
  "give API groups (gpu-control, gpu-read, cpu-read) and operations such as set_power_limit or gpu/get_power";
const unknown = "it is not known here; there are ";
const noOne = "it does not say who is meant; give users, groups, uids, gids, tokens or anyone = true";
const noGpu = 'it must be an id such as 0, a UUID such as "GPU-…", or a PCI address such as "0000:41:00.0"';
const id = "it must be a whole number from 0 to 4294967294";
const u32 = "it must be a whole number from 0 to 4294967295";
const text = "it must be a text that is not empty";
const list = "it must be a list that is not empty";
const perSecond = "line 5, rule.rate.writes_per_second: it must be a number from 0.001 to 1000000";
const burst = "line 5, rule.rate.burst: it must be a whole number from 1 to 1000000";
const max = "rule.bounds.power_limit_mw.max";

describe("the refusal of a file names the line and the key", () => {
  it.each([
    ["", "line 1, rule: there is no [[rule]], so nobody could do anything"],
    ["# nothing\n\n", "line 1, rule: there is no [[rule]], so nobody could do anything"],
    ["rule = []", "line 1, rule: it must be written as [[rule]]"],
    ["\nrule = 1", "line 2, rule: it must be written as [[rule]]"],
    ["rule = [1]", "line 1, rule: it must be written as [[rule]]"],
    ["rule = [[]]", "line 1, rule: it must be written as [[rule]]"],
    ["\n\n[rule]\nname = 'a'", "line 3, rule: it must be written as [[rule]]"],
    [`rules = 1\n${rule}`, "line 1, rules: it is not known here; there are rule"],
    [`[defaults]\nx = 1\n${rule}`, "line 1, defaults: it is not known here; there are rule"],
    [`hasOwnProperty = 1\n${rule}`, "line 1, hasOwnProperty: it is not known here; there are rule"],
    [`constructor = 1\n${rule}`, "line 1, constructor: it is not known here; there are rule"],
  ])("%j → %s", async (file, problems) => {
    expect(await problemsOf(file)).toBe(problems);
  });

  it.each([
    ["users", 'name = "all"\nanyone = true\nallow = ["gpu-read"]', "nothing"],
    ["no name", 'anyone = true\nallow = ["gpu-read"]', "line 1, rule.name: it is missing"],
    ["an empty name", 'allow = ["gpu-read"]\nanyone = true\nname = ""', `line 4, rule.name: ${text}`],
    ["a number as its name", 'name = 1\nanyone = true\nallow = ["gpu-read"]', `line 2, rule.name: ${text}`],
    ["no who", 'name = "a"\nallow = ["gpu-read"]', `line 1, rule: ${noOne}`],
    ["no allow", 'name = "a"\nanyone = true', `line 1, rule.allow: it is missing; ${allowed}`],
    ["an empty allow", 'name = "a"\nanyone = true\nallow = []', `line 4, rule.allow: ${list}`],
    ["a text as allow", 'name = "a"\nanyone = true\nallow = "gpu-read"', `line 4, rule.allow: ${list}`],
    ["a number in allow", 'name = "a"\nanyone = true\nallow = [\n"gpu-read",\n1]', `line 6, rule.allow: ${text}`],
    [
      "what it cannot allow",
      'name = "a"\nanyone = true\nallow = [\n  "gpu-read",\n  "gpu-write",\n]',
      `line 6, rule.allow: there is no "gpu-write"; ${allowed}`,
    ],
    [
      "a method's name",
      'name = "a"\nanyone = true\nallow = ["setPowerLimit"]',
      `line 4, rule.allow: there is no "setPowerLimit"; ${allowed}`,
    ],
    [
      "a capital",
      'name = "a"\nanyone = true\nallow = ["Gpu-read"]',
      `line 4, rule.allow: there is no "Gpu-read"; ${allowed}`,
    ],
    [
      "an operation of the other kind",
      'name = "a"\nanyone = true\nallow = ["cpu/set_power_limit"]',
      `line 4, rule.allow: there is no "cpu/set_power_limit"; ${allowed}`,
    ],
    [
      "nothing at all",
      "",
      `line 1, rule.name: it is missing\nline 1, rule: ${noOne}\nline 1, rule.allow: it is missing; ${allowed}`,
    ],
  ])("of a rule with %s", async (_, body, problems) => {
    expect(await problemsOf(`[[rule]]\n${body}`)).toBe(problems);
  });

  it.each([
    ["uids = []", `line 5, rule.uids: ${list}`],
    ["uids = 1000", `line 5, rule.uids: ${list}`],
    ['uids = ["alice"]', `line 5, rule.uids: ${id}`],
    ["uids = [-1]", `line 5, rule.uids: ${id}`],
    ["uids = [1.5]", `line 5, rule.uids: ${id}`],
    ["uids = [\n1,\n4294967295,\n]", `line 7, rule.uids: ${id}`],
    ["uids = [true]", `line 5, rule.uids: ${id}`],
    ["gids = [99999999999]", `line 5, rule.gids: ${id}`],
    ["gids = [nan]", `line 5, rule.gids: ${id}`],
    ["tokens = []", `line 5, rule.tokens: ${list}`],
    ['tokens = [""]', `line 5, rule.tokens: ${text}`],
    ["tokens = [1]", `line 5, rule.tokens: ${text}`],
    ["tokens = '*'", `line 5, rule.tokens: ${list}`],
    ["users = ['']", `line 5, rule.users: ${text}`],
    ["users = [1000]", `line 5, rule.users: ${text}`],
    ["users = ['carol']", 'line 5, rule.users: there is no user "carol"; correct or remove it'],
    ["users = ['alice',\n'gpu']", 'line 6, rule.users: there is no user "gpu"; correct or remove it'],
    ["groups = ['alice']", 'line 5, rule.groups: there is no group "alice"; correct or remove it'],
    ["users = ['constructor']", 'line 5, rule.users: there is no user "constructor"; correct or remove it'],
    ["gpus = []", `line 5, rule.gpus: ${list}`],
    ["gpus = 0", `line 5, rule.gpus: ${list}`],
    ["gpus = [-1]", `line 5, rule.gpus: ${noGpu}`],
    ["gpus = [0.5]", `line 5, rule.gpus: ${noGpu}`],
    ["gpus = [0,\n'all']", `line 6, rule.gpus: ${noGpu}`],
    ["gpus = ['0']", `line 5, rule.gpus: ${noGpu}`],
    ["gpus = ['MIG-6f1a0b3c']", `line 5, rule.gpus: ${noGpu}`],
    ["gpus = ['41:00']", `line 5, rule.gpus: ${noGpu}`],
    ["gpus = [inf]", `line 5, rule.gpus: ${noGpu}`],
    ["rate = {}", "line 5, rule.rate.writes_per_second: it is missing"],
    ["rate = { burst = 3 }", "line 5, rule.rate.writes_per_second: it is missing"],
    ["[rule.rate]\n\nburst = 3", "line 5, rule.rate.writes_per_second: it is missing"],
    ["rate = { writes_per_second = 0 }", perSecond],
    ["rate = { writes_per_second = 0.0009 }", perSecond],
    ["rate = { writes_per_second = -1 }", perSecond],
    ["rate = { writes_per_second = 1000001 }", perSecond],
    ["rate = { writes_per_second = inf }", perSecond],
    ["rate = { writes_per_second = nan }", perSecond],
    ["rate = { writes_per_second = '1' }", perSecond],
    ["rate = { writes_per_second = 1, burst = 0 }", burst],
    ["rate = { writes_per_second = 1, burst = 1.5 }", burst],
    ["rate = { writes_per_second = 1, burst = 1000001 }", burst],
    [
      "rate = { writes_per_second = 1, brust = 1 }",
      "line 5, rule.rate.brust: it is not known here; there are writes_per_second, burst",
    ],
    ["bounds = {}", "line 5, rule.bounds: it must be written as [[rule.bounds]]"],
    ["[rule.bounds]\npower_limit_mw = { max = 1 }", "line 5, rule.bounds: it must be written as [[rule.bounds]]"],
    [
      "[[rule.bounds]]",
      "line 5, rule.bounds: it bounds nothing; give power_limit_mw, gpu_clock_mhz, memory_clock_mhz, each as { min = …, max = … }",
    ],
    [
      "bounds = [{ models = ['*'] }]",
      "line 5, rule.bounds: it bounds nothing; give power_limit_mw, gpu_clock_mhz, memory_clock_mhz, each as { min = …, max = … }",
    ],
    ["[[rule.bounds]]\npower_limit_mw = {}", "line 6, rule.bounds.power_limit_mw: give min, max, or both"],
    [
      "[[rule.bounds]]\n\ngpu_clock_mhz = 7\nmemory_clock_mhz = { max = 1 }",
      "line 7, rule.bounds.gpu_clock_mhz: it must be a table",
    ],
    ["[[rule.bounds]]\npower_limit_mw = { max = -1 }", `line 6, ${max}: ${u32}`],
    ["[[rule.bounds]]\npower_limit_mw = { max = 4294967296 }", `line 6, ${max}: ${u32}`],
    ["[[rule.bounds]]\npower_limit_mw = { max = 250.5 }", `line 6, ${max}: ${u32}`],
    ["[[rule.bounds]]\npower_limit_mw = { max = '250W' }", `line 6, ${max}: ${u32}`],
    ["[[rule.bounds]]\npower_limit_mw = { min = 2, max = 1 }", `line 6, ${max}: it is below min, which is 2`],
    ["[[rule.bounds]]\n[rule.bounds.power_limit_mw]\nmin = 2\nmax = 1", `line 8, ${max}: it is below min, which is 2`],
    [
      "[[rule.bounds]]\npower_limit_mw = { max = 1 }\n[[rule.bounds]]\npower_limit_mw = { least = 1, max = 2 }",
      "line 8, rule.bounds.power_limit_mw.least: it is not known here; there are min, max",
    ],
    ["[[rule.bounds]]\npower_limit_mw = { max = 1 }\nmodels = []", `line 7, rule.bounds.models: ${list}`],
    ["[[rule.bounds]]\npower_limit_mw = { max = 1 }\nmodel = 'H100'", `line 7, rule.bounds.model: ${unknown}`],
    [
      "[[rule.bounds]]\npower_limit_mw = { max = 1 }\npower_limit_w = { max = 1 }",
      `line 7, rule.bounds.power_limit_w: ${unknown}`,
    ],
    ["allows = ['gpu-read']", `line 5, rule.allows: ${unknown}`],
    ["gpu = [0]", `line 5, rule.gpu: ${unknown}`],
    ["constructor = 1", `line 5, rule.constructor: ${unknown}`],
    ["toString.x = 1", `line 5, rule.toString: ${unknown}`],
    ["'na me' = 1", `line 5, rule.na me: ${unknown}`],
    ["when = 2026-01-31T12:00:00Z", `line 5, rule.when: ${unknown}`],
  ])("of a rule with also %j", async (more, problem) => {
    const found = await problemsOf(rule + more);
    // What else is known is told below.
    expect(found.slice(0, problem.length)).toBe(problem);
    expect(found.split("\n")).toHaveLength(1);
  });

  it.each([
    ["rate = 1", "line 5, rule.rate: it must be a table"],
    ["rate = [1]", "line 5, rule.rate: it must be a table"],
    ["rate = 2026-01-31", "line 5, rule.rate: it must be a table"],
    ["anyone = false", "line 2, rule.anyone: it can only be true; leave it out otherwise"],
    ["anyone = 'yes'", "line 2, rule.anyone: it can only be true; leave it out otherwise"],
  ])("of a value of another kind: %s", async (line, problem) => {
    const without = plain.replace("anyone = true\n", line.startsWith("anyone") ? "" : "anyone = true\n");
    const file = line.startsWith("anyone") ? `[[rule]]\n${line}\n${without}` : `[[rule]]\n${without}${line}`;
    expect((await problemsOf(file)).slice(0, problem.length)).toBe(problem);
  });

  it.each([
    "__proto__ = 1",
    "__proto__ = { anyone = true }",
    "__proto__.anyone = true",
    "[rule.__proto__]\nanyone = true",
    "[[rule.__proto__]]\nanyone = true",
    "rate = { __proto__ = { burst = 2 }, writes_per_second = 1 }",
    `"__proto__" = 1`,
  ])("of a key that is __proto__, and nothing else in the process is changed by it: %j", async (more) => {
    try {
      const found = await problemsOf(rule + more);
      expect(Object.keys(Object.prototype)).toEqual([]);
      expect(({} as { anyone?: boolean }).anyone).toBeUndefined();
      expect(found).toMatch(/^line 5\b.*__proto__/);
    } finally {
      delete (Object.prototype as { anyone?: boolean }).anyone;
    }
  });

  it.each([
    "[__proto__]\nanyone = true",
    "__proto__.anyone = true",
    "__proto__.rule = [{}]",
    "[[__proto__.rule]]\nanyone = true",
  ])("of a whole file in __proto__: %j", async (file) => {
    try {
      const found = await problemsOf(file);
      expect(Object.keys(Object.prototype)).toEqual([]);
      expect(found).toMatch(/^line 1\b.*__proto__/);
    } finally {
      for (const key of ["anyone", "rule"]) delete (Object.prototype as Record<string, unknown>)[key];
    }
  });

  it.each([
    [
      "gpu = [0]",
      "allow, anyone, bounds, exclusive, gids, gpus, groups, lease, name, rate, restore_on_exit, tokens, uids, users",
    ],
    [
      "[[rule.bounds]]\npower_limit_mw = { max = 1 }\nmodel = 'H100'",
      "gpu_clock_mhz, memory_clock_mhz, models, power_limit_mw",
    ],
    ["rate = { writes_per_second = 1, brust = 1 }", "burst, writes_per_second"],
    ["[[rule.bounds]]\npower_limit_mw = { least = 1, max = 2 }", "max, min"],
  ])("of a key that is not known names all that are, those that the file has not included: %j", async (more, known) => {
    const [, told = ""] = (await problemsOf(rule + more)).split(unknown);
    expect(told.split(", ").toSorted().join(", ")).toBe(known);
  });

  it("of a rule without a name is not that another one has none either", async () => {
    const nameless = rule.replace('name = "all"\n', "");
    expect(await problemsOf(nameless + nameless)).toBe(
      "line 1, rule.name: it is missing\nline 4, rule.name: it is missing",
    );
  });

  it("of a quantity whose bounds are none is not that there are none besides", async () => {
    expect(await problemsOf(`${rule}[[rule.bounds]]\n\npower_limit_mw = 7`)).toMatch(
      /^line 7, rule.bounds.power_limit_mw: it must be a table[^\n]+$/,
    );
  });

  it.each([
    ["rate.burst = 4", "line 5, rule.rate.writes_per_second: it is missing"],
    ["[[rule.bounds]]\npower_limit_mw.least = 1", `line 6, rule.bounds.power_limit_mw: give min, max, or both`],
    ["[rule.gpu.x]\ny = 1", `line 5, rule.gpu: ${unknown}`],
  ])("is that of the key where a table has no line of its own: %j", async (more, problem) => {
    expect((await problemsOf(rule + more)).slice(0, problem.length)).toBe(problem);
  });

  it("of several names on one line has them in their order, whichever is looked up first", async () => {
    const late = Promise.resolve().then(() => undefined);
    const service: Names = { ...names, user: async (name) => (name === "slow" ? late.then(() => late) : undefined) };
    const found = await problemsOf(`${rule}users = ["slow", "fast"]`, service);
    expect(found.split("\n").map((line) => /"(\w+)"/.exec(line)?.[1])).toEqual(["slow", "fast"]);
  });

  it("of two rules of one name at the second, with the line of the first", async () => {
    const other = rule.replace("all", "other");
    expect(await problemsOf(`\n${rule}${other}${rule}${rule}`)).toBe(
      "line 11, rule.name: the rule at line 2 has it as well\nline 15, rule.name: the rule at line 2 has it as well",
    );
  });

  it("of everything that is wrong at once, in the order of the lines", async () => {
    const file = `colour = "red"
[[rule]]
name = "a"
users = ["alice", "nobody-1"]
allow = ["gpu-read", "gpu-wrote"]
gpus = [0, "x"]
[rule.rate]
burst = 0
[[rule.bounds]]
power_limit_mw = { min = 5, max = 4 }
[[rule]]
name = "a"
groups = ["nogroup-1"]
alow = ["gpu-read"]
[[rule]]
`;
    const found = await problemsOf(file);
    expect(found.split("\n").map((line) => line.split(": ", 1)[0])).toEqual([
      "line 1, colour",
      "line 4, rule.users",
      "line 5, rule.allow",
      "line 6, rule.gpus",
      "line 7, rule.rate.writes_per_second",
      "line 8, rule.rate.burst",
      `line 10, ${max}`,
      "line 11, rule.allow",
      "line 12, rule.name",
      "line 13, rule.groups",
      "line 14, rule.alow",
      "line 15, rule.name",
      "line 15, rule",
      "line 15, rule.allow",
    ]);
  });

  it.each([
    ["name", 1],
    ["\n\nname = ", 3],
    [`${rule}name = "b"`, 5],
    [`${rule}[rule.rate]\n[rule.rate]`, 6],
    [`${rule}allow += 1`, 5],
    [`${rule}x = "a`, 5],
    [`${rule}x = [1,\n2`, 6],
    [`${rule}x = 01`, 5],
    [`${rule}x = 2026-13-01`, 5],
    [`${rule}[rule`, 5],
    [`${rule}x = 'a' y = 'b'`, 5],
    [`${rule}x = "\\q"`, 5],
    [`${rule}x = "\0"`, 5],
    [`${rule}{`, 5],
    ['{"rule": []}', 1],
    ["- name: a", 1],
    [rule.replaceAll("\n", "\r"), 1],
  ])("of what is no TOML: %j is wrong at line %d", async (file, line) => {
    expect(await problemsOf(file)).toMatch(new RegExp(`^line ${line}: [^\\n]+$`));
  });

  it("of a name that the system cannot look up, in the system's words", async () => {
    const service: Names = {
      user: async (name) => {
        throw new Error(`Asking for the user "${name}" had no answer within 500 ms`);
      },
      group: async (name) => {
        if (name === "b") throw new Error("no such service");
        return 7;
      },
    };
    const file = '[[rule]]\nname = "r"\nusers = ["a"]\ngroups = [\n  "a",\n  "b",\n]\nallow = ["gpu-reed"]';
    expect(await problemsOf(file, service)).toBe(
      'line 3, rule.users: Asking for the user "a" had no answer within 500 ms\n' +
        "line 6, rule.groups: no such service\n" +
        `line 8, rule.allow: there is no "gpu-reed"; ${allowed}`,
    );
  });
});

// Any policy.

const word = fc.string({ unit: "binary", minLength: 1, maxLength: 6 }).filter((each) => !/[\ud800-\udfff]/u.test(each));
const whole = fc.nat(4_294_967_294);
const some = <Each>(each: fc.Arbitrary<Each>): fc.Arbitrary<Each[]> => fc.array(each, { minLength: 1, maxLength: 3 });
const bound = fc.oneof(
  fc.record({ min: whole }),
  fc.record({ max: whole }),
  fc.tuple(whole, whole).map(([one, other]) => ({ min: Math.min(one, other), max: Math.max(one, other) })),
);
const bounds = fc
  .record(
    { models: some(word), power_limit_mw: bound, gpu_clock_mhz: bound, memory_clock_mhz: bound },
    { requiredKeys: [] },
  )
  .filter((each) => Object.keys(each).some((key) => key !== "models"));
const terms = fc
  .record(
    { lease: fc.constantFrom(...leaseNeeds), exclusive: fc.boolean(), restoreOnExit: fc.boolean() },
    { requiredKeys: [] },
  )
  .filter(({ lease, exclusive, restoreOnExit }) => lease !== "forbidden" || !(exclusive || restoreOnExit));
const withoutTerms = fc
  .record(
    {
      name: word,
      anyone: fc.constant(true),
      uids: some(whole),
      gids: some(whole),
      tokens: some(word),
      allow: some(fc.constantFrom("gpu-control", "gpu-read", "cpu-read", "set_power_limit", "cpu/get_power")),
      gpus: some(fc.oneof(fc.nat(99), fc.constantFrom("GPU-0a", "gpu-0A-1", "0000:41:00.0", "C1:00.0"))),
      bounds: fc.array(bounds, { minLength: 1, maxLength: 3 }),
      rate: fc.record({
        writesPerSecond: fc.integer({ min: 1, max: 9999 }).map((n) => n / 8),
        burst: fc.integer({ min: 1, max: 99 }),
      }),
    },
    { requiredKeys: ["name", "allow"] },
  )
  .filter(({ anyone, uids, gids, tokens }) => Boolean(anyone ?? uids ?? gids ?? tokens));
const writing = new Set(["gpu-control", "set_power_limit"]);
const draft = fc
  .tuple(withoutTerms, terms)
  .map(([each, said]): Draft => (each.allow.some((right) => writing.has(right)) ? { ...each, ...said } : each));
const drafts = fc.uniqueArray(draft, { minLength: 1, maxLength: 4, selector: ({ name }) => name });

/** A text as a TOML basic string. */
function quoted(said: string): string {
  return `"${[...said].map((letter) => (/[\p{L}\p{N} ]/u.test(letter) ? letter : escaped(letter))).join("")}"`;
}

function escaped(letter: string): string {
  return String.raw`\U` + (letter.codePointAt(0) ?? 0).toString(16).padStart(8, "0");
}

type Toml = string | number | boolean | readonly Toml[] | { readonly [key: string]: Toml | undefined };

function inline(value: Toml): string {
  if (typeof value === "string") return quoted(value);
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`;
  return `{ ${Object.entries(value)
    .map(([key, each]) => `${key} = ${inline(each ?? "")}`)
    .join(", ")} }`;
}

/** With its tables inline, or as tables of their own, and its keys in any order. */
function toToml({ rate, bounds: all, restoreOnExit, ...rest }: Draft, tables: boolean, turned: boolean): string {
  const entries = Object.entries({
    ...rest,
    ...(restoreOnExit === undefined ? {} : { restore_on_exit: restoreOnExit }),
    ...(rate ? { rate: { writes_per_second: rate.writesPerSecond, burst: rate.burst } } : {}),
    ...(all ? { bounds: all } : {}),
  });
  const flat = entries.filter(([key]) => !tables || (key !== "rate" && key !== "bounds"));
  const lines = flat.map(([key, value]) => `${key} = ${inline(value as Toml)}\n`);
  const tail = tables
    ? [
        ...(rate ? [`[rule.rate]\nburst = ${rate.burst}\nwrites_per_second = ${rate.writesPerSecond}\n`] : []),
        ...(all ?? []).map(
          (each) =>
            `[[rule.bounds]]\n${Object.entries(each)
              .map(([key, value]) => `${key} = ${inline(value as Toml)}\n`)
              .join("")}`,
        ),
      ]
    : [];
  return `[[rule]]\n${(turned ? lines.toReversed() : lines).join("")}${tail.join("")}`;
}

describe("any policy", () => {
  it("that is written down is read as the same rules", async () => {
    const holds = fc.asyncProperty(drafts, fc.boolean(), fc.boolean(), async (given, tables, turned) => {
      const { rules } = await read(given.map((each) => toToml(each, tables, turned)).join("\n"));
      const wanted = given.map(ruleOf);
      expect(rules.map(describeRule)).toEqual(wanted.map(describeRule));
      expect(rules.map(({ rows }) => rows)).toEqual(wanted.map(({ rows }) => rows));
      expect(rules.map(({ who: { subjects, ...who } }) => [who, subjects.map((each) => each.text)])).toEqual(
        wanted.map(({ who: { subjects, ...who } }) => [who, subjects.map((each) => each.text)]),
      );
    });
    await fc.assert(holds, { numRuns: 1000 });
  });

  it("with one line of another kind is refused at that line", async () => {
    const bad = fc.constantFrom(
      "unknown = 1",
      "anyone = 0",
      "x x = 1",
      "= 1",
      "rate = 3",
      "uids = [-1]",
      "gpus = ['?']",
      "lease = true",
      "exclusive = 1",
    );
    const holds = fc.asyncProperty(draft, bad, async (given, line) => {
      const [key = ""] = line.split(" ");
      fc.pre(!Object.hasOwn(given, key));
      const file = `[[rule]]\n${line}\n${toToml(given, true, false).replace("[[rule]]\n", "")}`;
      expect(await problemsOf(file)).toMatch(/^line 2\b/);
    });
    await fc.assert(holds, { numRuns: 500 });
  });
});

describe("any text", () => {
  const part = fc.oneof(
    fc.constantFrom("[[rule]]", "[rule.rate]", "[[rule.bounds]]", "name", "anyone", "uids", "allow", "gpus", "rate"),
    fc.constantFrom("=", "[", "]", "{", "}", ",", ".", '"', "'", "#", "\n", "\r\n", "\r", " ", "\ufeff", "\0", '"""'),
    fc.constantFrom(plain, rule, '"a"', "true", "1", "0x1", "1e3", "inf", "nan", "1979-05-27", "burst", "constructor"),
    fc.string({ unit: "binary", maxLength: 4 }),
  );
  const texts = fc.oneof(
    fc.array(part, { maxLength: 25 }).map((parts) => parts.join("")),
    fc.array(part, { maxLength: 8 }).map((parts) => `${rule}${parts.join(" ")}`),
    fc.string({ unit: "binary" }),
  );

  it("gives a policy that has rules, or says what is wrong and in which of its lines", async () => {
    const holds = fc.asyncProperty(texts, async (given) => {
      const lines = given.split("\n").length;
      try {
        expect((await read(given)).rules.length).toBeGreaterThan(0);
      } catch (error) {
        expect(error).toBeInstanceOf(PolicyError);
        const { problems } = error as PolicyError;
        expect(problems.length).toBeGreaterThan(0);
        for (const { line, text: said } of problems) {
          expect(said).not.toBe("");
          expect(line).toBeGreaterThanOrEqual(1);
          expect(line).toBeLessThanOrEqual(lines);
        }
      }
    });
    await fc.assert(holds, { numRuns: 3000 });
  });

  it.each([
    ["deep arrays", `x = ${"[".repeat(10_000)}${"]".repeat(10_000)}`],
    ["deep tables", `x = ${"{a=".repeat(10_000)}1${"}".repeat(10_000)}`],
    ["deep keys", `${"a.".repeat(50_000)}b = 1`],
    ["a long text", `x = "${"a".repeat(900_000)}"`],
    ["a long number", `x = ${"1".repeat(300_000)}`],
    ["a long name", `${"a".repeat(300_000)} = 1`],
    ["many escapes", `x = "${"\\".repeat(300_000)}"`],
    ["many brackets", "[".repeat(300_000)],
    ["many blanks", " ".repeat(900_000)],
    ["many line ends", "\n".repeat(300_000)],
  ])("however long it is, is refused as a file and never with the reader's own mishap: %s", async (_, file) => {
    expect(await problemsOf(file)).toMatch(/^line \d+\b/);
  });

  it("of a thousand rules is read", async () => {
    const file = Array.from({ length: 1000 }, (_, index) => rule.replace("all", `rule ${index}`)).join("\n");
    const { rules } = await read(file);
    expect(rules.map(({ line }) => line).slice(0, 3)).toEqual([1, 6, 11]);
    expect(rules).toHaveLength(1000);
  });
});

it("models of bounds are compared as the driver spells them", async () => {
  const { rules } = await read(`${rule}[[rule.bounds]]\nmodels = ["NVIDIA H100 *"]\npower_limit_mw = { max = 1 }`);
  expect(rules[0]?.bounds[0]?.models?.map(({ matches }) => [matches(h100), matches("H100")])).toEqual([[true, false]]);
});
