// The daemon under fuzz: clients that send anything, one after another, to daemons of four kinds.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { caseNumbers, type Run } from "./cases.ts";
import { Findings, shown, shrink, type Finding } from "./findings.ts";
import { Judge } from "./http-case.ts";
import { startDaemons, type Daemon } from "./http-daemon.ts";
import { streamOf, type Stream } from "./http-grammar.ts";
import { Random } from "./random.ts";

export interface HttpRun extends Run {
  /** The built daemon. */
  readonly program: string;
}

export interface HttpResult {
  readonly findings: readonly Finding[];
  readonly cases: number;
  /** Of the requests that a strict reader sees, and of the replies, by their status. */
  readonly requests: number;
  readonly statuses: Readonly<Record<number, number>>;
  readonly writes: number;
  /** Of these, those that put something back. */
  readonly putBack: number;
  /** By how much each daemon has grown since it was warm, in MB. */
  readonly growth: Readonly<Record<string, number>>;
}

/** A daemon is warm after so many cases, and may grow by so much after that. */
const warmCases = 2_000;
const mostGrowthMegabytes = 50;

export async function fuzzHttp({ program, ...run }: HttpRun): Promise<HttpResult> {
  const { seed } = run;
  const folder = mkdtempSync(join(tmpdir(), "zeusd-fuzz-"));
  const findings = new Findings();
  const statuses: Record<number, number> = {};
  const growth: Record<string, number> = {};
  let [cases, requests, writes] = [0, 0, 0];
  const daemons = await startDaemons(program, folder);
  const warm = new Map<Daemon, number>();
  const descriptors = new Map(daemons.map((daemon) => [daemon, daemon.descriptors().length]));
  const judge = new Judge();
  const find = (what: string, where: string, stream?: Stream): void => {
    const note = stream && `cuts ${JSON.stringify(stream.cuts)}, ending ${stream.ending}`;
    findings.add({ what, seed, where, bytes: stream?.bytes ?? "", ...(note === undefined ? {} : { note }) });
  };
  try {
    for (const number of caseNumbers(run)) {
      const daemon = daemons[number % daemons.length];
      if (!daemon?.isAlive()) break;
      const stream = streamOf(new Random(`${seed} http ${number}`), daemon.authorizations);
      const outcome = await judge.run(daemon, stream);
      cases += 1;
      requests += outcome.requests;
      writes += outcome.writes;
      for (const status of outcome.replies) statuses[status] = (statuses[status] ?? 0) + 1;
      if (number === warmCases) for (const each of daemons) warm.set(each, each.residentMegabytes());
      if (outcome.wrong !== undefined && findings.isNew(outcome.wrong)) {
        const where = `http ${number} (${daemon.name})`;
        find(outcome.wrong, where, await smaller(judge, daemon, stream, outcome.wrong));
      }
    }
    await Promise.all(
      daemons.map(async (daemon) => {
        // A lease holds on to its holder.
        if (daemon.isAlive()) await daemon.releaseLeases();
        const before = descriptors.get(daemon) ?? 0;
        if (daemon.isAlive() && !(await settles(() => daemon.descriptors().length <= before))) {
          find(`${daemon.descriptors().length} descriptors are open where ${before} were`, `http, ${daemon.name}`);
        }
        const atFirst = warm.get(daemon);
        if (daemon.isAlive() && atFirst !== undefined) {
          const grown = (growth[daemon.name] = Math.round(daemon.residentMegabytes() - atFirst));
          if (grown > mostGrowthMegabytes) find(`the daemon has grown by ${grown} MB`, `http, ${daemon.name}`);
        }
        const end = await daemon.stop();
        if (end !== "exit code 0") find(`the daemon ended with ${end}`, `http, ${daemon.name}`);
        const trouble = daemon.newTrouble() ?? daemon.auditTrouble();
        if (trouble !== undefined) find(trouble, `http, ${daemon.name}`);
      }),
    );
  } finally {
    await Promise.all(daemons.map((daemon) => daemon.stop()));
    rmSync(folder, { recursive: true, force: true });
  }
  return { findings: findings.all, cases, requests, statuses, writes, putBack: judge.putBack, growth };
}

/** Fewer bytes, in one segment, that are still wrong in the same way; the whole case if there are none. */
async function smaller(judge: Judge, daemon: Daemon, stream: Stream, wrong: string): Promise<Stream> {
  const fails = async (shorter: Stream): Promise<boolean> => {
    if (!daemon.isAlive()) return false;
    const again = await judge.run(daemon, shorter);
    return again.wrong?.slice(0, 25) === wrong.slice(0, 25);
  };
  const uncut = { ...stream, cuts: [] };
  if (!(await fails(uncut))) {
    process.stderr.write(`Only as it was cut, or not always: ${wrong}\n${shown(stream.bytes)}\n`);
    return stream;
  }
  return { ...uncut, bytes: await shrink(stream.bytes, (bytes) => fails({ ...uncut, bytes })) };
}

/**
 * Looks again and again, for at most 40 s, until it is so. A stream whose client also sent a body that nobody reads learns by
 * its next event or heartbeat, every 15 s, that the client has gone; over TCP by the second.
 */
async function settles(isSo: () => boolean): Promise<boolean> {
  for (let count = 0; count < 800; count += 1) {
    if (isSo()) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return isSo();
}
