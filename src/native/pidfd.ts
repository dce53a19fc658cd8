// A handle on a process, which no later process of the same number is taken for: Linux's pidfd.
import { openLibrary } from "./koffi.ts";

export interface PidfdCalls {
  /** A handle on whoever has this pid now; close-on-exec. Undefined if nobody has, or no handle can be had. */
  open(pid: number): number | undefined;
  /** Another number for the same handle; close-on-exec. Undefined if none is left. */
  duplicate(handle: number): number | undefined;
  /** Whether a handle's process has not ended; undefined if that cannot be said. Never waits. */
  alive(handle: number): boolean | undefined;
  /** Whether the other end of a connected socket is closed. Never waits. */
  hungUp(descriptor: number): boolean;
}

/** The same number on every architecture that Node runs on; Linux 5.3. Source: pidfd_open(2). */
const SYS_PIDFD_OPEN = 434;
const F_DUPFD_CLOEXEC = 1030;
const POLLIN = 1;
const POLLHUP = 16;
const POLLNVAL = 32;

/** Sources: pidfd_open(2), fcntl(2), poll(2): a handle can be read when its process has ended, waited for or not. */
export function bindPidfdCalls(): PidfdCalls {
  const library = openLibrary(null);
  const syscall = library.func("long syscall(long number, int pid, unsigned int flags)");
  const fcntl = library.func("int fcntl(int fd, int command, ...)");
  const poll = library.func("int poll(_Inout_ int32_t *polled, unsigned long count, int ms)");
  /** `struct pollfd`: the descriptor, then two halves: what is asked, and what is found. */
  const polled = new Int32Array(2);

  function found(descriptor: number): number {
    polled[0] = descriptor;
    polled[1] = POLLIN;
    return poll(polled, 1, 0) < 0 ? POLLNVAL : polled[1] >>> 16;
  }

  return {
    open(pid) {
      const handle = Number(syscall(SYS_PIDFD_OPEN, pid, 0));
      return handle < 0 ? undefined : handle;
    },
    duplicate(handle) {
      const other = Number(fcntl(handle, F_DUPFD_CLOEXEC, "int", 0));
      return other < 0 ? undefined : other;
    },
    alive(handle) {
      const events = found(handle);
      return events & POLLNVAL ? undefined : (events & (POLLIN | POLLHUP)) === 0;
    },
    hungUp: (descriptor) => (found(descriptor) & (POLLHUP | POLLNVAL)) !== 0,
  };
}
