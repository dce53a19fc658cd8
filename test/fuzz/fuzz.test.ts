// A glimpse of the fuzz, which keeps it working; `npm run fuzz` is the real one.
import { join } from "node:path";
import { expect, it } from "vitest";
import { fuzz } from "./fuzz.ts";

it("a few seconds of anything do no harm", { timeout: 60_000 }, async () => {
  const said: string[] = [];
  const program = join(import.meta.dirname, "../../dist/zeusd.cjs");
  const findings = await fuzz({ seed: "1", seconds: 3, program, say: (line) => void said.push(line) });
  expect(findings).toEqual([]);
  expect(said.join("\n")).toMatch(/^seed 1, 3 s\naccess: \d{2,} cases [^]*\nhttp: \d{2,} cases [^]*\nnothing found$/);
});
