// Help, version, and words that are no subcommand.
import { expect, it } from "vitest";
import { run, usageError, version } from "./subject.ts";

it.each(["-V", "--version"])("%s prints the version on stdout and starts nothing", async (flag) => {
  expect(await run([flag])).toEqual({ code: 0, stdout: `zeusd ${version}\n`, stderr: "" });
});

it.each(["-V", "--version"])("only the top level has a version: serve does not know %s", async (flag) => {
  expect(await run(["serve", flag])).toEqual(usageError());
});

it.each([
  ...[[[]], [["serve"]], [["run"]], [["lease"]], [["lease", "list"]], [["lease", "release"]]],
  ...[[["restore"]], [["token"]], [["token", "issue"]]],
])("%j has help on stdout, and ends with 0", async (head) => {
  for (const flag of ["-h", "--help"]) {
    const outcome = await run([...head, flag]);
    expect(outcome).toEqual({ code: 0, stdout: expect.stringContaining("Usage: zeusd"), stderr: "" });
  }
});

it.each([[[]], [["serve"]]])("%j says more on --help than on -h, and how to try it without a GPU", async (head) => {
  const [short, long] = [(await run([...head, "-h"])).stdout, (await run([...head, "--help"])).stdout];
  expect(long.length).toBeGreaterThan(short.length);
  for (const line of short.split("\n")) expect(long).toContain(line);
  expect(long).toContain("--sim 8xh100");
});

it("the help of both forms names the flags that it has, and no others", async () => {
  const plain = (await run(["-h"])).stdout;
  const serve = (await run(["serve", "-h"])).stdout;
  for (const flag of ["--mode", "--socket-path", "--enable", "--signing-key-path", "--sim", "--log-level"]) {
    expect(plain).toContain(`${flag} <`);
    expect(serve).toContain(`${flag} <`);
  }
  expect(plain).toContain("--allow-unprivileged");
  expect(serve).not.toContain("--allow-unprivileged");
  for (const word of ["serve", "run", "lease", "restore", "token", "policy"]) {
    expect(plain).toMatch(new RegExp(`^ +${word} `, "m"));
  }
});

it.each([
  [["help"], "Usage: zeusd "],
  [["help", "serve"], "Usage: zeusd serve"],
  [["help", "token"], "Usage: zeusd token"],
])("%j prints help on stdout, and ends with 0", async (argv, text) => {
  expect(await run(argv)).toEqual({ code: 0, stdout: expect.stringContaining(text), stderr: "" });
});

it("an unknown word is answered with those that there are", async () => {
  expect(await run(["bogus"])).toEqual(usageError(/there are serve, run, lease, restore, token, policy and help/));
});

it("token alone prints its help on stderr, and ends with 2", async () => {
  expect(await run(["token"])).toEqual(usageError(/Usage: zeusd token[^]*\bissue\b/));
});

it.each([
  [["bogus"]],
  [["Serve"]],
  [["serv"]],
  [["token", "bogus"]],
  [["token", "issue", "bogus"]],
  [["issue"]],
  [["lease", "bogus"]],
  [["release", "3"]],
  [["help", "bogus"]],
])("%j is no command", async (argv) => {
  expect(await run(argv)).toEqual(usageError());
});
