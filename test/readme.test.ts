// The README against the program: every flag and every operation stands there, and no other.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readPolicy } from "../src/access/policy-file.ts";
import { allOperations } from "../src/contract/operations.ts";
import { runCommandLine } from "../src/cli/parse.ts";

const readme = readFileSync(join(import.meta.dirname, "../README.md"), "utf8");

async function helpOf(words: readonly string[]): Promise<string> {
  let text = "";
  const nothing = async (): Promise<void> => {};
  const yes = async (): Promise<boolean> => true;
  const programs = {
    ...{ serve: nothing, restore: yes, run: async () => 0, listLeases: nothing, releaseLease: nothing },
    ...{ issueToken: nothing, checkPolicy: nothing, explainPolicy: yes },
  };
  await runCommandLine(words, { version: "1", env: {}, programs, stdout: (more) => (text += more), stderr: () => {} });
  return text;
}

const flagsOf = (text: string): ReadonlySet<string> => new Set(text.match(/--[a-z]+(-[a-z]+)*/g));

it("lists the flags of the daemon that its help lists", async () => {
  const [, section = ""] = readme.split("## Flags of the daemon");
  const [table = ""] = section.split("\n## ");
  const listed = new Set([...flagsOf(table)].filter((flag) => flag !== "--help"));
  const helped = new Set(
    [...flagsOf(await helpOf(["-h"]))].filter(
      (flag) => !["--help", "--version", "--gpu-command-overrides"].includes(flag),
    ),
  );
  expect(listed).toEqual(helped);
});

it("names every operation of the query wire", () => {
  for (const { name, query } of allOperations) if (query) expect(readme).toContain(name);
});

it("shows policies that can be read, here and on their own page", async () => {
  const page = readFileSync(join(import.meta.dirname, "../docs/policy.md"), "utf8");
  const examples = [...page.matchAll(/```toml\n(.*?)```/gs), ...readme.matchAll(/<<'END'\n(.*?)\nEND/gs)];
  expect(examples).toHaveLength(2);
  const names = { user: async () => ({ uid: 1000 }), group: async () => 1000 };
  for (const [, text = ""] of examples) expect((await readPolicy(text, names)).rules.length).toBeGreaterThan(0);
});
