// What a process does to become another program: prctl(2), signal(2), fcntl(2) and execvp(3), which Node does not offer.
import { constants as files } from "node:fs";
import { constants } from "node:os";
import { lastErrno, openLibrary } from "./koffi.ts";

/** Source: prctl(2), fcntl(2). */
const PR_SET_PDEATHSIG = 1;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;

/**
 * Asks for SIGTERM when the parent ends, whatever ends it. False if that is no longer `parent`: it has ended before, and no
 * signal will come. What is asked for outlives the change to another program, unless that one gains rights by it.
 */
export function endWithParent(parent: number): boolean {
  const prctl = openLibrary(null).func(
    "int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)",
  );
  if (prctl(PR_SET_PDEATHSIG, constants.signals.SIGTERM, 0, 0, 0) !== 0) return false;
  return process.ppid === parent;
}

/**
 * Becomes another program, found by PATH, with the environment as it is. Returns only if that fails, with the errno. Node
 * ignores two signals, and has marked the standard descriptors as its own and perhaps as non-blocking: that is undone.
 */
export function become(words: readonly string[]): number {
  const library = openLibrary(null);
  const restore = library.func("void *signal(int number, void *handler)");
  for (const signal of [constants.signals.SIGPIPE, constants.signals.SIGXFSZ]) restore(signal, null);
  const control = library.func("int fcntl(int descriptor, int command, ...)");
  for (const descriptor of [0, 1, 2]) {
    control(descriptor, F_SETFD, "int", 0);
    const flags = Number(control(descriptor, F_GETFL));
    if (flags >= 0 && flags & files.O_NONBLOCK) control(descriptor, F_SETFL, "int", flags & ~files.O_NONBLOCK);
  }
  library.func("int execvp(const char *file, const char **words)")(words[0], [...words, null]);
  return lastErrno();
}
