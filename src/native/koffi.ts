// The only import of koffi: its settings have to be made before the first library is loaded, by whomever that is.
import { getSystemErrorMap } from "node:util";
import koffi, { type LibraryHandle } from "koffi";

/**
 * koffi runs a function on a stack of its own. Its 128 KiB are a sixty-fourth of a usual thread's, and a driver that needs
 * more would kill the process. Memory that no driver touches is not used.
 */
const settings = { resident_async_pools: 32, max_async_calls: 1024, async_stack_size: 1024 * 1024 };

/** Opens a shared library by name or path; null is the running program with its C library. */
export function openLibrary(name: string | null): LibraryHandle {
  if (koffi.config().async_stack_size !== settings.async_stack_size) koffi.config(settings);
  return koffi.load(name);
}

export interface Watch {
  /** Nothing is called back from now on, and the descriptor may be closed, which it may not be before. */
  close(): void;
}

/**
 * Calls back from the event loop whenever a descriptor can be read, until it is closed, or nobody holds on to the result any
 * more. Does not keep the process alive. A descriptor has one watch at most.
 */
export function watchReadable(descriptor: number, readable: () => void): Watch {
  const watch = koffi.node.poll(descriptor, { readable: true }, readable);
  watch.unref();
  return { close: () => watch.close() };
}

/** What the last call of a C function left in errno. To be read before any other call. */
export function lastErrno(): number {
  return koffi.errno();
}

/** An error like Node's own, with `code` and a negative `errno`: `EAGAIN: resource temporarily unavailable, send`. */
export function systemError(errno: number, call: string): NodeJS.ErrnoException {
  const [code, words] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, "unknown error"];
  return Object.assign(new Error(`${code}: ${words}, ${call}`), { errno: -errno, code, syscall: call });
}
