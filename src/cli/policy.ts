// What `zeusd policy` says: whether a file can be used, and which rule decides a question.
import { stringify } from "node:querystring";
import { describeActor, supposedActor, type Actor } from "../access/actor.ts";
import { describeRule, explain, type Explanation } from "../access/explain.ts";
import { PolicyError, describeProblem, readPolicy, type Names } from "../access/policy-file.ts";
import type { Policy } from "../access/policy.ts";
import { readTrustedFile } from "../access/trusted-file.ts";
import { ask } from "../client/ask.ts";
import { sentenceOf } from "../client/refusal.ts";
import { messageOf } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import type { Row } from "../contract/operations.ts";
import { operationOf } from "../contract/rights.ts";
import { checkRange } from "../contract/range.ts";
import type { ExplainFlags } from "./policy-options.ts";

/** The name service, which here also knows all groups of a user. */
interface People extends Names {
  user(name: string): Promise<{ readonly uid: number; readonly gid: number } | undefined>;
  groupsOf(name: string): Promise<readonly number[]>;
}

export interface PolicyCommandParts {
  readonly people: People;
  readonly euid: number;
  /** For a daemon that wants one. */
  readonly token?: string | undefined;
  readonly stdout: (text: string) => void;
}

/** Prints every rule with its names resolved. Throws an Error with all that is wrong, a line for each. */
export async function checkPolicy(path: string, parts: PolicyCommandParts): Promise<void> {
  const { rules } = await openPolicy(path, parts);
  const lines = rules.map((rule) => {
    const { anyone, uids, gids, subjects } = rule.who;
    const tokens = subjects.map(({ text }) => text);
    const who = { ...(anyone ? { anyone } : {}), ...filled({ uids: [...uids], gids: [...gids], tokens }) };
    return `line ${rule.line}: ${JSON.stringify({ ...describeRule(rule), who })}\n`;
  });
  parts.stdout(`${path} can be used; its rules, in the order in which they are looked at:\n${lines.join("")}`);
}

function filled(lists: Readonly<Record<string, readonly unknown[]>>): object {
  return Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0));
}

async function openPolicy(path: string, { euid, people }: PolicyCommandParts): Promise<Policy> {
  const text = await readTrustedFile(path, euid).catch((error: unknown) => {
    throw new Error(`Cannot use the policy file '${path}': ${messageOf(error)}`, { cause: error });
  });
  return readPolicy(text, people).catch((error: unknown) => {
    if (!(error instanceof PolicyError)) throw error;
    const list = error.problems.map((problem) => `\n  ${describeProblem(problem)}`);
    throw new Error(`Cannot use the policy file '${path}':${list.join("")}`, { cause: error });
  });
}

/** Prints which rule decides and why, and gives back whether all of it is allowed. */
export async function explainPolicy(flags: ExplainFlags, parts: PolicyCommandParts): Promise<boolean> {
  const actor = await actorOf(flags, parts.people);
  const row = operationOf(flags.operation);
  const devices =
    flags.policy === undefined
      ? await askDaemon(flags, row, actor, parts)
      : await askFile(flags.policy, flags, row, actor, parts);
  if (Object.keys(devices).length === 0) throw new Error(`The daemon has no ${row.device.toUpperCase()}s to ask about`);
  for (const [device, explanation] of Object.entries(devices)) {
    const name = `${row.device.toUpperCase()} ${device}`;
    parts.stdout(textOf(`${row.name} on ${name} for ${describeActor(actor)}`, explanation));
  }
  return Object.values(devices).every(({ allowed }) => allowed);
}

function textOf(question: string, explanation: Explanation): string {
  const { allowed, rule, refusal, rules } = explanation;
  const verdict = allowed ? `allowed by rule "${rule}"${termsText(explanation)}` : `refused: ${refusal}`;
  const lines = rules.map(({ rule: name, line, because }) => `  line ${line}, rule "${name}": ${because}\n`);
  return `${question}: ${verdict}\n${lines.join("")}`;
}

