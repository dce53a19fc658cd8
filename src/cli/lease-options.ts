// `zeusd lease`: its options.
import { type Command, InvalidArgumentError, Option } from "commander";
import { connectionOptions, type ConnectionFlags } from "./connection-options.ts";
import { addOptions } from "./options.ts";

export interface ListFlags extends ConnectionFlags {
  readonly json?: boolean;
}

export interface ReleaseFlags extends ConnectionFlags {
  readonly lease: number;
  readonly force: boolean;
}

export interface LeasePrograms {
  listLeases(flags: ListFlags): Promise<void>;
  releaseLease(flags: ReleaseFlags): Promise<void>;
}

export function addLeaseCommands(program: Command, argv: readonly string[], programs: LeasePrograms): void {
  const group = program.command("lease").description("see who holds which settings of the GPUs, and end that");
  const list = group.command("list").description("print all leases").allowExcessArguments(false);
  addOptions(list, argv, [new Option("--json", "print what the daemon says"), ...connectionOptions()]);
  list.action((flags: ListFlags) => programs.listLeases(flags));

  const release = group.command("release").description("end a lease, and put back what it has changed");
  release.argument("<number>", "which, as zeusd lease list has it", leaseNumber).allowExcessArguments(false);
  addOptions(release, argv, [
    new Option("--force", "also one that is somebody else's (root only)"),
    ...connectionOptions(),
  ]);
  release.action((lease: number, { force = false, ...where }: ConnectionFlags & { readonly force?: boolean }) =>
    programs.releaseLease({ ...where, lease, force }),
  );
}

function leaseNumber(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be the number of a lease; zeusd lease list prints them.");
}
