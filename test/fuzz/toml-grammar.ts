// Policy files by chance: from a model, whose meaning is known, written in the many ways that TOML has for the same thing.
import { rights } from "../../src/contract/rights.ts";
import type { Random } from "./random.ts";

export const userIds: ReadonlyMap<string, number> = new Map([
  ["root", 0],
  ["alice", 1000],
  ["zoë", 1001],
  ["toString", 1002],
]);
export const groupIds: ReadonlyMap<string, number> = new Map([
  ["gpu", 44],
  ["domain users", 2000],
  ["__proto__", 2001],
]);

export const models = ["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "Tesla*V100", "h100"];
export const subjects = ["ops", "ops-1", "ci*", "toString", "ä", ""];
export const uuids = [
  "GPU-6f1a0b3c-0000-1111-2222-333344445555",
  "GPU-6F1A0B3C-0000-1111-2222-333344445555",
  "gpu-00000000-0000-0000-0000-000000000001",
];
export const addresses = ["0000:41:00.0", "00000000:41:00.0", "41:00.0", "0001:41:00.0", "0000:C1:00.0", "c1:00.0"];

const patterns = [
  "*",
  "",
  "*H100*",
  "NVIDIA*",
  "*GB*HBM3",
  "*A100*40GB",
  "**",
  "ops",
  "ops-*",
  "*s",
  "ci*",
  "a*a",
  "*s*s",
  "o*p*ps",
  "*1*1",
  "*00*0",
  "*\\**",
];
const names = ["ops", "everyone", "", "a b", 'the "quoted"', "ü", "__proto__", "x", "y", "z", "night\tshift"];
const rightNames = [...rights.keys(), "gpu-controls", "get_power", "", "*", "constructor"];

/** A value as TOML has it. */
type Value = string | number | boolean | readonly Value[] | Table;
interface Table {
  readonly [key: string]: Value;
}

/** The text of a policy file that is right, or nearly so. */
export function policyText(random: Random): string {
  const known = random.chance(0.75);
  const rules = random.times(random.pick([1, 1, 1, 2, 2, 2, 3, 3, 5, 0]), (index) => ruleOf(random, index, known));
  const comment = random.chance(0.2) ? "# Who may do what.\n" : "";
  if (rules.length > 0 && random.chance(0.1)) return `${comment}rule = ${valueText(random, rules)}\n`;
  return comment + rules.map((rule) => tableText(random, ["rule"], rule, true)).join(random.pick(["", "\n", "\r\n"]));
}

/** With `known`, only what a policy may say. */
function ruleOf(random: Random, index: number, known: boolean): Table {
  const off = !known && random.chance(0.3);
  const right = (): string => random.pick(off ? rightNames : [...rights.keys()]);
  const pattern = (): string => random.pick(off ? patterns : patterns.filter((text) => text !== ""));
  const allow = random.times(random.between(off ? 0 : 1, 4), right);
  const rule: Record<string, Value> = {
    name: off ? random.pick(names) : `${random.pick(names)}${index}`,
    ...whoOf(random, off, pattern),
    allow,
  };
  if (random.chance(0.4)) rule["gpus"] = random.times(random.between(off ? 0 : 1, 3), () => gpuOf(random, off));
  if (random.chance(0.4)) {
    rule["bounds"] = random.times(random.between(1, 3), () => boundsOf(random, off, pattern));
  }
  if (random.chance(0.2)) {
    const burst = random.chance(0.5) ? { burst: numberOf(random, off, 1) } : {};
    rule["rate"] = { writes_per_second: random.pick([0.001, 1, 2.5, 1e6, off ? 0 : 3]), ...burst };
  }
  if (off ? random.chance(0.3) : allow.some(isForWrites) && random.chance(0.5))
    Object.assign(rule, leaseTermsOf(random, off));
  if (off && random.chance(0.3))
    rule[random.pick(["alow", "__proto__", "Name", "name ", ""])] = random.pick([1, "x", [], {}]);
  return rule;
}

function whoOf(random: Random, off: boolean, pattern: () => string): Table {
  const who: Table = {
    anyone: !(off && random.chance(0.5)),
    uids: random.times(random.between(1, 3), () => random.pick([0, 1000, 1001, 2, off ? -1 : 3])),
    gids: random.times(random.between(1, 2), () => random.pick([44, 2000, 0, off ? 4_294_967_295 : 5])),
    tokens: random.times(random.between(1, 2), pattern),
    users: random.times(random.between(1, 2), () => random.pick([...userIds.keys(), off ? "nobody" : "root"])),
    groups: [random.pick([...groupIds.keys(), off ? "none" : "gpu"])],
  };
  const keys = random.some(Object.keys(who), 0.3);
  const chosen = keys.length === 0 && !off ? [random.pick(Object.keys(who))] : keys;
  return Object.fromEntries(chosen.map((key) => [key, who[key] ?? true]));
}

function isForWrites(right: string): boolean {
  return [...(rights.get(right) ?? [])].some(({ kind }) => kind === "write");
}

/** With `off`, also what contradicts itself. */
function leaseTermsOf(random: Random, off: boolean): Table {
  const lease = random.pick([
    "optional",
    "required",
    "forbidden",
    off ? random.pick(["", "Required", "none"]) : "optional",
  ]);
  const mayBeTrue = off || lease !== "forbidden";
  const terms: Table = {
    lease: off && random.chance(0.1) ? true : lease,
    exclusive: mayBeTrue && random.chance(0.5),
    restore_on_exit: off && random.chance(0.1) ? "yes" : mayBeTrue && random.chance(0.5),
  };
  return Object.fromEntries(random.some(Object.keys(terms), 0.6).map((key) => [key, terms[key] ?? true]));
}

function gpuOf(random: Random, off: boolean): Value {
  return random.oneOf<Value>(
    () => random.pick([0, 1, 2, off ? -1 : 3, off ? 1.5 : 4]),
    () => random.pick(uuids),
    () => random.pick(addresses),
    () => (off ? random.pick(["", "GPU-", "x", "0", "0000:41:00.8"]) : 0),
  );
}

function boundsOf(random: Random, off: boolean, pattern: () => string): Table {
  const quantities = random.some(["power_limit_mw", "gpu_clock_mhz", "memory_clock_mhz"], 0.4);
  const chosen = quantities.length === 0 && !off ? ["power_limit_mw"] : quantities;
  const bounds: Record<string, Value> = random.chance(0.4)
    ? { models: random.times(random.between(1, 2), pattern) }
    : {};
  for (const quantity of chosen) {
    const [min, max] = [numberOf(random, off, 0), numberOf(random, off, 0)];
    const range = off ? { min, max } : { min: Math.min(min, max), max: Math.max(min, max) };
    bounds[quantity] = random.oneOf<Table>(
      () => range,
      () => range,
      () => ({ min }),
      () => ({ max }),
    );
  }
  return bounds;
}

function numberOf(random: Random, off: boolean, least: number): number {
  return Math.max(
    off ? -5 : least,
    random.pick([0, 1, 210, 1500, 1980, 100_000, 400_000, 999_999, off ? -1 : 5, off ? 0.5 : 7]),
  );
}

/** A table, headed as a table or as an element of an array; what it holds is inline or has heads of its own. */
function tableText(random: Random, path: readonly string[], table: Table, element: boolean): string {
  const key = path.map((part) => keyText(random, part)).join(random.pick([".", ".", " . "]));
  const head = element ? `[[${key}]]` : `[${key}]`;
  const inline: string[] = [];
  const below: string[] = [];
  for (const [name, value] of Object.entries(table)) {
    const [dotted] = isTable(value) && random.chance(0.2) ? Object.entries(value) : [];
    if (isTable(value) && random.chance(0.4)) below.push(tableText(random, [...path, name], value, false));
    else if (Array.isArray(value) && value.length > 0 && value.every(isTable) && random.chance(0.7)) {
      for (const each of value as readonly Table[]) below.push(tableText(random, [...path, name], each, true));
    } else if (dotted && isTable(value) && Object.keys(value).length === 1) {
      inline.push(`${keyText(random, name)}.${keyText(random, dotted[0])} = ${valueText(random, dotted[1])}`);
    } else inline.push(`${keyText(random, name)}${random.pick([" = ", "=", "\t=  "])}${valueText(random, value)}`);
  }
  const end = random.pick(["\n", "\n", "\n", "\r\n", "  # note\n", "\n\n"]);
  return [head, ...inline].join(end) + end + below.join("");
}

function isTable(value: Value): value is Table {
  return typeof value === "object" && !Array.isArray(value);
}

function keyText(random: Random, key: string): string {
  if (/^[\w-]+$/.test(key) && random.chance(0.9)) return key;
  return random.chance(0.5) && !/['\n\t]/.test(key) ? `'${key}'` : JSON.stringify(key);
}

function valueText(random: Random, value: Value): string {
  if (typeof value === "string") return stringText(random, value);
  if (typeof value === "number") return numberText(random, value);
  if (typeof value === "boolean") return String(value);
  if (isTable(value)) {
    const pairs = Object.entries(value).map(([key, each]) => `${keyText(random, key)} = ${valueText(random, each)}`);
    return `{ ${pairs.join(", ")} }`;
  }
  const items = value.map((each) => valueText(random, each));
  return random.chance(0.2)
    ? `[\n  ${items.join(",\n  ")}, # the last\n]`
    : `[${items.join(random.pick([",", ", "]))}]`;
}

function stringText(random: Random, text: string): string {
  const plain = !/['\\\n\t]/.test(text);
  return random.oneOf(
    () => JSON.stringify(text),
    () => (plain ? `'${text}'` : JSON.stringify(text)),
    () => (plain && random.chance(0.3) ? `'''${text}'''` : JSON.stringify(text)),
    () => (random.chance(0.3) ? escapedText(text) : JSON.stringify(text)),
  );
}

function escapedText(text: string): string {
  return `"${[...text].map((letter) => `\\u${(letter.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`).join("")}"`;
}

function numberText(random: Random, value: number): string {
  if (!Number.isInteger(value) || value < 0 || Object.is(value, -0)) return String(value);
  return random.oneOf(
    () => String(value),
    () => String(value),
    () => `+${value}`,
    () => `0x${value.toString(16)}`,
    () => `0o${value.toString(8)}`,
    () => String(value).replaceAll(/(?<=\d)(?=(\d{3})+$)/g, "_"),
    () => (random.chance(0.2) ? `${value}.0` : String(value)),
  );
}

/** What a parser may take too long for, or too deeply. */
export function heavyText(random: Random): string {
  const rule = '[[rule]]\nname = "a"\nanyone = true\nallow = ["gpu-read"]\n';
  const count = random.pick([100, 100, 1_000, 1_000, 5_000, 20_000]);
  const line = (index: number): string => rule.replace('"a"', `"a${index}"`);
  return random.oneOf(
    () => random.times(count / 4, line).join(""),
    () => `x = ${"[".repeat(count)}${random.chance(0.5) ? "]".repeat(count) : ""}\n`,
    () => `x = ${"{a=".repeat(count)}1${"}".repeat(count)}\n`,
    () => `${"a.".repeat(count)}a = 1\n`,
    () => `[${"a.".repeat(count)}a]\nb = 1\n`,
    () => random.times(count, (index) => `[a${index % 7}.b${index}]\n`).join(""),
    () => random.times(count, (index) => `${"[[".slice(index % 2)}rule${"]]".slice(index % 2)}\n`).join(""),
    () => `${rule}uids = [${random.times(count, (index) => index).join(",")}]\n`,
    () => `${rule}tokens = [${random.times(count, () => '"*a*b*"').join(",")}]\n`,
    () => `${rule}tokens = ["${"*a".repeat(count)}"]\n`,
    () => `${rule}gpus = [${random.times(count, () => '"x"').join(",\n")}]\n`,
    () => `name = "${"\\\\".repeat(count)}\n`,
    () => `name = """${'"'.repeat(2)}${"a\n".repeat(count)}`,
    () => `${" ".repeat(count)}${"#".repeat(count)}\n${"\n".repeat(count)}x`,
    () => `a = ${"1_".repeat(count)}1\n`,
    () => `a = ${"9".repeat(count)}\n`,
    () => `a = 0x${"f".repeat(count)}\n`,
    () => `a = 1e${"9".repeat(count)}\n`,
    () => random.times(count, (index) => `k${index} = 1\n`).join(""),
    () => `${rule}bounds = [${random.times(count, () => "{ power_limit_mw = { max = 1 } }").join(",")}]\n`,
  );
}