/** What the rule says of leases, as its file has it: a write that is allowed within a lease only is not simply allowed. */
function termsText({ lease, exclusive, restore_on_exit }: Explanation): string {
  const terms = Object.entries({ lease, exclusive, restore_on_exit }).filter(([, value]) => value !== undefined);
  return terms.length === 0
    ? ""
    : ` with ${terms.map(([key, value]) => `${key} = ${JSON.stringify(value)}`).join(", ")}`;
}

async function actorOf({ user, uid, gid, token }: ExplainFlags, people: People): Promise<Actor> {
  if (user === undefined) {
    if (uid === undefined && gid.length > 0) throw new Error("--gid says nothing without --uid");
    return supposedActor(uid, gid, token);
  }
  if (gid.length > 0) throw new Error("--user comes with all groups of that user; --gid goes with --uid");
  const found = await people.user(user);
  if (!found) throw new Error(`There is no user '${user}'; give --uid and --gid for somebody of another machine`);
  return supposedActor(found.uid, [found.gid, ...(await people.groupsOf(user))], token);
}

type Devices = Readonly<Record<string, Explanation>>;

async function askDaemon(
  { socketPath, gpu, parameters, ...facts }: ExplainFlags,
  row: Row,
  actor: Actor,
  { token }: PolicyCommandParts,
): Promise<Devices> {
  if (facts.gpuModel !== undefined || facts.gpuUuid !== undefined || facts.gpuPciAddress !== undefined) {
    throw new Error("The daemon knows its GPUs: --gpu-model, --gpu-uuid and --gpu-pci-address go with --policy");
  }
  const { peer, claims } = actor;
  const query = stringify({
    operation: `${row.device}/${row.name}`,
    ...(peer ? { uid: peer.uid } : {}),
    ...(peer && peer.groups.size > 0 ? { gids: [...peer.groups].join(",") } : {}),
    ...(claims ? { sub: claims.sub } : {}),
    ...(gpu === undefined ? {} : { gpu_ids: gpu }),
    ...parameters,
  });
  const { status, body } = await ask({ socketPath }, { target: `/policy/explain?${query}`, token }).catch(
    (error: unknown) => {
      throw new Error(
        `Cannot ask the daemon at '${socketPath}': ${messageOf(error)}; give --socket-path, or --policy to ask a file`,
        { cause: error },
      );
    },
  );
  if (status === 401) throw new Error(`The daemon at '${socketPath}' wants a token; give one in ZEUSD_TOKEN`);
  if (status !== 200) throw new Error(`The daemon at '${socketPath}' refuses to say: ${sentenceOf(body)}`);
  // The daemon is ours, and so is the shape of its answer.
  const { gpus, cpus } = JSON.parse(body) as { readonly gpus?: Devices; readonly cpus?: Devices };
  return gpus ?? cpus ?? {};
}

async function askFile(
  path: string,
  { gpu = "0", gpuModel, gpuUuid, gpuPciAddress, parameters }: ExplainFlags,
  row: Row,
  actor: Actor,
  parts: PolicyCommandParts,
): Promise<Devices> {
  if (!/^\d{1,9}$/.test(gpu))
    throw new Error(`--gpu must be an id where a file is asked, not '${gpu}'; see --gpu-uuid and --gpu-pci-address`);
  const name = `${row.device.toUpperCase()} ${gpu}`;
  const target = {
    kind: row.device,
    id: Number(gpu),
    name,
    model: gpuModel,
    uuid: gpuUuid,
    pci_address: gpuPciAddress,
  };
  const values = valuesOf(row, parameters);
  checkRange(row, values);
  const policy = await openPolicy(path, parts);
  return { [gpu]: explain(policy, { actor, row, parameters: values, target }) };
}

function valuesOf(row: Row, given: ExplainFlags["parameters"]): Values {
  const other = Object.keys(given).find((name) => !Object.hasOwn(row.parameters, name));
  if (other !== undefined) throw new Error(`${row.name} has no --${other.replaceAll("_", "-")}`);
  return Object.fromEntries(
    Object.entries(row.parameters).map(([name, field]) => {
      const text = given[name];
      if (text === undefined) throw new Error(`${row.name} needs --${name.replaceAll("_", "-")}`);
      return [name, field.type === "boolean" ? text === "true" : Number(text)];
    }),
  );
}
