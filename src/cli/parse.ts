// The command line: which subcommand, with which options. Usage errors end with exit code 2, a policy that says no with 3, all
// other errors with 1, and `zeusd run` with its program's.
import { Command, CommanderError } from "commander";
import type { Config } from "../contract/config.ts";
import { messageOf } from "../contract/errors.ts";
import { addLeaseCommands, type LeasePrograms } from "./lease-options.ts";
import { addPolicyCommands, type PolicyPrograms } from "./policy-options.ts";
import { addRestoreCommand } from "./restore-options.ts";
import { addRunCommand, type RunFlags } from "./run-options.ts";
import { addServeOptions, toConfig, type Form } from "./serve-options.ts";
import { addTokenCommand, type IssueFlags } from "./token-options.ts";

/** What the command line starts; handed in by main.ts. */
interface Programs extends PolicyPrograms, LeasePrograms {
  serve(config: Config): Promise<void>;
  /** Puts back what nobody holds any more, or all; gives back whether that is done. */
  restore(config: Config, all: boolean): Promise<boolean>;
  issueToken(flags: IssueFlags): Promise<void>;
  /** Runs a program, and gives back its exit code. */
  run(flags: RunFlags, words: readonly string[]): Promise<number>;
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
  const endWith = (code: number): void => void (exitCode = code);
  try {
    await createProgram(argv, parts, endWith).parseAsync(argv, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    parts.stderr(`Error: ${messageOf(error)}\n`);
    return 1;
  }
}

function createProgram(argv: readonly string[], parts: CliParts, endWith: (code: number) => void): Command {
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
        program.error(`error: unknown command '${word}'; there are serve, run, lease, restore, token, policy and help`);
      return programs.serve(toConfig(program.opts()));
    });
  addServeOptions(program, argv, "plain", env);
  addLongHelp(program, argv, "plain");

  const serve = program.command("serve").description("start the daemon (the form of 0.4 and later)");
  serve.allowExcessArguments(false).action(() => programs.serve(toConfig(serve.opts())));
  addServeOptions(serve, argv, "serve", env);
  addLongHelp(serve, argv, "serve");

  addRunCommand(program, argv, async (flags, words) => endWith(await programs.run(flags, words)));
  addLeaseCommands(program, argv, programs);
  addRestoreCommand(program, argv, env, async (config, all) => endWith((await programs.restore(config, all)) ? 0 : 1));
  addTokenCommand(program, argv, (flags) => programs.issueToken(flags));
  addPolicyCommands(program, argv, programs, () => endWith(3));

  program.hook("preSubcommand", () => refuseMisplaced(program));
  return program;
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
