// Opens what is remembered of settings and leases: the state directory, its journal, and what a daemon before has left there.
import { existsSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Clock } from "./contract/clock.ts";
import type { Config } from "./contract/config.ts";
import { messageOf, StartError } from "./contract/errors.ts";
import type { Events } from "./contract/events.ts";
import type { Health } from "./contract/health.ts";
import type { Log } from "./contract/log.ts";
import { createProcessOpener } from "./native/held-process.ts";
import { lockFile, lockHolder } from "./native/lock.ts";
import { openJournalFile, type OpenedJournal } from "./settings/journal-file.ts";
import { Settings } from "./settings/settings.ts";
import { openStateDirectory, type StateDirectory } from "./settings/state-directory.ts";

export interface StartSettingsParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly euid: number;
  readonly health: Health;
  readonly events: Events;
}

export interface OpenSettings {
  readonly settings: Settings;
  /** Whether what a daemon before has left could not be used. */
  readonly setAside: boolean;
  /** Writes down what is remembered, and lets another daemon have the directory. */
  close(): void;
}

/** Throws a StartError if the state directory cannot be used, or another daemon uses it. */
export function startSettings(config: Config, parts: StartSettingsParts): OpenSettings {
  const { clock, log, health, events } = parts;
  const { reassert } = config;
  const shared = { clock, log, health, events, reassert, openProcess: createProcessOpener() };
  const state = openState(config, parts);
  const settings = new Settings({ ...shared, journal: state?.journal });
  return {
    settings,
    setAside: state?.journal.setAside ?? false,
    close() {
      settings.close();
      state?.directory.close();
    },
  };
}

interface State {
  readonly directory: StateDirectory;
  readonly journal: OpenedJournal;
}

/**
 * One that was not asked for is done without where it cannot be had. It may be a killed daemon's that hangs in the driver: its
 * socket is free, and others' GPUs shall not wait for that one.
 */
function openState(
  { stateDir: path, stateDirRequired, listener }: Config,
  parts: StartSettingsParts,
): State | undefined {
  if (path === undefined) return undefined;
  // The socket has no place then either, and says so itself.
  if (!stateDirRequired && listener.mode === "uds" && !existsSync(dirname(path))) return undefined;
  try {
    return openStateIn(path, parts);
  } catch (error) {
    if (stateDirRequired) throw error;
    parts.log.warn(
      `${messageOf(error)}. Until then, what leases have changed is not put back after the daemon was killed`,
    );
    return undefined;
  }
}

function openStateIn(path: string, { clock, log, euid }: StartSettingsParts): State {
  const directory = openStateDirectory({ path, euid, lock: lockFile, holder: lockHolder });
  try {
    const epochMs = (): number => clock.epochMs();
    const journal = openJournalFile({ directory: directory.path, bootId: bootId(), euid, log, epochMs });
    return { directory, journal };
  } catch (error) {
    directory.close();
    const text = `Cannot use the state directory '${directory.path}': ${messageOf(error)}; give --state-dir another one`;
    throw new StartError(text, { cause: error });
  }
}

/** What no two starts of a machine have in common: a GPU's settings do not outlive them. */
function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
