// Tells what differs, and counts.
import type { Compared, Intended } from "./difference.ts";
import { intended, ruleFor } from "./intended.ts";

export interface Report {
  add(compared: Compared): void;
  skip(what: string, reason: string): void;
  /** Prints the counts, and whether all is as it should be. After a whole run, rules that nothing needed are told. */
  end(whole: boolean): boolean;
}

export function createReport(verbose: boolean, say: (line: string) => void): Report {
  const count = { equal: 0, intended: 0, different: 0 };
  const used = new Set<Intended>();
  const show = (line: string): void => say(line.replaceAll("\n", "\\n"));
  return {
    add(compared) {
      const { suite, name, original, ours, found } = compared;
      const rule = found.length > 0 ? ruleFor(compared) : undefined;
      if (found.length === 0) {
        count.equal += 1;
        if (verbose) show(`= ${suite}: ${name}: ${original}`);
      } else if (rule) {
        used.add(rule);
        count.intended += 1;
        if (verbose) show(`~ ${suite}: ${name}: ${original} | ours ${ours} | ${rule.reason}`);
      } else {
        count.different += 1;
        const what = found.map((one) => `${one.what} ${clip(one.original)} | ours ${clip(one.ours)}`);
        show(`! ${suite}: ${name}: ${what.join("; ")}${verbose ? ` (${original} | ours ${ours})` : ""}`);
      }
    },
    skip: (what, reason) => show(`- ${what}: skipped, since ${reason}`),
    end(whole) {
      for (const { reason } of whole ? intended.filter((rule) => !rule.sometimes && !used.has(rule)) : [])
        show(`? no longer needed: ${reason}`);
      show(`${count.equal} equal, ${count.intended} intended, ${count.different} different`);
      return count.different === 0;
    },
  };
}

const clip = (text: string): string => (text.length > 250 ? `${text.slice(0, 250)}…` : text);
