// The fuzz: npm run fuzz -- [--seed TEXT] [--seconds N] [--part http|access] [--case N]
// It throws at the daemon, and at what reads its policy, whatever chance makes of their grammars. The same seed makes the same
// cases; how many of them fit into the time differs.
import { randomInt } from "node:crypto";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fuzzAccess } from "./access.ts";
import { describeFinding, shown, type Finding } from "./findings.ts";
import { fuzzHttp } from "./http.ts";

export interface FuzzOptions {
  readonly seed: string;
  readonly seconds: number;
  /** The built daemon. */
  readonly program: string;
  readonly part?: string | undefined;
  /** Runs the case of this number alone, as a finding names it. */
  readonly only?: number | undefined;
  readonly say: (line: string) => void;
}

/** Of the time, the part that what reads files gets. */
const accessShare = 0.3;

export async function fuzz({ seed, seconds, program, part, only, say }: FuzzOptions): Promise<readonly Finding[]> {
  say(`seed ${seed}, ${seconds} s`);
  const began = performance.now();
  const findings: Finding[] = [];
  const endMs = began + seconds * 1000;
  if (part !== "http") {
    const run = await fuzzAccess({
      seed,
      only,
      untilMs: part === "access" ? endMs : began + seconds * 1000 * accessShare,
    });
    const { cases, good, slow, slowest } = run;
    findings.push(...run.findings);
    say(`access: ${cases} cases (${rate(cases, began)}), ${good} good files, ${slow} slow ones`);
    say(
      `  the slowest took ${Math.round(slowest.ms)} ms: case ${slowest.number}, ${shown(slowest.text.slice(0, 200))}`,
    );
  }
  if (part !== "access") {
    const httpBegan = performance.now();
    const run = await fuzzHttp({ seed, only, program, untilMs: endMs });
    findings.push(...run.findings);
    say(
      `http: ${run.cases} cases (${rate(run.cases, httpBegan)}), ${run.requests} proper requests, ${run.writes} writes, of which ${run.putBack} put back`,
    );
    say(`  replies by status ${JSON.stringify(run.statuses)}, growth in MB ${JSON.stringify(run.growth)}`);
  }
  for (const finding of findings) say(describeFinding(finding));
  say(findings.length === 0 ? "nothing found" : `${findings.length} found`);
  return findings;
}

function rate(cases: number, beganMs: number): string {
  return `${Math.round((cases * 1000) / (performance.now() - beganMs))} a second`;
}

async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { seed: text, seconds: text, part: text, case: text, program: text } });
  const findings = await fuzz({
    seed: values.seed ?? String(randomInt(2 ** 32)),
    seconds: Number(values.seconds ?? 60),
    program: values.program ?? join(import.meta.dirname, "../../dist/zeusd.cjs"),
    part: values.part,
    only: values.case === undefined ? undefined : Number(values.case),
    say: (line) => void process.stdout.write(`${line}\n`),
  });
  process.exit(findings.length === 0 ? 0 : 1);
}

if (process.argv[1] === import.meta.filename) await main();
