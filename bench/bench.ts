// Measures ours beside the original: bench.js ORIGINALS DAEMON [--rounds N] [--quick] [--write] [part of a row's name...]
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { figure, runLoad, startEcho } from "./programs.ts";
import { isMet, notesOf, pageOf, tableOf, type Echo } from "./report.ts";
import { accessWork } from "./rows-access.ts";
import { leaseWork } from "./rows-leases.ts";
import { contests } from "./rows.ts";
import { ownWork } from "./rows-own.ts";
import { median } from "./statistics.ts";
import type { Bench, Result, Row } from "./work.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string" },
    quick: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    "log-level": { type: "string", default: "info" },
    "ours-args": { type: "string", default: "" },
  },
});
const [originals = "", ours = "", ...parts] = positionals;
const { quick, "log-level": logLevel } = values;
const rounds = Number(values.rounds ?? (quick ? 3 : 7));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error("--rounds takes a whole number from 1 on");

const folder = mkdtempSync(join(tmpdir(), "zeusd-bench-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
let folders = 0;
function freshFolder(): string {
  folders += 1;
  return mkdtempSync(join(folder, `${folders}-`));
}

const oursArgs = values["ours-args"].split(/\s+/).filter(Boolean);
const bench: Bench = {
  programs: { originals, ours, oursArgs, logLevel },
  effort: { rounds, share: quick ? 0.5 : 1 },
  freshFolder,
};
const isWanted = ({ name }: Row): boolean => parts.length === 0 || parts.some((part) => name.includes(part));

const results: Result[] = [];
for (const work of [...contests, ...accessWork, ...leaseWork, ...ownWork].filter((one) => one.rows.some(isWanted))) {
  process.stderr.write(`${work.rows.map(({ name }) => name).join("; ")}\n`);
  const measured = (await work.measure(bench)).filter(isWanted);
  for (const result of measured) {
    process.stderr.write(`  ${result.ours.toPrecision(4)} ${result.unit}, ${isMet(result) ? "met" : "missed"}\n`);
  }
  results.push(...measured);
}
if (results.length === 0) throw new Error(`no row's name contains ${parts.join(" or ")}`);

const run = { results, rounds, quick, logLevel, oursArgs, echo: await measureEcho() };
process.stdout.write(`\n${tableOf(results)}\n\n${notesOf(run)}\n`);
if (values.write || parts.length === 0) writeFileSync("bench/RESULTS.md", pageOf(run));

/** What the load generator can do at all. */
async function measureEcho(): Promise<Echo> {
  const socket = join(freshFolder(), "echo.sock");
  const child = await startEcho(socket);
  const ask = async (connections: number, what: string): Promise<number> => {
    const options = { connections, "warm-up": 0.1, seconds: 0.4 };
    return figure(await runLoad(socket, { requests: ["POST /?gpu_ids={gpu}"], options }), what);
  };
  const p50s: number[] = [];
  const rates: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    p50s.push(await ask(1, "p50_us"));
    rates.push(await ask(16, "rps"));
  }
  child.kill();
  return { p50Us: median(p50s), requestsPerSecond: median(rates) };
}
