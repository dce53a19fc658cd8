// A handle on a process, which no later process of the same number is taken for: Linux's pidfd. And what /proc says of it.
import { readFileSync } from "node:fs";
import { openLibrary } from "./koffi.ts";

export interface PidfdCalls {
  /** A handle on whoever has this pid now; close-on-exec. Undefined if nobody has, or no handle can be had. */
  open(pid: number): number | undefined;
  /** Whether a handle's process has not ended; undefined if that cannot be said. Never waits. */
  alive(handle: number): boolean | undefined;
  /** Whether the other end of a connected socket is closed. Never waits. */
  hungUp(descriptor: number): boolean;
}

/** The same number on every architecture that Node runs on; Linux 5.3. Source: pidfd_open(2). */
const SYS_PIDFD_OPEN = 434;
const POLLIN = 1;
const POLLHUP = 16;
const POLLNVAL = 32;

/** Source: pidfd_open(2), poll(2): a handle can be read when its process has ended, waited for or not. */
export function bindPidfdCalls(): PidfdCalls {
  const library = openLibrary(null);
  const syscall = library.func("long syscall(long number, int pid, unsigned int flags)");
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
    alive(handle) {
      const events = found(handle);
      return events & POLLNVAL ? undefined : (events & (POLLIN | POLLHUP)) === 0;
    },
    hungUp: (descriptor) => (found(descriptor) & (POLLHUP | POLLNVAL)) !== 0,
  };
}

/** What a process calls itself: 15 bytes at most. Undefined if there is no such process, or /proc hides it. Source: proc(5). */
export function programOf(pid: number): string | undefined {
  const text = read(`/proc/${pid}/comm`);
  // A process may name itself anything. What would break a line or turn a terminal's text around is shown as unknown.
  return text?.replace(/\n$/, "").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "\u{fffd}");
}

/** The ids that a process acts under, which are the ones a socket's peer is known by. Undefined as above. */
export function effectiveIdsOf(pid: number): { readonly uid: number; readonly gid: number } | undefined {
  // Its name comes first, but with line breaks escaped.
  const match = read(`/proc/${pid}/status`)?.match(/^Uid:\t\d+\t(\d+).*\nGid:\t\d+\t(\d+)/m);
  return match ? { uid: Number(match[1]), gid: Number(match[2]) } : undefined;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
