// The flags of the daemon for leases: where they are remembered, and when settings are put back.
import { InvalidArgumentError, Option } from "commander";
import { onStops, type Config, type OnStop } from "../contract/config.ts";
import { wholeNumber } from "./options.ts";

export interface LeaseKeepingFlags {
  readonly stateDir?: string;
  readonly restoreOnExit?: boolean;
  readonly onStop: OnStop;
  readonly driftCheckS: number;
  readonly reassert?: boolean;
}

/** A whole day. */
const rarestCheckS = 86_400;

export function leaseKeepingOptions(): readonly Option[] {
  return [
    new Option(
      "--state-dir <dir>",
      "where leases are remembered over restarts (default: the socket's path with .state)",
    ).argParser(directory),
    new Option("--restore-on-exit", "put back what a program changes when it ends, though it asked for no lease"),
    new Option("--on-stop <what>", "put back what leases have changed when stopping, or keep it for the next start")
      .choices(onStops)
      .default("restore"),
    new Option("--drift-check-s <s>", "how often to look whether settings were changed by others; 0 is never")
      .argParser(wholeNumber(0, rarestCheckS))
      .default(30),
    new Option("--reassert", "set again what others have changed"),
  ];
}

function directory(text: string): string {
  if (text === "") throw new InvalidArgumentError("It must be the path of a directory.");
  return text;
}

type LeaseKeeping = Pick<
  Config,
  "stateDir" | "stateDirRequired" | "restoreOnExit" | "onStop" | "driftCheckS" | "reassert"
>;

export function leaseKeeping(
  flags: LeaseKeepingFlags,
  { listener, enabledGroups }: Pick<Config, "listener" | "enabledGroups">,
): LeaseKeeping {
  const usual = enabledGroups.includes("gpu-control") ? usualStateDir(listener) : undefined;
  const stateDir = flags.stateDir ?? usual;
  return {
    ...(stateDir === undefined ? {} : { stateDir }),
    stateDirRequired: flags.stateDir !== undefined,
    restoreOnExit: flags.restoreOnExit ?? false,
    onStop: flags.onStop,
    driftCheckS: flags.driftCheckS,
    reassert: flags.reassert ?? false,
  };
}

/** Of its own for each daemon, and the same after a restart, which a port that the system chooses is not. */
function usualStateDir(listener: Config["listener"]): string | undefined {
  if (listener.mode === "uds") return listener.path === "" ? undefined : `${listener.path}.state`;
  if (listener.port === 0) return undefined;
  return `/run/zeusd/tcp-${listener.host.replace(/[^A-Za-z0-9.-]/g, "_")}-${listener.port}.state`;
}
