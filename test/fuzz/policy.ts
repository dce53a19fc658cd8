// The policy file under fuzz: what comes out is a policy that says what the file says, or what is wrong with the file and where.
import { getStaticTOMLValue, parseTOML } from "toml-eslint-parser";
import type { Actor } from "../../src/access/actor.ts";
import { explain } from "../../src/access/explain.ts";
import {
  decide,
  decideLease,
  mayRead,
  type LeaseQuestion,
  type Policy,
  type Question,
} from "../../src/access/policy.ts";
import { PolicyError, readPolicy, type Names } from "../../src/access/policy-file.ts";
import { allOperations, apiGroups, type ApiGroup, type Row } from "../../src/contract/operations.ts";
import type { Target } from "../../src/contract/target.ts";
import { peerOf } from "../access/subjects.ts";
import { mutate, mutateTokens } from "./mutate.ts";
import type { Random } from "./random.ts";
import { addresses, groupIds, heavyText, models, policyText, subjects, userIds, uuids } from "./toml-grammar.ts";

const names: Names = {
  async user(name) {
    if (name === "ldap") throw new Error("the name service did not answer");
    const uid = userIds.get(name);
    return uid === undefined ? undefined : { uid };
  },
  group: async (name) => groupIds.get(name),
};

const token = /"""|'''|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\[\[|\]\]|[\w-]+|\s+|[^]/g;

export function policyCase(random: Random): string {
  if (random.chance(0.004)) return heavyText(random);
  const text = policyText(random);
  return random.oneOf(
    () => text,
    () => mutateTokens(random, text, token, random.between(1, 3)),
    () => mutateTokens(random, text, token, random.between(1, 12)),
    () => mutate(random, text, random.between(1, 2)),
    () => mutate(random, mutateTokens(random, text, token, 1), random.between(1, 10)),
  );
}

/** What is wrong with how a file was read; undefined if nothing is. `outcome` hears whether it was a policy. */
export async function judgePolicy(
  text: string,
  random: Random,
  outcome: (isPolicy: boolean) => void = () => {},
): Promise<string | undefined> {
  let policy: Policy;
  try {
    policy = await readPolicy(text, names);
  } catch (error) {
    outcome(false);
    return judgeRefusal(text, error);
  }
  outcome(true);
  const lines = lineCount(text);
  for (const { name, line } of policy.rules) {
    if (!isLine(line, lines)) return `a policy has the rule ${JSON.stringify(name)} at line ${line}`;
  }
  const raw = getStaticTOMLValue(parseTOML(text, { tomlVersion: "1.0" })) as Raw;
  const contradiction = rulesOf(raw).find(contradictsItself);
  if (contradiction) return `a policy has a rule that contradicts itself: ${JSON.stringify(contradiction)}`;
  for (let count = 0; count < 8; count += 1) {
    const question = questionOf(random);
    const { actor } = question;
    const wrong =
      judgeAnswer(policy, raw, question) ??
      judgeLease(policy, raw, { actor, target: gpuTarget(random), exclusive: random.chance(0.5) }) ??
      judgeReading(policy, raw, actor, random.pick(apiGroups));
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

function judgeRefusal(text: string, error: unknown): string | undefined {
  if (!(error instanceof PolicyError)) return `a policy file threw ${String(error)}`;
  if (error.problems.length === 0) return "a policy file was refused without a problem";
  const lines = lineCount(text);
  for (const problem of error.problems) {
    if (!isLine(problem.line, lines)) {
      return `a problem is at line ${problem.line} of a file of ${lines}: ${problem.text}`;
    }
    if (problem.text === "") return "a problem has no text";
  }
  return undefined;
}

function isLine(line: number, lines: number): boolean {
  return Number.isInteger(line) && line >= 1 && line <= lines;
}

function lineCount(text: string): number {
  return text.split("\n").length;
}

// QUESTIONS ---------------------------------------------------------------------------------------------------------------

function questionOf(random: Random): Question {
  const row = random.pick(allOperations);
  const peer = peerOf({
    uid: random.pick([0, 2, 1000, 1001, 1002, 77]),
    gid: 5,
    groups: new Set(random.some([5, 44, 2000, 2001], 0.4)),
  });
  return {
    actor: {
      ...(random.chance(0.7) ? { peer } : {}),
      ...(random.chance(0.6) ? { claims: { sub: random.pick(subjects), scopes: [] } } : {}),
    },
    row,
    parameters: Object.fromEntries(
      Object.entries(row.parameters).map(([name, { type }]) => [name, type === "boolean" ? true : amount(random)]),
    ),
    target: targetOf(random, row),
  };
}

function amount(random: Random): number {
  return random.pick([0, 1, 209, 210, 1500, 1980, 1981, 99_999, 100_000, 400_000, 400_001, 4_294_967_295]);
}

function targetOf(random: Random, row: Row): Target {
  if (row.device === "gpu") return gpuTarget(random);
  const id = random.below(5);
  return { kind: "cpu", id, name: `CPU ${id}` };
}

function gpuTarget(random: Random): Target {
  const id = random.below(5);
  const uuid = random.pick([...uuids, null, undefined]);
  return {
    kind: "gpu",
    id,
    name: `GPU ${id}`,
    model: random.pick(models),
    uuid,
    pci_address: random.pick([...addresses, null]),
  };
}

// AN ANSWER OF ITS OWN ----------------------------------------------------------------------------------------------------

type Raw = Readonly<Record<string, unknown>>;

/** Reads the file's own values, in the plainest way, beside what the daemon makes of them. */
function judgeAnswer(policy: Policy, raw: Raw, question: Question): string | undefined {
  let allowed: boolean;
  try {
    const { refusal, rule } = decide(policy, question);
    allowed = refusal === undefined;
    if (allowed && !rule) return "a policy allowed something without a rule";
    if (explain(policy, question).allowed !== allowed) return "explain says something else than decide";
  } catch (error) {
    return `a decision threw ${String(error)}`;
  }
  if (allowed === plainAnswer(raw, question)) return undefined;
  const { actor, row, parameters, target } = question;
  return otherwise(
    allowed,
    actor,
    `${row.device}/${row.name} ${JSON.stringify(parameters)} on ${JSON.stringify(target)}`,
  );
}

function otherwise(allowed: boolean, { peer, claims }: Actor, what: string): string {
  const who = `uid ${peer?.uid} groups ${[...(peer?.groups ?? [])].join()} sub ${claims?.sub}`;
  return `a policy says ${allowed ? "yes" : "no"} where its file says otherwise: ${who} asks ${what}`;
}

function judgeLease(policy: Policy, raw: Raw, question: LeaseQuestion): string | undefined {
  const { actor, target, exclusive } = question;
  const { rule, refusal } = decideLease(policy, question);
  const wanted = rulesOf(raw).find((each) => isFor(each, actor) && mayWrite(each) && hasGpu(each, target));
  const allowed =
    wanted !== undefined && own(wanted, "lease") !== "forbidden" && !(exclusive && own(wanted, "exclusive") === false);
  if (allowed === (refusal === undefined) && rule?.name === wanted?.["name"]) return undefined;
  return otherwise(!allowed, actor, `${exclusive ? "an exclusive" : "a"} lease on ${JSON.stringify(target)}`);
}

function judgeReading(policy: Policy, raw: Raw, actor: Actor, group: ApiGroup): string | undefined {
  const rows = allOperations.filter((row) => row.group === group);
  const wanted = rulesOf(raw).some((rule) => isFor(rule, actor) && rows.some((row) => allows(rule, row)));
  return wanted === (mayRead(policy, actor, group) === undefined) ? undefined : otherwise(!wanted, actor, group);
}

function rulesOf(raw: Raw): readonly Raw[] {
  return raw["rule"] as readonly Raw[];
}

function mayWrite(rule: Raw): boolean {
  return allOperations.some((row) => row.kind === "write" && allows(rule, row));
}

function contradictsItself(rule: Raw): boolean {
  const terms = ["lease", "exclusive", "restore_on_exit"].filter((key) => Object.hasOwn(rule, key));
  if (terms.length > 0 && !mayWrite(rule)) return true;
  return (
    own(rule, "lease") === "forbidden" && (own(rule, "exclusive") === true || own(rule, "restore_on_exit") === true)
  );
}

function plainAnswer(raw: Raw, question: Question): boolean {
  const rule = rulesOf(raw).find(
    (each) => isFor(each, question.actor) && allows(each, question.row) && hasGpu(each, question.target),
  );
  return rule !== undefined && isWithin(rule, question);
}

function isFor(rule: Raw, { peer, claims }: Actor): boolean {
  if (own(rule, "anyone") === true) return true;
  const uids = [...listOf(rule, "uids"), ...listOf(rule, "users").map((name) => userIds.get(String(name)))];
  const gids = new Set([...listOf(rule, "gids"), ...listOf(rule, "groups").map((name) => groupIds.get(String(name)))]);
  if (peer && uids.includes(peer.uid)) return true;
  if (peer && [...peer.groups].some((gid) => gids.has(gid))) return true;
  return claims !== undefined && listOf(rule, "tokens").some((pattern) => isLike(String(pattern), claims.sub));
}

function allows(rule: Raw, { group, name, device }: Row): boolean {
  return listOf(rule, "allow").some((right) => right === group || right === name || right === `${device}/${name}`);
}

function hasGpu(rule: Raw, { kind, id, uuid, pci_address }: Target): boolean {
  if (kind === "cpu" || !Object.hasOwn(rule, "gpus")) return true;
  return listOf(rule, "gpus").some((gpu) => {
    if (typeof gpu === "number") return gpu === id;
    const wanted = plainName(String(gpu));
    return (uuid && plainName(uuid) === wanted) || (pci_address && plainName(pci_address) === wanted);
  });
}

/** In lower case, and a PCI address with a domain of eight digits. */
function plainName(name: string): string {
  const small = name.toLowerCase();
  if (small.startsWith("gpu-")) return small;
  return (small.split(":").length === 2 ? `0:${small}` : small).padStart(16, "0");
}

function isWithin(rule: Raw, { row, parameters, target }: Question): boolean {
  const tables = listOf(rule, "bounds") as readonly Raw[];
  for (const [name, field] of Object.entries(row.parameters)) {
    const quantity = "quantity" in field ? field.quantity : undefined;
    if (quantity === undefined) continue;
    const bounding = tables.filter((table) => Object.hasOwn(table, quantity));
    if (bounding.length === 0) continue;
    const meant = bounding.find(
      (table) =>
        !Object.hasOwn(table, "models") ||
        listOf(table, "models").some((model) => isLike(String(model), target.model ?? "")),
    );
    const { min = 0, max = Infinity } = (meant?.[quantity] ?? { min: Infinity }) as { min?: number; max?: number };
    const value = Number(parameters[name]);
    if (value < min || value > max) return false;
  }
  return true;
}

/** `*` stands for any text: by trying all of them. */
function isLike(pattern: string, text: string): boolean {
  if (pattern === "") return text === "";
  if (pattern.startsWith("*")) {
    return isLike(pattern.slice(1), text) || (text !== "" && isLike(pattern.replace(/^\*+/, "*"), text.slice(1)));
  }
  return text !== "" && pattern.charAt(0) === text.charAt(0) && isLike(pattern.slice(1), text.slice(1));
}

function own(table: Raw, key: string): unknown {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

function listOf(table: Raw, key: string): readonly unknown[] {
  const value = own(table, key);
  return Array.isArray(value) ? value : [];
}
