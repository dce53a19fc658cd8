// Sends the same requests to the original and to ours, and tells where the answers differ.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commandCases } from "./command-line-cases.ts";
import { runCase, type CommandCase, type Notes } from "./command-line.ts";
import { canFakePowercap, type Version } from "./daemon.ts";
import { differences, summary, type Compared } from "./difference.ts";
import type { Exchange } from "./exchange.ts";
import { ruleFor } from "./intended.ts";
import { startPair, type Pair, type Programs } from "./pair.ts";
import { createReport } from "./report.ts";
import { suites, type Suite } from "./suites.ts";

const [originals = "", ours = "", ...words] = process.argv.slice(2);
const wanted = words.filter((word) => !word.startsWith("--"));
const isWanted = (name: string): boolean => wanted.length === 0 || wanted.some((word) => name.includes(word));
const report = createReport(words.includes("--verbose"), (line) => process.stdout.write(`${line}\n`));

const folder = mkdtempSync(join(tmpdir(), "zeusd-compare-"));
process.once("exit", () => rmSync(folder, { recursive: true }));
const canMount = canFakePowercap();
for (const suite of suites.filter(({ name }) => isWanted(name))) {
  if (suite.cpus && !canMount) report.skip(suite.name, "/sys/class cannot be replaced here");
  else await compareSuite(suite);
}
for (const one of commandCases.filter((candidate) => isWanted(`command line: ${nameOf(candidate)}`))) {
  if (one.mounts && !canMount) report.skip(`command line: ${nameOf(one)}`, "nothing can be mounted here");
  else await compareCommand(one);
}
process.exitCode = report.end(wanted.length === 0) ? 0 : 1;

function programs(version: Version): Programs {
  return { original: [join(originals, version, "bin/zeusd")], ours: [process.execPath, ours] };
}

async function compareSuite(suite: Suite): Promise<void> {
  const pair = await startPair(programs(suite.version), folder, suite);
  try {
    for (const exchange of suite.exchanges) report.add(await compareExchange(pair, suite.name, exchange));
  } finally {
    await pair.stop();
  }
}

/** What differs is asked once more with more patience, since only the clock may have been at fault. */
async function compareExchange(pair: Pair, suite: string, exchange: Exchange): Promise<Compared> {
  for (const thorough of [false, true]) {
    const { original, ours: mine } = await pair.ask(exchange, thorough);
    const found = differences(original, mine);
    const compared = { suite, name: exchange.name, original: summary(original), ours: summary(mine), found };
    if (found.length === 0 || thorough || ruleFor(compared)) return compared;
  }
  throw new Error("unreachable");
}

function nameOf({ name, args }: CommandCase): string {
  return name ?? args.map((word) => word || "''").join(" ");
}

async function compareCommand(one: CommandCase): Promise<void> {
  const { version = "0.5.0" } = one;
  const place = mkdtempSync(join(folder, "command-"));
  const run = (which: "original" | "ours"): Promise<Notes> =>
    runCase(which, programs(version), one, join(place, which));
  const [original, mine] = await Promise.all([run("original"), run("ours")]);
  const differing = Object.keys(original).filter((what) => original[what] !== mine[what]);
  const found = differing.map((what) => ({ what, original: original[what] ?? "", ours: mine[what] ?? "" }));
  const shown = [original, mine].map((notes) => Object.values(notes).filter(Boolean).join(" | "));
  report.add({
    suite: `command line ${version}`,
    name: nameOf(one),
    original: shown[0] ?? "",
    ours: shown[1] ?? "",
    found,
  });
}
