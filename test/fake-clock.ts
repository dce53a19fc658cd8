// A clock that moves only when a test says so.
import type { Clock } from "../src/contract/clock.ts";

export interface FakeClock extends Clock {
  /** Moves time on, and calls back whatever falls due on the way, in order. */
  advance(ms: number): Promise<void>;
  /** Moves time on as it does for a process that is stopped: what fell due meanwhile comes with the next `advance`. */
  skip(ms: number): void;
  readonly pending: number;
}

export function createFakeClock(epochMs = 1_795_500_000_000): FakeClock {
  const timers = new Set<{ readonly due: number; readonly callback: () => void }>();
  let now = 0;
  return {
    epochMs: () => epochMs + Math.floor(now),
    monotonicMs: () => now,
    after(ms, callback) {
      const timer = { due: now + ms, callback };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    async advance(ms) {
      const end = now + ms;
      await settle();
      for (;;) {
        const [next] = [...timers].filter(({ due }) => due <= end).toSorted((one, other) => one.due - other.due);
        if (!next) break;
        timers.delete(next);
        now = Math.max(now, next.due);
        next.callback();
        await settle();
      }
      now = end;
    },
    skip(ms) {
      now += ms;
    },
    get pending() {
      return timers.size;
    },
  };
}

/** Lets everything that is already promised happen. */
function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
