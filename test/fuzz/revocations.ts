// The file of revoked tokens under fuzz: what comes out revokes what the file says, or an Error names the line that is wrong.
import { createHash } from "node:crypto";
import { parseRevocations, type Revocations } from "../../src/access/revocations.ts";
import type { Claims } from "../../src/access/token.ts";
import { mutate, mutateTokens } from "./mutate.ts";
import type { Random } from "./random.ts";

const ids = ["a1", "b2", "__proto__", "constructor", "0", "ü", "x".repeat(300)];
const names = ["alice", "bob b", "toString", "before", "before before", "a#b", "zoë", "__proto__"];
const times = ["2026-11-24T12:00:00Z", "1970-01-01T00:00:00Z", "2026-02-28T23:59:59.5Z", "9999-12-31T23:59:59Z"];
const tokens = ["a.b.c", "x", ""];
const token = /[\w:.-]+|[ \t]+|\r?\n|[^]/g;

export function revocationsCase(random: Random): string {
  const lines = random.times(random.below(8), () => lineOf(random));
  const text = lines.map((line) => line + random.pick(["\n", "\n", "\r\n"])).join("");
  return random.oneOf(
    () => text,
    () => text.trimEnd(),
    () => mutateTokens(random, text, token, random.between(1, 4)),
    () => mutate(random, text, random.between(1, 4)),
    () => (random.chance(0.05) ? heavy(random) : text),
  );
}

function lineOf(random: Random): string {
  const blank = random.pick([" ", " ", "\t", "  "]);
  return random.oneOf(
    () => `jti${blank}${random.pick(ids)}`,
    () => `sha256${blank}${digestOf(random.pick(tokens))}`,
    () => `sub${blank}${random.pick(names)}`,
    () => `sub${blank}${random.pick(names)}${blank}before${blank}${random.pick(times)}`,
    () => random.pick(["", "# a comment", "   ", "\t# another", "#"]),
  );
}

function heavy(random: Random): string {
  const count = random.pick([1_000, 20_000]);
  return random.oneOf(
    () => `sub ${" before".repeat(count)}\n`,
    () => `sub ${" ".repeat(count)}x\n`,
    () => `jti eyJ${"a.".repeat(count)}\n`,
    () => random.times(count, (index) => `jti ${index}\n`).join(""),
    () => `sub a before ${"9".repeat(count)}\n`,
    () => `sub a before 2026-11-24T12:00:00.${"0".repeat(count)}Z\n`,
    () => `sub ${"#".repeat(count)} before\n`,
  );
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

export function judgeRevocations(
  text: string,
  random: Random,
  outcome: (isGood: boolean) => void = () => {},
): string | undefined {
  let revocations: Revocations;
  try {
    revocations = parseRevocations(text);
  } catch (error) {
    outcome(false);
    const [, line] = /^line (\d+): ./.exec(error instanceof Error ? error.message : "") ?? [];
    const isThere = Number(line) >= 1 && Number(line) <= text.split("\n").length;
    return isThere ? undefined : `a file of revocations threw ${String(error)}`;
  }
  outcome(true);
  for (let count = 0; count < 6; count += 1) {
    const claims = claimsOf(random);
    const of = random.pick(tokens);
    try {
      if (revocations.includes(of, claims) === plainAnswer(text, of, claims)) continue;
      return `revocations say otherwise than their file about token "${of}" of ${JSON.stringify(claims)}`;
    } catch (error) {
      return `revocations threw ${String(error)} about ${JSON.stringify(claims)}`;
    }
  }
  return undefined;
}

function claimsOf(random: Random): Claims {
  return {
    sub: random.pick(names),
    scopes: [],
    ...(random.chance(0.6) ? { jti: random.pick(ids) } : {}),
    ...(random.chance(0.6)
      ? { iat: random.pick([0, 1, 1_772_323_199, 1_772_323_200, 1_795_521_600, 253_402_300_799]) }
      : {}),
  };
}

/** Reads the file anew for each question, word by word. */
function plainAnswer(text: string, of: string, { sub, iat, jti }: Claims): boolean {
  return text.split("\n").some((line) => {
    const [kind, ...words] = line.split(/\s+/).filter((word) => word !== "");
    if (kind === "jti") return words[0] === jti;
    if (kind === "sha256") return words[0]?.toLowerCase() === digestOf(of);
    if (kind !== "sub") return false;
    const at = words.map((word) => word.toLowerCase()).lastIndexOf("before");
    // Blanks within a name are kept as they are.
    const name = line.trim().slice(3).trim();
    if (at < 0) return name === sub;
    const bare = name
      .slice(0, name.length - (words.at(-1) ?? "").length)
      .trim()
      .slice(0, -"before".length)
      .trim();
    return bare === sub && (iat === undefined || iat * 1_000 < Date.parse(words.at(-1) ?? ""));
  });
}
