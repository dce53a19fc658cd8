// Durations as `--expires` takes them: `1h30m`, `7 days`, `1.5h`, `never`.

const second = 1;
const minute = 60;
const hour = 3600;
const day = 86_400;

/** Seconds by unit. A month and a year are a twelfth and the whole of 365.25 days, as in the original. */
const units: Readonly<Record<string, number>> = Object.fromEntries(
  (
    [
      [1e-9, "ns nsec nanos"],
      [1e-6, "us µs usec"],
      [1e-3, "ms msec millis"],
      [second, "s sec secs second seconds"],
      [minute, "m min mins minute minutes"],
      [hour, "h hr hrs hour hours"],
      [day, "d day days"],
      [7 * day, "w wk wks week weeks"],
      [2_630_016, "month months"],
      [31_557_600, "y yr yrs year years"],
    ] as const
  ).flatMap(([seconds, names]) => names.split(" ").map((name) => [name, seconds])),
);

/** The furthest that an expiry may lie ahead, in seconds: 1000 years. */
const longest = 1000 * 31_557_600;

/** Seconds, or undefined for `never` and `0`. Throws a RangeError that says what is wrong. Upper case is taken as lower case. */
export function parseExpiry(text: string): number | undefined {
  const trimmed = text.trim().toLowerCase();
  if (trimmed === "never" || trimmed === "0") return undefined;
  try {
    return sum(trimmed);
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new RangeError(`Invalid duration '${text}'. Use e.g. '1h', '7d', '30d', or 'never'. (${cause})`, {
      cause: error,
    });
  }
}

function sum(text: string): number {
  if (text === "") throw new RangeError("value was empty");
  const item = /\s*(\d+(?:\.\d+)?)\s*([a-zµ]*)\s*/uy;
  let seconds = 0;
  while (item.lastIndex < text.length) {
    const at = item.lastIndex;
    const [, number, unit] = item.exec(text) ?? [];
    if (number === undefined || unit === undefined) throw new RangeError(`expected number at ${at}`);
    if (unit === "") throw new RangeError(`time unit needed, for example ${number}sec or ${number}ms`);
    const factor = Object.hasOwn(units, unit) ? units[unit] : undefined;
    if (factor === undefined)
      throw new RangeError(
        `unknown time unit "${unit}", supported units: ns, us, ms, sec, min, hours, days, weeks, months, years`,
      );
    seconds += Number(number) * factor;
  }
  if (seconds > longest) throw new RangeError("it is longer than 1000 years; use 'never'");
  return seconds;
}
