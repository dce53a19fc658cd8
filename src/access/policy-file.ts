// The policy file: from TOML to rules that hold numbers. Names are looked up here, once, and never for a request.
import { isGpuName } from "../contract/device-name.ts";
import { messageOf } from "../contract/errors.ts";
import { quantities, U32_MAX } from "../contract/field.ts";
import { apiGroups } from "../contract/operations.ts";
import { rights } from "../contract/rights.ts";
import { glob } from "./glob.ts";
import {
  allowsWrites,
  leaseNeeds,
  type Bound,
  type Bounds,
  type Pattern,
  type Policy,
  type Rate,
  type Rule,
  type Who,
} from "./policy.ts";
import { parseDocument, type Document } from "./toml.ts";
import { Section, type Problem } from "./section.ts";

/** Looks up names of users and groups. Rejects, with one sentence, when that takes too long or cannot be done. */
export interface Names {
  user(name: string): Promise<{ readonly uid: number } | undefined>;
  group(name: string): Promise<number | undefined>;
}

/** What is wrong with a policy file, all of it. */
export class PolicyError extends Error {
  override readonly name = "PolicyError";
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[], options?: ErrorOptions) {
    super(problems.map(describeProblem).join("; "), options);
    this.problems = problems;
  }
}

/** For example `line 12, rule.rate.burst: it must be a whole number from 1 to 1000000`. */
export function describeProblem({ line, key, text }: Problem): string {
  return key === "" ? `line ${line}: ${text}` : `line ${line}, ${key}: ${text}`;
}

/** Throws a PolicyError with everything that is wrong. */
export async function readPolicy(text: string, names: Names): Promise<Policy> {
  const document = parse(text);
  const problems: Problem[] = [];
  const root = new Section(document, problems);
  const drafts = root.tables("rule").map((section) => readRule(section));
  root.refuseOthers();
  if (drafts.length === 0 && problems.length === 0)
    root.problem("rule", "there is no [[rule]], so nobody could do anything");
  refuseTwins(drafts);
  const once = askingOnce(names);
  const rules = await Promise.all(drafts.map((draft) => resolve(draft, once)));
  if (problems.length > 0) throw new PolicyError(problems.toSorted((one, other) => one.line - other.line));
  return { rules };
}

function parse(text: string): Document {
  try {
    return parseDocument(text);
  } catch (error) {
    // A file that is nested too deeply ends the parser otherwise.
    const line = error instanceof SyntaxError && "lineNumber" in error ? Number(error.lineNumber) : 1;
    throw new PolicyError([{ line, key: "", text: messageOf(error) }], { cause: error });
  }
}

/** A rule whose names are not looked up yet. */
interface Draft {
  readonly section: Section;
  readonly rule: Omit<Rule, "who">;
  readonly who: Who;
  readonly users: readonly string[];
  readonly groups: readonly string[];
}

function readRule(section: Section): Draft {
  const name = section.text("name");
  const who = {
    anyone: section.flag("anyone"),
    uids: new Set(section.ids("uids")),
    gids: new Set(section.ids("gids")),
    subjects: section.texts("tokens").map(toPattern),
  };
  const users = section.texts("users");
  const groups = section.texts("groups");
  if (!["anyone", "uids", "gids", "tokens", "users", "groups"].some((key) => section.has(key))) {
    section.problem("", "it does not say who is meant; give users, groups, uids, gids, tokens or anyone = true");
  }
  const allow = section.texts("allow");
  const rows = readRows(section, allow);
  const gpus = readGpus(section);
  const rate = readRate(section);
  const bounds = section.tables("bounds").map(readBounds);
  const terms = readLeaseTerms(section);
  // What a right that is not known was meant to allow cannot be told.
  if (allow.length > 0 && allow.every((right) => rights.has(right))) refuseIdleTerms(section, rows);
  section.refuseOthers();
  const rest = { ...(gpus ? { gpus } : {}), ...(rate ? { rate } : {}) };
  return {
    section,
    rule: { name, line: section.line, allow, rows, bounds, ...terms, ...rest },
    who,
    users,
    groups,
  };
}

function readRows(section: Section, allow: readonly string[]): Rule["rows"] {
  if (!section.has("allow")) section.problem("allow", `it is missing; ${allowedText}`);
  const rows = allow.flatMap((right, index) => {
    const known = rights.get(right);
    if (!known) section.problem(["allow", index], `there is no ${JSON.stringify(right)}; ${allowedText}`);
    return known ? [...known] : [];
  });
  return new Set(rows);
}

const allowedText = `give API groups (${apiGroups.join(", ")}) and operations such as set_power_limit or gpu/get_power`;

function readGpus(section: Section): Rule["gpus"] {
  if (!section.has("gpus")) return undefined;
  return section.list("gpus").map((gpu, index) => {
    if (typeof gpu === "number" && Number.isInteger(gpu) && gpu >= 0 && gpu <= U32_MAX) return gpu;
    if (typeof gpu === "string" && isGpuName(gpu)) return gpu;
    section.problem(
      ["gpus", index],
      'it must be an id such as 0, a UUID such as "GPU-…", or a PCI address such as "0000:41:00.0"',
    );
    return -1;
  });
}

