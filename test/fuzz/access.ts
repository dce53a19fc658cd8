// What decides who may do what, under fuzz: policy files, files of revocations, tokens.
import { caseNumbers, type Run } from "./cases.ts";
import { Findings, shrink, type Finding } from "./findings.ts";
import { judgePolicy, policyCase } from "./policy.ts";
import { Random } from "./random.ts";
import { judgeRevocations, revocationsCase } from "./revocations.ts";
import { createTokenJudge, tokenCase } from "./tokens.ts";
import { startWatchdog } from "./watchdog.ts";

export interface AccessResult {
  readonly findings: readonly Finding[];
  readonly cases: number;
  /** How many of the files were good. */
  readonly good: number;
  readonly slow: number;
  readonly slowest: { readonly ms: number; readonly number: number; readonly text: string };
}

/** A case should not take longer, in milliseconds of the processor; the second is when it counts as wrong. */
const slowMs = 200;
const hopelessMs = 5_000;
const endlessMs = 20_000;

export async function fuzzAccess(run: Run): Promise<AccessResult> {
  const { seed } = run;
  const findings = new Findings();
  const watchdog = startWatchdog(seed, endlessMs);
  const judgeToken = createTokenJudge();
  const before = Object.getOwnPropertyNames(Object.prototype).length;
  let [cases, good, slow] = [0, 0, 0];
  let slowest = { ms: 0, number: 0, text: "" };
  for (const number of caseNumbers(run)) {
    watchdog.beat(number);
    const began = process.cpuUsage();
    let ms = 0;
    // Only the reading is measured, and not what the judge does with what was read.
    const { what, text, judge } = accessCase(`${seed} access ${number}`, judgeToken, (isGood) => {
      ms = millisecondsSince(began);
      good += Number(isGood);
    });
    let wrong = await judge(text);
    if (ms > slowMs) slow += 1;
    if (ms > slowest.ms) slowest = { ms, number, text };
    if (ms > hopelessMs) wrong ??= `a ${what} of ${text.length} characters took ${Math.round(ms)} ms`;
    const polluted = Object.getOwnPropertyNames(Object.prototype).length !== before || "x" in {} || "polluted" in {};
    if (polluted) wrong ??= `a ${what} has changed the prototype of all objects`;
    cases += 1;
    if (wrong === undefined || !findings.isNew(wrong)) continue;
    const kind = wrong.slice(0, 30);
    const small = await shrink(text, async (shorter) => {
      watchdog.beat(number);
      return (await judge(shorter))?.startsWith(kind) ?? false;
    });
    findings.add({ what: (await judge(small)) ?? wrong, seed, where: `access ${number}`, bytes: small });
  }
  await watchdog.stop();
  return { findings: findings.all, cases, good, slow, slowest };
}

interface AccessCase {
  readonly what: "policy" | "file of revocations" | "token";
  readonly text: string;
  /** May be asked again, about a shorter text. */
  judge(text: string): Promise<string | undefined>;
}

function accessCase(
  seed: string,
  judgeToken: ReturnType<typeof createTokenJudge>,
  outcome: (isGood: boolean) => void,
): AccessCase {
  const random = new Random(seed);
  const questions = (): Random => new Random(`${seed} questions`);
  return random.oneOf<AccessCase>(
    () => ({
      what: "policy",
      text: policyCase(random),
      judge: (text) => judgePolicy(text, questions(), outcome),
    }),
    () => ({
      what: "policy",
      text: policyCase(random),
      judge: (text) => judgePolicy(text, questions(), outcome),
    }),
    () => ({
      what: "file of revocations",
      text: revocationsCase(random),
      judge: async (text) => judgeRevocations(text, questions(), outcome),
    }),
    () => {
      const { token, good } = tokenCase(random);
      // Of a shorter token nobody knows here whether it is good.
      return {
        what: "token",
        text: token,
        judge: async (text) => (text === token ? judgeToken({ token, good }) : undefined),
      };
    },
  );
}

function millisecondsSince(began: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(began);
  return (user + system) / 1_000;
}
