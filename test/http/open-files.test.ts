// How many connections fit the limit on open files.
import { expect, it } from "vitest";
import { fitting } from "../../src/http/open-files.ts";
import { createQuietLog } from "../quiet-log.ts";

const limits = (soft: string): string =>
  `Limit  Soft Limit  Hard Limit  Units\nMax open files            ${soft}                 4096                 files\n`;

it.each([
  ["1024", 500, 500],
  ["1024", 896, 896],
  ["1024", 4096, 896],
  ["64", 4096, 1],
  ["unlimited", 4096, 4096],
])("of a limit of %s, where %i are wanted, %i are served", (soft, wanted, served) => {
  const log = createQuietLog();
  expect(fitting(wanted, limits(soft), log)).toBe(served);
  expect(log.lines.filter((line) => line.startsWith("warn"))).toHaveLength(served < wanted ? 1 : 0);
});

it("where the limit cannot be read, all are served that are wanted", () => {
  expect(fitting(4096, "", createQuietLog())).toBe(4096);
});
