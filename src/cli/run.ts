// `zeusd run`: takes a lease, sets what it was told to, runs the program, and gives the lease back.
import { gpuRows } from "../contract/operations.ts";
import { connect, type Daemon, type Environment } from "../client/connect.ts";
import { write, type Acquired } from "../client/leases.ts";
import { messageOf } from "../contract/errors.ts";
import { usualSockets } from "./connection-options.ts";
import { renewal, takeLease } from "./run-lease.ts";
import type { RunFlags } from "./run-options.ts";
import { exitCodeOf, type Program } from "./run-program.ts";
import { Interrupted, relaySignals, type Relay, type SignalSource } from "./run-signals.ts";

export interface RunParts {
  readonly env: Environment;
  readonly signals: SignalSource;
  readonly inForeground: () => boolean;
  readonly start: (words: readonly string[]) => Program;
  readonly stderr: (text: string) => void;
  readonly renewEveryMs?: number;
}

/** Gives back the exit code. Rejects with an Error, and has not started the program, if the daemon does not do what it has to. */
export async function run(flags: RunFlags, words: readonly string[], parts: RunParts): Promise<number> {
  const relay = relaySignals(parts.signals, parts.inForeground);
  try {
    return await runWithin(relay, flags, words, parts);
  } catch (error) {
    if (error instanceof Interrupted) return exitCodeOf(error.signal);
    throw error;
  } finally {
    relay.close();
  }
}

async function runWithin(relay: Relay, flags: RunFlags, words: readonly string[], parts: RunParts): Promise<number> {
  const daemon = connect(flags, parts.env, usualSockets);
  const { gpu: gpuIds, exclusive = false, reason } = flags;
  const warn = (text: string): void => parts.stderr(`Warning: ${text}\n`);
  const leaseParts = { renewEveryMs: parts.renewEveryMs ?? renewal.everyMs, warn };
  // Not cut short: of a lease that nobody waits for, nobody knows the id.
  const lease = await takeLease(daemon, { gpuIds, exclusive, reason }, leaseParts);
  try {
    await setAll(relay, daemon, lease.acquired, flags);
    relay.throwIfInterrupted();
    const program = parts.start(words);
    relay.passTo(program);
    return await program.ended;
  } finally {
    await lease.giveBack();
  }
}

async function setAll(relay: Relay, daemon: Daemon, lease: Acquired, flags: RunFlags): Promise<void> {
  for (const { operation, values } of writesOf(flags)) {
    relay.throwIfInterrupted();
    try {
      await relay.unlessInterrupted(write(daemon, lease, operation, values));
    } catch (error) {
      if (error instanceof Interrupted) throw error;
      throw new Error(`The program was not started, since ${operation} failed: ${messageOf(error)}`, { cause: error });
    }
  }
}

interface Write {
  readonly operation: string;
  readonly values: Readonly<Record<string, string | number>>;
}

/** Persistence mode first: without it, the driver may unload between two writes and forget the one before. */
function writesOf({ persistenceMode, powerLimit, gpuClocks, memoryClocks }: RunFlags): readonly Write[] {
  const writes: Write[] = [];
  const add = (operation: string, values: Write["values"]): void => void writes.push({ operation, values });
  if (persistenceMode) add(gpuRows.setPersistenceMode.name, { enabled: String(persistenceMode === "on") });
  if (powerLimit !== undefined) add(gpuRows.setPowerLimit.name, { power_limit_mw: powerLimit });
  if (gpuClocks) add(gpuRows.setGpuLockedClocks.name, { ...gpuClocks });
  if (memoryClocks) add(gpuRows.setMemLockedClocks.name, { ...memoryClocks });
  return writes;
}
