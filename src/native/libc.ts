// Functions of the C library that Node does not offer.
import { openLibrary } from "./koffi.ts";

/** Ends the process at once. `process.exit` would wait for driver calls in flight, and a lost GPU's never return. */
export function exitNow(code: number): never {
  openLibrary(null).func("void _exit(int status)")(code);
  throw new Error("_exit returned");
}

/** A function that lets another thread have the processor, if one waits for it. Source: sched_yield(2). */
export function createYield(): () => void {
  return openLibrary(null).func("int sched_yield()");
}
