// Who may import whom: the table of the architecture page, read from the imports themselves.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { expect, it } from "vitest";

/** The rows of the page's table: `| \`devices/\` | … | \`contract\` |`. */
const page = readFileSync(join(import.meta.dirname, "../docs/architecture.md"), "utf8");
const folders: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  [...page.matchAll(/^\| `(\w+)\/` \|.*\| ([^|]+) \|$/gm)].map(([, folder = "", may = ""]) => [
    folder,
    [...may.matchAll(/`(\w+)`/g)].map(([, name = ""]) => name),
  ]),
);

/** Who alone may touch what lies outside. */
const outside: Readonly<Record<string, readonly string[]>> = {
  koffi: ["native"],
  jose: ["access"],
  pino: ["telemetry"],
  commander: ["cli"],
  "toml-eslint-parser": ["access"],
  "node:http": ["http", "client"],
  "node:child_process": ["native", "cli"],
  "node:net": ["http"],
};

const root = join(import.meta.dirname, "../src");
const names = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
const files = names.map((file) => ({
  file,
  folder: file.includes("/") ? (file.split("/")[0] ?? "") : undefined,
  text: readFileSync(join(root, file), "utf8"),
}));

function importsOf(text: string): readonly string[] {
  return [...text.matchAll(/\bfrom "([^"]+)"|\bimport\("([^"]+)"\)/g)].map(([, one, other]) => one ?? other ?? "");
}

const all = files.flatMap(({ file, folder, text }) => importsOf(text).map((name) => ({ file, folder, name })));

it("finds the files that it judges", () => {
  expect(new Set(files.flatMap(({ folder }) => folder ?? []))).toEqual(new Set(Object.keys(folders)));
  expect(all.length).toBeGreaterThan(100);
});

it("lets each folder import only what stands beside it in the table", () => {
  const wrong = all.filter(({ file, folder, name }) => {
    if (folder === undefined || !name.startsWith(".")) return false;
    const [target = ""] = relative(root, join(root, dirname(file), name)).split("/");
    return target !== folder && !folders[folder]?.includes(target);
  });
  expect(wrong).toEqual([]);
});

it("lets only one folder touch each thing outside", () => {
  const wrong = all.filter(({ folder, name }) => outside[name] && !outside[name].includes(folder ?? ""));
  expect(wrong).toEqual([]);
  expect(
    files.filter(({ folder, text }) => folder && folder !== "cli" && /process\.(stdout|exitCode)/.test(text)),
  ).toEqual([]);
});

it("has no file without a first line that says what it is for", () => {
  expect(files.filter(({ text }) => !text.startsWith("// ")).map(({ file }) => file)).toEqual([]);
});

it("keeps no state in modules", () => {
  expect(files.filter(({ text }) => /^(export )?let /m.test(text)).map(({ file }) => file)).toEqual([]);
});
