// Sends the same requests to the original and to ours, and tells where the answers differ.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canFakePowercap, startDaemon, type Daemon } from "./daemon.ts";
import { differences, summary, type Difference, type Outcome } from "./difference.ts";
import type { Exchange } from "./exchange.ts";
import { intended } from "./intended.ts";
import { suites, type Suite } from "./suites.ts";

const [originals = "", ours = "", ...words] = process.argv.slice(2);
const verbose = words.includes("--verbose");
const wanted = words.filter((word) => !word.startsWith("--"));
const count = { equal: 0, intended: 0, different: 0 };
const say = (line: string): void => void process.stdout.write(`${line}\n`);

const folder = mkdtempSync(join(tmpdir(), "zeusd-compare-"));
try {
  for (const suite of suites.filter(({ name }) => wanted.length === 0 || wanted.some((word) => name.includes(word)))) {
    if (suite.cpus && !canFakePowercap()) say(`${suite.name}: skipped, since /sys/class cannot be replaced here`);
    else await compareSuite(suite);
  }
} finally {
  rmSync(folder, { recursive: true });
}
say(`${count.equal} equal, ${count.intended} intended, ${count.different} different`);
process.exitCode = count.different > 0 ? 1 : 0;

async function compareSuite(suite: Suite): Promise<void> {
  const binary = join(originals, suite.version, "bin/zeusd");
  const pair = await startPair(suite, [binary], [process.execPath, ours]);
  try {
    for (const exchange of suite.exchanges) report(suite, exchange, await compareExchange(pair, exchange));
  } finally {
    await Promise.all(pair.map((daemon) => daemon.stop()));
  }
}

async function startPair(suite: Suite, ...programs: readonly [readonly string[], readonly string[]]): Promise<Daemon[]> {
  const place = mkdtempSync(join(folder, "suite-"));
  const started = await Promise.allSettled([
    startDaemon(programs[0], join(place, "original"), suite),
    startDaemon(programs[1], join(place, "ours"), suite),
  ]);
  const daemons = started.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const failed = started.find((result) => result.status === "rejected");
  if (!failed) return daemons;
  await Promise.all(daemons.map((daemon) => daemon.stop()));
  throw failed.reason;
}

interface Result {
  readonly outcomes: readonly [original: Outcome, ours: Outcome];
  readonly found: readonly Difference[];
}

/** What differs is asked once more with more patience, since only the clock may have been at fault. */
async function compareExchange(pair: readonly Daemon[], exchange: Exchange): Promise<Result> {
  for (const thorough of [false, true]) {
    const [original, mine] = await Promise.all(pair.map((daemon) => daemon.ask(exchange, thorough)));
    if (!original || !mine) throw new Error("two daemons are needed");
    const found = differences(original, mine);
    if (found.length === 0 || thorough) return { outcomes: [original, mine], found };
  }
  throw new Error("unreachable");
}

function report({ name: suite }: Suite, { name }: Exchange, { outcomes, found }: Result): void {
  const [original = "", mine = ""] = outcomes.map(summary);
  const rule = intended.find((one) => fits(one.name, name) && fits(one.original, original) && fits(one.ours, mine));
  if (found.length === 0) {
    count.equal += 1;
    if (verbose) say(`= ${suite}: ${name}: ${original}`);
  } else if (rule) {
    count.intended += 1;
    if (verbose) say(`~ ${suite}: ${name}: ${original} | ours ${mine} | ${rule.reason}`);
  } else {
    count.different += 1;
    const what = found.map((one) => `${one.what}: ${one.original} | ours ${one.ours}`).join("; ");
    say(`! ${suite}: ${name}: ${what} (original: ${original} | ours: ${mine})`);
  }
}

function fits(pattern: string | RegExp | undefined, text: string): boolean {
  if (pattern === undefined) return true;
  return typeof pattern === "string" ? pattern === text : pattern.test(text);
}
