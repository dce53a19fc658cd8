// Loads a shared library, and calls its functions on threads of the pool: none of them ever runs on the event loop.
import type { LibraryHandle } from "koffi";
import { openLibrary } from "./koffi.ts";

/** What a C parameter takes: a number, a pointer, bytes to write to, or one slot for what a number or pointer comes out as. */
export type Argument = number | bigint | Uint8Array | (number | bigint | null)[];

export interface Library<Name extends string> {
  /** The function's result. Throws SymbolMissing if the library has no such function. */
  call(symbol: Name, ...args: readonly Argument[]): Promise<number>;
  /** Frees the library, so that loading it again finds what is installed by then. Nothing may be called afterwards. */
  unload(): void;
}

export class LibraryMissing extends Error {
  override readonly name = "LibraryMissing";
}

export class SymbolMissing extends Error {
  override readonly name = "SymbolMissing";
}

/**
 * Loads the first of `names` that is there. A function's prototype is its parameters as C text; it is resolved when first
 * called, so that one which an older library lacks breaks only what needs it.
 */
export function loadLibrary<Name extends string>(
  names: readonly string[],
  parameters: Readonly<Record<Name, string>>,
): Library<Name> {
  const library = load(names);
  const functions = new Map<Name, NativeFunction>();

  function find(symbol: Name): NativeFunction {
    const found = functions.get(symbol) ?? resolve(library, symbol, parameters[symbol]);
    functions.set(symbol, found);
    return found;
  }

  return {
    call(symbol, ...args) {
      return new Promise((settle, fail) => {
        const native = find(symbol);
        native.async(...args, (error: unknown, result: number) => {
          // koffi does not hold on to buffers: without this mention they could be collected while the driver writes to them.
          void args;
          if (error) fail(error);
          else settle(result);
        });
      });
    },
    unload: () => library.unload(),
  };
}

interface NativeFunction {
  async(...args: readonly unknown[]): void;
}

function load(names: readonly string[]): LibraryHandle {
  const reasons: string[] = [];
  for (const name of names) {
    try {
      return openLibrary(name);
    } catch (error) {
      reasons.push(`${name}: ${reasonOf(error, "Failed to load shared library: ")}`);
    }
  }
  throw new LibraryMissing(reasons.join("; "));
}

function resolve(library: LibraryHandle, symbol: string, parameters: string): NativeFunction {
  try {
    return library.func(`int ${symbol}(${parameters})`);
  } catch (error) {
    throw new SymbolMissing(reasonOf(error, ""), { cause: error });
  }
}

function reasonOf(error: unknown, prefix: string): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.startsWith(prefix) ? message.slice(prefix.length) : message;
}
