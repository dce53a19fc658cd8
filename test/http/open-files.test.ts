// How many connections fit the limit on open files.
import { expect, it } from "vitest";
import { fitting } from "../../src/http/open-files.ts";
import { createQuietLog } from "../quiet-log.ts";

const limits = (soft: string): string =>
  `Limit  Soft Limit  Hard Limit  Units\nMax open files            ${soft}                 4096                 files\n`;

it.each([
  ["1024", 500, 1, 500],
  ["1024", 896, 1, 896],
  ["1024", 4096, 1, 896],
  ["1024", 4096, 2, 448],
  ["64", 4096, 1, 1],
  ["unlimited", 4096, 2, 4096],
])("of a limit of %s, where %i are wanted with %i files each, %i are served", (soft, wanted, each, served) => {
  const log = createQuietLog();
  expect(fitting(wanted, each, limits(soft), log)).toBe(served);
  expect(log.lines.filter((line) => line.startsWith("warn"))).toHaveLength(served < wanted ? 1 : 0);
});

it("where the limit cannot be read, all are served that are wanted", () => {
  expect(fitting(4096, 1, "", createQuietLog())).toBe(4096);
});
