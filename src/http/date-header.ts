// The date header: made once a second, since to write a date out takes longer than all else in a head.
import type { Clock } from "../contract/clock.ts";

/** The result gives, for example, `Tue, 24 Nov 2026 12:00:00 GMT`. */
export function createDateHeader(clock: Pick<Clock, "epochMs">): () => string {
  let second = Number.NaN;
  let text = "";
  return () => {
    const now = Math.floor(clock.epochMs() / 1000);
    if (now !== second) text = new Date(now * 1000).toUTCString();
    second = now;
    return text;
  };
}
