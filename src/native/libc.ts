// Functions of the C library that Node does not offer.
import { openLibrary } from "./koffi.ts";

/** Ends the process at once. `process.exit` would wait for driver calls in flight, and a lost GPU's never return. */
export function exitNow(code: number): never {
  openLibrary(null).func("void _exit(int status)")(code);
  throw new Error("_exit returned");
}
