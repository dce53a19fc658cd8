// A process that is watched for its end, by a handle that does not depend on any connection.
import { closeSync } from "node:fs";
import { type Watch, watchReadable } from "./koffi.ts";
import { bindPidfdCalls } from "./pidfd.ts";
import { type ProcessId, statOf } from "./proc.ts";

export interface HeldProcess extends ProcessId {
  /** Calls back once when it has ended, waited for or not; from the event loop, also if it had ended before. */
  onEnd(callback: () => void): void;
  /** Gives the handle back; nothing is called back any more. */
  close(): void;
}

/**
 * A function that finds a process again after a restart. Undefined if it has ended, waited for or not, if its number is
 * another's by now, or if no handle can be had. Whoever gets one has to close it.
 */
export function createProcessOpener(): (id: ProcessId) => HeldProcess | undefined {
  const pidfds = bindPidfdCalls();

  return function openProcess(id) {
    const handle = pidfds.open(id.pid);
    if (handle === undefined) return undefined;
    // Only if the handle's process is there afterwards, it was the one that was read.
    if (statOf(id.pid)?.started === id.started && pidfds.alive(handle) === true) return holdProcess(handle, id);
    closeSync(handle);
    return undefined;
  };
}

/** Takes the handle, a pidfd that nobody else has the number of, and closes it in the end. */
export function holdProcess(handle: number, { pid, started }: ProcessId): HeldProcess {
  const waiting: (() => void)[] = [];
  let open: number | undefined = handle;
  // What is called back has it, so that it lasts until it is closed, even if nobody else has this record any more.
  let watch: Watch | undefined;

  function stopWatching(): void {
    watch?.close();
    watch = undefined;
  }

  function ended(): void {
    // It stays readable, and would call back in every turn of the loop.
    stopWatching();
    // An error thrown from a watch has no way out, and promises settled there wait for whatever comes next.
    for (const callback of waiting.splice(0)) setImmediate(() => open !== undefined && callback());
  }

  return {
    pid,
    started,
    onEnd(callback) {
      if (open === undefined) return;
      waiting.push(callback);
      watch ??= watchReadable(open, ended);
    },
    close() {
      const closing = open;
      open = undefined;
      // libuv ends the program if a descriptor is closed that it still watches.
      stopWatching();
      if (closing !== undefined) closeSync(closing);
    },
  };
}
