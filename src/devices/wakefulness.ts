// Wakefulness: keeps the event loop from falling asleep when something is about to happen, since to be woken costs more than
// most driver calls take. For a bounded time only: what it costs is known.

export interface Wakefulness {
  /** A driver call begins that usually takes so long, in ms; undefined if that is not known. */
  began(usualMs: number | undefined): void;
  ended(): void;
}

/** What it needs of the world. */
export interface Waking {
  /** Milliseconds of a clock that never goes back. */
  nowMs(): number;
  /** Calls back in the next turn of the event loop, which does not sleep before. */
  nextTurn(callback: () => void): void;
  /** The result sets an alarm: `ring` is called once, so many milliseconds later, to within some tens of microseconds. */
  createAlarm(ring: () => void): { set(ms: number): void };
  /** Lets another thread have the processor, if one waits for it. */
  yieldProcessor(): void;
}

/** Sleeps whenever there is nothing to do, as any program does. */
export const drowsy: Wakefulness = { began() {}, ended() {} };

/** How much earlier than usual the end of a long call is looked for, in ms: the loop needs some of it to wake up. */
const leadMs = 0.2;

/**
 * Stays awake for `lastingUs` after a driver call begins or ends, and, where a call takes longer than that, sleeps for most of it and wakes up
 * shortly before its usual end (hybrid polling). With several calls in flight one of them ends soon enough, as a rule.
 */
export function createWakefulness(lastingUs: number, waking: Waking): Wakefulness {
  const { nowMs, nextTurn, createAlarm, yieldProcessor } = waking;
  const lastingMs = lastingUs / 1000;
  let untilMs = 0;
  let polling = false;
  let inFlight = 0;

  const turn = (): void => {
    polling = nowMs() < untilMs;
    if (!polling) return;
    yieldProcessor();
    nextTurn(turn);
  };
  const stayAwake = (ms: number): void => {
    untilMs = Math.max(untilMs, nowMs() + ms);
    if (polling) return;
    polling = true;
    nextTurn(turn);
  };
  const alarm = createAlarm(() => {
    if (inFlight > 0) stayAwake(leadMs + lastingMs);
  });
  return {
    began(usualMs = 0) {
      inFlight += 1;
      stayAwake(lastingMs);
      if (inFlight === 1 && usualMs > lastingMs) alarm.set(usualMs - leadMs);
    },
    ended() {
      inFlight -= 1;
      stayAwake(lastingMs);
    },
  };
}
