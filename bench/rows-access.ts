// What it costs to know who asks: a token, a policy with an audit.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ours, withDaemons } from "./own.ts";
import { measurePaired } from "./paired.ts";
import { figure } from "./programs.ts";
import { load, setLimit, slow } from "./rows.ts";
import { median, quotients } from "./statistics.ts";
import type { Bench, Result, Row, Work } from "./work.ts";

const token = ours("with a token: more time per request, p50", "µs", 10);
const policy = ours("with a policy and an audit: more time per request, p50", "µs", 15);
const backToBack: Row = {
  name: "with a policy and an audit, 1 connection, 1 ms a call: writes per second, by those without",
  unit: "requests/s",
  target: { of: "ratio", is: "at least", value: 0.95 },
};

async function measureToken(bench: Bench): Promise<readonly Result[]> {
  const key = join(bench.freshFolder(), "key");
  writeFileSync(key, randomBytes(32), { mode: 0o600 });
  const issue = ["token", "issue", "--signing-key-path", key, "--user", "bench", "--scope", "gpu-control"];
  const words = [bench.programs.ours, ...issue, "--expires", "1d"];
  const said = execFileSync(process.execPath, words, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const header = `authorization: Bearer ${said.trim()}`;
  return [await measurePaired(bench, token, () => ["--signing-key-path", key], { header })];
}

/** Rules of which the last one decides, with everything that a rule can have. */
const rules = `
${Array.from({ length: 8 }, (_, index) => `[[rule]]\nname = "others ${index}"\nuids = [${10_000 + index}]\nallow = ["gpu-read"]\n`).join("")}
[[rule]]
name = "bench"
uids = [${process.geteuid?.() ?? 0}]
allow = ["gpu-control", "gpu-read"]
gpus = [0, 1, 2, 3, 4, 5, 6, 7]
rate = { writes_per_second = 1_000_000, burst = 1_000_000 }
[[rule.bounds]]
models = ["A *", "B *", "*"]
power_limit_mw = { min = 100_000, max = 500_000 }
`;

/** Fresh files for each daemon. */
function policyArgs(bench: Bench): readonly string[] {
  const folder = bench.freshFolder();
  const file = join(folder, "policy.toml");
  writeFileSync(file, rules, { mode: 0o644 });
  return ["--policy", file, "--audit-log", join(folder, "audit")];
}

async function measurePolicy(bench: Bench): Promise<readonly Result[]> {
  return [await measurePaired(bench, policy, () => policyArgs(bench))];
}

/** A reading between two writes would take as long as one of them. */
async function measureBackToBack(bench: Bench): Promise<readonly Result[]> {
  const env = slow(1);
  const rates = { without: [] as number[], audited: [] as number[] };
  await withDaemons(bench, [{ env }, { env, args: policyArgs(bench) }], async ([without, audited]) => {
    if (!without || !audited) throw new Error("two daemons are needed");
    for (const daemon of [without, audited]) daemon.pause();
    for (let round = 0; round < bench.effort.rounds; round += 1) {
      for (const which of round % 2 === 0 ? (["without", "audited"] as const) : (["audited", "without"] as const)) {
        const daemon = which === "without" ? without : audited;
        daemon.resume();
        rates[which].push(figure(await load(daemon, bench.effort, [setLimit("0", true)]), "rps"));
        daemon.pause();
      }
    }
  });
  const ratio = median(rates.audited) / median(rates.without);
  const note = `without: ${median(rates.without).toFixed(0)} requests/s`;
  return [{ ...backToBack, ours: median(rates.audited), ratio, rounds: quotients(rates.audited, rates.without), note }];
}

export const accessWork: readonly Work[] = [
  { rows: [token], measure: measureToken },
  { rows: [policy], measure: measurePolicy },
  { rows: [backToBack], measure: measureBackToBack },
];
