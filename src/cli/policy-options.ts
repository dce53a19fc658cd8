// `zeusd policy explain`: its options.
import { type Command, Option } from "commander";
import { U32_MAX, type Field } from "../contract/field.ts";
import { allOperations } from "../contract/operations.ts";
import { addOptions, wholeNumber } from "./options.ts";
import { defaultSocket } from "./serve-options.ts";

export interface ExplainFlags {
  /** A file to ask; without one the running daemon is asked. */
  readonly policy?: string;
  readonly socketPath: string;
  readonly operation: string;
  readonly user?: string;
  readonly uid?: number;
  readonly gid: readonly number[];
  readonly token?: string;
  readonly gpu?: string;
  readonly gpuModel?: string;
  readonly gpuUuid?: string;
  readonly gpuPciAddress?: string;
  /** The parameters of the operation, by their wire names. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** The parameters of all operations, by wire name. */
const parameters: ReadonlyMap<string, Field> = new Map(allOperations.flatMap((row) => Object.entries(row.parameters)));

export interface PolicyPrograms {
  checkPolicy(path: string): Promise<void>;
  /** Gives back whether what is asked is allowed. */
  explainPolicy(flags: ExplainFlags): Promise<boolean>;
}

/** Calls `refused` where the answer is no. */
export function addPolicyCommands(
  program: Command,
  argv: readonly string[],
  programs: PolicyPrograms,
  refused: () => void,
): void {
  const policy = program.command("policy").description("check a policy file, and ask it what it allows");
  const check = policy.command("check").description("say what is wrong with a file, or what its rules are");
  check.argument("<file>").allowExcessArguments(false);
  check.action((path: string) => programs.checkPolicy(path));
  const explain = policy.command("explain").description("say which rule decides, and why; exits with 3 for no");
  explain.allowExcessArguments(false);
  addExplainOptions(explain, argv);
  explain.action(async () => {
    if (!(await programs.explainPolicy(explainFlags(explain)))) refused();
  });
}

function addExplainOptions(command: Command, argv: readonly string[]): void {
  const options = [
    new Option("--operation <name>", "what is asked, e.g. set_power_limit, or gpu/get_power").makeOptionMandatory(),
    new Option("--user <name>", "who asks: a user of this machine, with all their groups").conflicts("uid"),
    new Option("--uid <uid>", "who asks, by number").argParser(wholeNumber(0, U32_MAX)),
    new Option("--token <subject>", "who asks: the subject of a token"),
    new Option("--gpu <id>", "on which GPU; all that a running daemon has, if left out"),
    ...[...parameters].map(([name, field]) => parameterOption(name, field)),
    new Option("--policy <path>", "ask this file; without it, the running daemon is asked (as root)"),
    new Option("--gpu-model <name>", "with --policy: what the driver calls the GPU"),
    new Option("--gpu-uuid <uuid>", "with --policy: its UUID"),
    new Option("--gpu-pci-address <address>", "with --policy: its PCI address"),
    new Option("--socket-path <path>", "where the running daemon listens").default(defaultSocket.serve),
  ];
  const gid = new Option("--gid <gid>", "with --uid: a group of theirs; may be repeated");
  addOptions(command, argv, options, [gid.argParser(idList()).default([], "none")]);
}

function parameterOption(name: string, field: Field): Option {
  const flag = `--${name.replaceAll("_", "-")}`;
  if (field.type === "boolean") return new Option(`${flag} <bool>`, field.doc).choices(["true", "false"]);
  return new Option(`${flag} <${field.unit.toLowerCase()}>`, field.doc).argParser(wholeNumber(0, U32_MAX));
}

function idList(): (text: string) => readonly number[] {
  const given: number[] = [];
  const id = wholeNumber(0, U32_MAX);
  return (text) => {
    given.push(...text.split(",").map(id));
    return given;
  };
}

/** What was given, with the operation's parameters under their wire names. */
function explainFlags(command: Command): ExplainFlags {
  const options: Readonly<Record<string, unknown>> = command.opts();
  const given = [...parameters.keys()].flatMap((name) => {
    const value = options[name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase())];
    return value === undefined ? [] : [[name, String(value)] as const];
  });
  return { ...command.opts(), parameters: Object.fromEntries(given) };
}