const mostWrites = 1_000_000;

function readRate(section: Section): Rate | undefined {
  const rate = section.table("rate", "{ writes_per_second = 5, burst = 20 }");
  if (!rate) return undefined;
  const writesPerSecond = rate.number("writes_per_second", { least: 0.001, most: mostWrites, whole: false }) ?? 0;
  if (!rate.has("writes_per_second")) rate.problem("writes_per_second", "it is missing");
  const burst = rate.number("burst", { least: 1, most: mostWrites }) ?? Math.max(1, Math.ceil(writesPerSecond));
  rate.refuseOthers();
  return { writesPerSecond, burst };
}

const leaseKeys = ["lease", "exclusive", "restore_on_exit"];

function readLeaseTerms(section: Section): Pick<Rule, "lease" | "exclusive" | "restoreOnExit"> {
  const lease = section.word("lease", leaseNeeds) ?? "optional";
  const exclusive = section.truth("exclusive");
  const restoreOnExit = section.truth("restore_on_exit");
  if (lease === "forbidden") {
    if (exclusive) section.problem("exclusive", 'it contradicts lease = "forbidden"');
    // What is put back when a process ends was written within a lease, though nobody asked for it.
    if (restoreOnExit) section.problem("restore_on_exit", 'it contradicts lease = "forbidden", since it makes leases');
  }
  return { lease, exclusive: exclusive ?? true, ...(restoreOnExit === undefined ? {} : { restoreOnExit }) };
}

function refuseIdleTerms(section: Section, rows: Rule["rows"]): void {
  if (allowsWrites({ rows })) return;
  for (const key of leaseKeys.filter((each) => section.has(each)))
    section.problem(key, "it says something of leases, but allows no write");
}

function readBounds(section: Section): Bounds {
  const models = section.has("models") ? { models: section.texts("models").map(toPattern) } : {};
  const bounds = quantities.flatMap((quantity) => {
    const bound = readBound(section.table(quantity, "{ min = 1, max = 2 }"));
    return bound ? [[quantity, bound] as const] : [];
  });
  if (!quantities.some((quantity) => section.has(quantity)))
    section.problem("", `it bounds nothing; give ${quantities.join(", ")}, each as { min = …, max = … }`);
  section.refuseOthers();
  return { ...models, ...Object.fromEntries(bounds) };
}

function readBound(section: Section | undefined): Bound | undefined {
  if (!section) return undefined;
  const min = section.number("min");
  const max = section.number("max");
  if (!section.has("min") && !section.has("max")) section.problem("", "give min, max, or both");
  if (min !== undefined && max !== undefined && min > max) section.problem("max", `it is below min, which is ${min}`);
  section.refuseOthers();
  return { ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) };
}

function toPattern(text: string): Pattern {
  return { text, matches: glob(text) };
}

/** Refusals and the audit call rules by their names. */
function refuseTwins(drafts: readonly Draft[]): void {
  const lines = new Map<string, number>();
  for (const { section, rule } of drafts) {
    if (rule.name === "") continue;
    const before = lines.get(rule.name);
    if (before !== undefined) section.problem("name", `the rule at line ${before} has it as well`);
    else lines.set(rule.name, rule.line);
  }
}

/** The same names, of which each is asked for once. */
function askingOnce(names: Names): Names {
  const users = new Map<string, ReturnType<Names["user"]>>();
  const groups = new Map<string, ReturnType<Names["group"]>>();
  return {
    user: (name) => users.get(name) ?? keep(users, name, names.user(name)),
    group: (name) => groups.get(name) ?? keep(groups, name, names.group(name)),
  };
}

function keep<Answer>(known: Map<string, Answer>, name: string, answer: Answer): Answer {
  known.set(name, answer);
  return answer;
}

async function resolve({ section, rule, who, users, groups }: Draft, names: Names): Promise<Rule> {
  const found = await Promise.all([
    lookUp(section, "users", users, async (name) => (await names.user(name))?.uid),
    lookUp(section, "groups", groups, (name) => names.group(name)),
  ]);
  const [uids, gids] = found;
  return { ...rule, who: { ...who, uids: new Set([...who.uids, ...uids]), gids: new Set([...who.gids, ...gids]) } };
}

/** A name that nobody has is an error: a rule that silently misses someone may leave them to a later one that allows more. */
async function lookUp(
  section: Section,
  key: "users" | "groups",
  wanted: readonly string[],
  find: (name: string) => Promise<number | undefined>,
): Promise<readonly number[]> {
  const kind = key === "users" ? "user" : "group";
  const missing = (name: string): string => `there is no ${kind} ${JSON.stringify(name)}; correct or remove it`;
  const found = await Promise.allSettled(wanted.map(find));
  return found.flatMap((outcome, index) => {
    if (outcome.status === "fulfilled" && outcome.value !== undefined) return outcome.value;
    const text = outcome.status === "rejected" ? messageOf(outcome.reason) : missing(wanted[index] ?? "");
    section.problem([key, index], text);
    return [];
  });
}
