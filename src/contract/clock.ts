// Time as a parameter: what the daemon asks the system for, and what tests hand in instead.

export interface Clock {
  /** Milliseconds since 1970, whole; what clients see. */
  epochMs(): number;
  /** Milliseconds since some start, never set back; what durations are measured with. */
  monotonicMs(): number;
  /** Calls back once after `ms`; the result cancels it. A pending call does not keep the process alive. */
  after(ms: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  epochMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
