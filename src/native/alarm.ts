// An alarm that rings to within some tens of microseconds: Linux's timerfd. Node's own timers have whole milliseconds.
import { openLibrary, watchReadable } from "./koffi.ts";

export interface Alarm {
  /** What keeps it going. */
  readonly watch: object;
  /** Rings once, so many milliseconds from now, instead of when it was set to before. */
  set(ms: number): void;
}

const CLOCK_MONOTONIC = 1;
const TFD_NONBLOCK = 0o4000;
const TFD_CLOEXEC = 0o2000000;

/** `struct itimerspec`: an interval, then the time until it rings, each as seconds and nanoseconds of 64 bits. */
const specBytes = 32;
const secondsAt = 16;
const nanosecondsAt = 24;

/** Waiting for it does not keep the process alive. Source: timerfd_create(2). */
export function createAlarm(ring: () => void): Alarm {
  const library = openLibrary(null);
  const setTime = library.func("int timerfd_settime(int fd, int flags, const uint8_t *wanted, void *before)");
  const descriptor = Number(
    library.func("int timerfd_create(int clock, int flags)")(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
  );
  if (descriptor < 0) throw new Error("timerfd_create failed");
  const read = library.func("intptr_t read(int fd, _Out_ uint8_t *count, size_t bytes)");
  const spec = Buffer.alloc(specBytes);
  const count = Buffer.alloc(8);

  function set(ms: number): void {
    // Whole microseconds, and never zero, which would turn it off.
    const us = Math.max(1, Math.round(ms * 1000));
    spec.writeUInt32LE(Math.floor(us / 1_000_000), secondsAt);
    spec.writeUInt32LE((us % 1_000_000) * 1000, nanosecondsAt);
    setTime(descriptor, 0, spec, null);
  }

  const watch = watchReadable(descriptor, () => {
    // One that was set anew meanwhile has nothing to read.
    if (Number(read(descriptor, count, count.length)) === count.length) ring();
  });
  return { watch, set };
}
