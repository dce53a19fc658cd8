// `zeusd restore`: its options, which are the daemon's and one more.
import { type Command, Option } from "commander";
import type { Config } from "../contract/config.ts";
import { addOptions } from "./options.ts";
import { addServeOptions, toConfig } from "./serve-options.ts";

export function addRestoreCommand(
  program: Command,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  restore: (config: Config, all: boolean) => Promise<void>,
): void {
  const command = program.command("restore").description("put back what leases have changed, where no daemon runs");
  command.allowExcessArguments(false);
  addOptions(command, argv, [new Option("--all", "also what somebody still holds")]);
  addServeOptions(command, argv, "serve", env);
  command.addHelpText("after", "\nIt takes all flags of zeusd serve, so that it finds what that has written down.");
  command.action(() => {
    const { all = false } = command.opts<{ readonly all?: boolean }>();
    return restore(toConfig(command.opts()), all);
  });
}
