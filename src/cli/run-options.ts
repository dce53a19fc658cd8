// `zeusd run`: its options.
import { type Command, InvalidArgumentError, Option } from "commander";
import { connectionOptions, type ConnectionFlags } from "./connection-options.ts";
import { addOptions } from "./options.ts";
import { parseClocks, parsePower, type Clocks } from "./units.ts";

export interface RunFlags extends ConnectionFlags {
  /** Ids, UUIDs or PCI addresses, separated by commas. */
  readonly gpu?: string;
  /** In mW. */
  readonly powerLimit?: number;
  readonly gpuClocks?: Clocks;
  readonly memoryClocks?: Clocks;
  readonly persistenceMode?: "on" | "off";
  readonly exclusive?: boolean;
  readonly reason?: string;
}

export function addRunCommand(
  program: Command,
  argv: readonly string[],
  run: (flags: RunFlags, words: readonly string[]) => Promise<void>,
): void {
  const command = program
    .command("run")
    .description("run a program with GPUs set as you say, and put them back after it");
  // What follows the program is the program's own, whatever it looks like.
  command.argument("<program>", "what to run").argument("[args...]", "its arguments").passThroughOptions();
  addOptions(command, argv, [
    new Option("--gpu <ids>", "which GPUs, e.g. 0,1; all, if left out").argParser(gpuIds),
    new Option("--power-limit <power>", "e.g. 250W").argParser(parsePower),
    new Option("--gpu-clocks <clocks>", "e.g. 1400MHz, or 1200-1500MHz").argParser(parseClocks),
    new Option("--memory-clocks <clocks>", "e.g. 1593MHz").argParser(parseClocks),
    new Option("--persistence-mode <mode>", "whether the driver stays loaded").choices(["on", "off"]),
    new Option("--exclusive", "let nobody else change these GPUs meanwhile"),
    new Option("--reason <text>", "what zeusd lease list tells others"),
    ...connectionOptions(),
  ]);
  command.addHelpText("after", runHelp);
  command.action((file: string, args: readonly string[], flags: RunFlags) => run(flags, [file, ...args]));
}

function gpuIds(text: string): string {
  if (text.split(",").every((id) => /^[\w:.-]+$/.test(id))) return text;
  throw new InvalidArgumentError("It must be ids, UUIDs or PCI addresses, separated by commas.");
}

const runHelp = `
What is set belongs to a lease, and so is what the program itself sets through
the daemon: when the program ends, however it ends, all of it is put back.

  zeusd run --gpu 0,1 --power-limit 250W -- python train.py --lr 0.1

It ends with the program's exit code, or with 128 + n if signal n ended it;
with 127 or 126 if there is no such program or it cannot be executed; with 1,
and without having started it, if the daemon refuses.`;
