// The only import of koffi: its settings have to be made before the first library is loaded, by whomever that is.
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

/**
 * Calls back from the event loop whenever a descriptor can be read, for as long as somebody holds on to the result. Does not
 * keep the process alive.
 */
export function watchReadable(descriptor: number, readable: () => void): object {
  const watch = koffi.node.poll(descriptor, { readable: true }, readable);
  watch.unref();
  return watch;
}
