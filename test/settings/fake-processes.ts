// Processes that a test begins and ends, as leases know them.
import type { Claimant, HeldProcess, LeasePeer, ProcessId } from "../../src/contract/lease.ts";

export interface FakeProcess extends ProcessId {
  readonly uid: number;
  readonly parent: FakeProcess | undefined;
  lives: boolean;
}

export interface FakeProcesses {
  /** Begins a process, with any number that no living one has. */
  begin(pid: number, of?: { readonly uid?: number; readonly parent?: FakeProcess }): FakeProcess;
  /** Ends it; whoever holds it hears of that from the event loop. */
  end(process: FakeProcess): void;
  /** What a daemon opens that knows a process by its number and its beginning alone. */
  open(process: ProcessId): HeldProcess | undefined;
  /** Who asks over a Unix socket. */
  claimant(process: FakeProcess): Claimant & { readonly peer: LeasePeer };
  /** Whoever held something is no more. */
  forgetHolders(): void;
  /** How many handles are open. */
  readonly held: number;
}

interface Handle {
  readonly process: FakeProcess;
  callback: () => void;
}

export function createFakeProcesses(): FakeProcesses {
  const all = new Map<number, FakeProcess>();
  const handles = new Set<Handle>();
  let ticks = 1_000;

  function hold(process: FakeProcess): HeldProcess | undefined {
    if (!process.lives) return undefined;
    const handle: Handle = { process, callback: () => {} };
    handles.add(handle);
    return {
      pid: process.pid,
      started: process.started,
      onEnd: (callback) => void (handle.callback = callback),
      close: () => void handles.delete(handle),
    };
  }

  return {
    begin(pid, { uid = 1000, parent } = {}) {
      const process = { pid, started: (ticks += 1), uid, parent, lives: true };
      all.set(pid, process);
      return process;
    },
    end(process) {
      process.lives = false;
      for (const handle of handles) {
        if (handle.process === process) setImmediate(() => handles.has(handle) && handle.callback());
      }
    },
    open({ pid, started }) {
      const process = all.get(pid);
      return process?.started === started ? hold(process) : undefined;
    },
    claimant(process) {
      const lineage: ProcessId[] = [];
      for (let at: FakeProcess | undefined = process; at; at = at.parent) lineage.push(at);
      return {
        peer: {
          uid: process.uid,
          pid: process.pid,
          program: () => `program-${process.pid}`,
          lineage: () => lineage.map(({ pid, started }) => ({ pid, started })),
          hold: () => hold(process),
        },
      };
    },
    forgetHolders: () => handles.clear(),
    get held() {
      return handles.size;
    },
  };
}
