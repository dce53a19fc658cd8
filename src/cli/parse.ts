// The command line: which subcommand, with which options. Usage errors end with exit code 2, a policy that says no with 3, all other errors with 1.
import { Command, CommanderError } from "commander";
import type { Config } from "../contract/config.ts";
import { messageOf } from "../contract/errors.ts";
import { addExplainOptions, explainFlags, type ExplainFlags } from "./policy-options.ts";
import { addServeOptions, toConfig, type Form } from "./serve-options.ts";
import { addTokenOptions, type IssueFlags } from "./token-options.ts";

/** What the command line starts; handed in by main.ts. */
interface Programs {
  serve(config: Config): Promise<void>;
  issueToken(flags: IssueFlags): Promise<void>;
  checkPolicy(path: string): Promise<void>;
  /** Gives back whether what is asked is allowed. */
  explainPolicy(flags: ExplainFlags): Promise<boolean>;
}

export interface CliParts {
  readonly version: string;
  readonly env: NodeJS.ProcessEnv;
  readonly programs: Programs;
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
}

/** Runs a command line, without the two words that start it, and returns the exit code. */
export async function runCommandLine(argv: readonly string[], parts: CliParts): Promise<number> {
  let exitCode = 0;
  const refused = (): void => void (exitCode = 3);
  try {
    await createProgram(argv, parts, refused).parseAsync(argv, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    parts.stderr(`Error: ${messageOf(error)}\n`);
    return 1;
  }
}

function createProgram(argv: readonly string[], parts: CliParts, refused: () => void): Command {
  const { version, env, programs, stdout, stderr } = parts;
  const program = new Command("zeusd")
    .description(
      "Lets unprivileged programs change GPU power limits, clocks and persistence mode, and read power and energy.",
    )
    .version(`zeusd ${version}`, "-V, --version")
    .exitOverride()
    .helpCommand(true)
    .configureOutput({ writeOut: stdout, writeErr: stderr })
    .enablePositionalOptions()
    .allowExcessArguments(true)
    .action(() => {
      const [word] = program.args;
      if (word !== undefined)
        program.error(`error: unknown command '${word}'; there are serve, token, policy and help`);
      return programs.serve(toConfig(program.opts()));
    });
  addServeOptions(program, argv, "plain", env);
  addLongHelp(program, argv, "plain");

  const serve = program.command("serve").description("start the daemon (the form of 0.4 and later)");
  serve.allowExcessArguments(false).action(() => programs.serve(toConfig(serve.opts())));
  addServeOptions(serve, argv, "serve", env);
  addLongHelp(serve, argv, "serve");

  const issue = program.command("token").description("work with tokens").command("issue");
  issue.description("print a new token").allowExcessArguments(false);
  issue.action(() => programs.issueToken(issue.opts()));
  addTokenOptions(issue, argv);

  addPolicyCommands(program, argv, programs, refused);

  program.hook("preSubcommand", () => refuseMisplaced(program));
  return program;
}

function addPolicyCommands(program: Command, argv: readonly string[], programs: Programs, refused: () => void): void {
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

/** Options of the plain form say nothing to a subcommand; to ignore them would be a silent surprise. */
function refuseMisplaced(program: Command): void {
  const misplaced = program.options.find((option) => program.getOptionValueSource(option.attributeName()) === "cli");
  if (misplaced) program.error(`error: unexpected option '${misplaced.flags}' before the subcommand; put it after`);
}

const longHelp: Readonly<Record<Form, string>> = {
  plain: `
Without a subcommand zeusd serves, as 0.1 to 0.3 did. zeusd serve does the same with the defaults of 0.4 and later.

Try it without a GPU and without root:
  zeusd --sim 8xh100 --socket-path /tmp/zeusd.sock
`,
  serve: `
Try it without a GPU and without root:
  zeusd serve --sim 8xh100 --socket-path /tmp/zeusd.sock
`,
};

/** `-h` is short, `--help` says more. */
function addLongHelp(command: Command, argv: readonly string[], form: Form): void {
  command.addHelpText("after", () => (argv.includes("--help") ? longHelp[form] : ""));
}
