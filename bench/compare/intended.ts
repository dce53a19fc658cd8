// The differences that are meant: what is asked, what both answer, and why.

export interface Intended {
  /** The exchange's name, or what it must match. */
  readonly name?: string | RegExp;
  /** What the original's answer, as one line, must match. */
  readonly original?: RegExp;
  /** What ours, as one line, must match. */
  readonly ours: RegExp;
  readonly reason: string;
}

export const intended: readonly Intended[] = [
  {
    original: /^400 text\/plain; charset=utf-8 GPU index \d+ does not exist\.$/,
    ours: /^400 application\/json {"error":"GPU index \d+ does not exist\.","code":"unknown_device"/,
    reason: "an unknown GPU is refused as JSON everywhere on the query wire, in the same words (protocol 13.2, 20)",
  },
  {
    name: /min_clock_mhz/,
    ours: /^400 application\/json {"error":"set_\w+_locked_clocks: min_clock_mhz \d+ is above max_clock_mhz \d+/,
    reason: "a minimum above the maximum is refused before it reaches the driver (protocol 13.2, 19)",
  },
];
