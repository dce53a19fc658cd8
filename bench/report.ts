// Tells what came of a run: as a table, and with the machine and the manner of measuring for a file.
import { execFileSync } from "node:child_process";
import { availableParallelism, cpus, release } from "node:os";
import type { Result, Target, Unit } from "./work.ts";

export interface Echo {
  /** Against a server that does nothing. */
  readonly p50Us: number;
  readonly requestsPerSecond: number;
}

export interface Run {
  readonly results: readonly Result[];
  readonly rounds: number;
  readonly quick: boolean;
  readonly logLevel: string;
  readonly oursArgs: readonly string[];
  readonly echo: Echo;
}

export function isMet({ target, ours, ratio = Number.NaN }: Result): boolean {
  const value = target.of === "ratio" ? ratio : ours;
  return target.is === "at most" ? value <= target.value : value >= target.value;
}

const head = ["work", "ours", "original", "ratio", "spread", "target", "met"];

export function tableOf(results: readonly Result[]): string {
  const lines = [head, ...results.map(cellsOf)];
  const widths = head.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)));
  const written = lines.map(
    (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`,
  );
  const rule = `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`;
  return [written[0], rule, ...written.slice(1)].join("\n");
}

function cellsOf(result: Result): readonly string[] {
  const { name, unit, ours, original, ratio, rounds, target } = result;
  const spread = rounds.length > 0 ? `${short(Math.min(...rounds))}–${short(Math.max(...rounds))}` : "";
  return [
    name,
    withUnit(ours, unit),
    original === undefined ? "" : withUnit(original, unit),
    ratio === undefined ? "" : ratio.toFixed(2),
    spread,
    targetText(target, unit),
    isMet(result) ? "yes" : "**no**",
  ];
}

function targetText({ is, of, value }: Target, unit: Unit): string {
  const sign = is === "at most" ? "≤" : "≥";
  return of === "ours" ? `${sign} ${withUnit(value, unit)}` : `${sign} ${short(value)}`;
}

const withUnit = (value: number, unit: Unit): string => (unit === "times" ? short(value) : `${short(value)} ${unit}`);

/** Three digits, and no more than are there. */
function short(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

/** What stands below the table. */
export function notesOf({ results, echo }: Run): string {
  const notes = results.flatMap(({ name, note }) => (note === undefined ? [] : [`- ${name}: ${note}.`]));
  const own = `- The load generator against \`echo.c\`, which does nothing but answer: p50 ${short(echo.p50Us)} µs over 1 connection, ${short(echo.requestsPerSecond)} requests/s over 16.`;
  return [...notes, own].join("\n");
}

export function pageOf(run: Run): string {
  const { results, rounds, quick, logLevel, oursArgs } = run;
  return `# How fast it is

\`npm run bench\` measured this on ${new Date().toISOString().slice(0, 10)} at commit ${commit()}, on ${machine()}.

${tableOf(results)}

${notesOf(run)}

## How it was measured

- Ours and the original (0.5.0; 0.2.0 for the JSON wire) ran on the same machine, over the same stub driver with 8 GPUs, on a
  Unix socket, both with log level \`${logLevel}\` into a file. At that level the original logs requests, ours does not.
- ${rounds} rounds in turn${quick ? ", each shorter than usual" : ""}; who is first alternates. Both are started for each row, and stopped by a signal
  while they are not measured. Each value is the median of the rounds; the ratio is that of the medians, and the spread goes
  from the smallest to the largest of what is held against the target, over the rounds.
- The load generator (\`load.c\`) has a thread for each connection and records each request; percentiles are exact. It shares the
  machine with the daemon. A single answer that is not as expected ends the run.
- Answers to \`block=false\` come faster than the driver takes commands; after 256 of them one request with \`block=true\` lets the
  queue drain.
- The driver's own time is taken by the stub around its own sleep, call by call.
- Streams are read by one thread (\`streams.c\`) once all of them are open, at powers that change with each reading.
- The token's cost is the difference of two requests, one to a daemon with a key and one to a daemon without, in turn; both are
  pinned to one processor and the load to another.
${oursArgs.length > 0 ? `- Ours was started with \`${oursArgs.join(" ")}\`.\n` : ""}`;
}

function commit(): string {
  const git = (...words: readonly string[]): string => execFileSync("git", words, { encoding: "utf8" }).trim();
  const changed = git("status", "--porcelain", "--", ".", ":!bench/RESULTS.md");
  return `${git("rev-parse", "--short", "HEAD")}${changed ? " with uncommitted changes" : ""}`;
}

function machine(): string {
  const model = cpus()[0]?.model.trim() ?? "an unknown processor";
  return `${availableParallelism()} cores of ${model}, Linux ${release()}, Node ${process.version}`;
}
