// Signals to `zeusd run`: before its program runs they end what it does, afterwards they are the program's.
import type { Program } from "./run-program.ts";

/** What `process` is. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
  off(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
}

/** A signal came before the program was started. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`${signal} came first`);
    this.signal = signal;
  }
}

export interface Relay {
  throwIfInterrupted(): void;
  /** The step's result; rejects with Interrupted as soon as a signal comes. */
  unlessInterrupted<Result>(step: Promise<Result>): Promise<Result>;
  /** From now on signals are passed to this program. */
  passTo(program: Program): void;
  close(): void;
}

/** A terminal sends these to its whole foreground process group. */
const ofTerminal: ReadonlySet<NodeJS.Signals> = new Set<NodeJS.Signals>(["SIGINT", "SIGQUIT"]);
/** These mean something to a program only. */
const ofProgram: ReadonlySet<NodeJS.Signals> = new Set<NodeJS.Signals>(["SIGUSR1", "SIGUSR2", "SIGCONT"]);
const relayed: readonly NodeJS.Signals[] = ["SIGTERM", "SIGHUP", ...ofTerminal, ...ofProgram];

/** Nobody dies of a relayed signal from now until it is closed, but the program. */
export function relaySignals(source: SignalSource, inForeground: () => boolean): Relay {
  let program: Program | undefined;
  let interrupted: Interrupted | undefined;
  let cut: ((reason: Interrupted) => void) | undefined;

  function relay(signal: NodeJS.Signals): void {
    if (program === undefined) {
      if (ofProgram.has(signal)) return;
      interrupted ??= new Interrupted(signal);
      cut?.(interrupted);
    } else if (!ofTerminal.has(signal) || !inForeground()) {
      program.kill(signal);
    }
  }
  for (const signal of relayed) source.on(signal, relay);

  return {
    throwIfInterrupted() {
      if (interrupted) throw interrupted;
    },
    unlessInterrupted(step) {
      return new Promise((resolve, reject) => {
        cut = reject;
        step.then(resolve, reject);
      });
    },
    passTo(started) {
      program = started;
    },
    close() {
      for (const signal of relayed) source.off(signal, relay);
    },
  };
}
