// The command line of `zeusd run`: what is for zeusd, and what is the program's.
import { describe, expect, it } from "vitest";
import type { RunFlags } from "../../src/cli/run-options.ts";
import { run, usageError } from "./subject.ts";

interface Started {
  readonly code: number;
  readonly flags?: RunFlags;
  readonly words?: readonly string[];
}

async function started(...argv: readonly string[]): Promise<Started> {
  const seen: { flags?: RunFlags; words?: readonly string[] } = {};
  const { code } = await run(["run", ...argv], {
    programs: () => ({
      async run(flags, words) {
        Object.assign(seen, { flags, words });
        return 42;
      },
    }),
  });
  return { code, ...seen };
}

it("ends with the exit code of the program", async () => {
  expect(await started("python")).toEqual({ code: 42, flags: {}, words: ["python"] });
});

it.each([
  [
    ["python", "train.py"],
    ["python", "train.py"],
  ],
  [
    ["python", "train.py", "--lr", "1", "-x"],
    ["python", "train.py", "--lr", "1", "-x"],
  ],
  [
    ["--", "python", "--lr", "1"],
    ["python", "--lr", "1"],
  ],
  [
    ["--exclusive", "python", "--exclusive"],
    ["python", "--exclusive"],
  ],
  [
    ["--exclusive", "--", "python", "--gpu", "7"],
    ["python", "--gpu", "7"],
  ],
  [
    ["python", "--help"],
    ["python", "--help"],
  ],
  [
    ["python", "-V", "--version"],
    ["python", "-V", "--version"],
  ],
  [
    ["env", "--", "A=1", "--", "x"],
    ["env", "--", "A=1", "--", "x"],
  ],
  [
    ["--", "env", "--", "A=1"],
    ["env", "--", "A=1"],
  ],
  [
    ["run", "serve"],
    ["run", "serve"],
  ],
  [
    ["sh", "-c", "", " ", "\n", "--reason=x"],
    ["sh", "-c", "", " ", "\n", "--reason=x"],
  ],
])("%j runs %j, untouched", async (argv, words) => {
  expect((await started(...argv)).words).toEqual(words);
});

it.each([
  [["--gpu", "0,1"], { gpu: "0,1" }],
  [["--gpu", "GPU-1f0c,0000:41:00.0"], { gpu: "GPU-1f0c,0000:41:00.0" }],
  [["--power-limit", "250W"], { powerLimit: 250_000 }],
  [["--power-limit=250.5W"], { powerLimit: 250_500 }],
  [["--gpu-clocks", "1200-1500MHz"], { gpuClocks: { min_clock_mhz: 1200, max_clock_mhz: 1500 } }],
  [["--memory-clocks", "1593MHz"], { memoryClocks: { min_clock_mhz: 1593, max_clock_mhz: 1593 } }],
  [["--persistence-mode", "on"], { persistenceMode: "on" }],
  [["--exclusive", "--reason", "a run"], { exclusive: true, reason: "a run" }],
  [["--socket-path", "/tmp/z"], { socketPath: "/tmp/z" }],
  [["--host-port", "node7:4938"], { hostPort: "node7:4938" }],
])("%j are understood, before the program with or without dashes between", async (argv, flags) => {
  expect(await started(...argv, "python", "-x")).toEqual({ code: 42, flags, words: ["python", "-x"] });
  expect(await started(...argv, "--", "python", "-x")).toEqual({ code: 42, flags, words: ["python", "-x"] });
});

describe("a usage error ends with 2, and starts nothing:", () => {
  it.each([
    [[], /program/],
    [["--"], /program/],
    [["--exclusive"], /program/],
    [["--power-limit", "250", "python"], /write 250W/],
    [["--gpu-clocks", "1400", "python"], /write 1400MHz/],
    [["--gpu", "", "python"], /--gpu/],
    [["--gpu", "0,,1", "python"], /--gpu/],
    [["--gpu", "0 1", "python"], /--gpu/],
    [["--persistence-mode", "yes", "python"], /on, off/],
    [["--exclusive", "--exclusive", "python"], /cannot be used twice/],
    [["--reason", "--exclusive", "python"], /begins with a dash/],
    [["--bogus", "python"], /--bogus/],
    [["--socket-path", "/tmp/z", "--host-port", "a:1", "python"], /cannot be used with/],
  ])("%j", async (argv, text) => {
    expect(await run(["run", ...argv])).toEqual(usageError(text));
  });
});

it("options of the daemon are none of zeusd run, and not taken before it", async () => {
  expect(await run(["run", "--sim", "8xh100", "python"])).toEqual(usageError(/--sim/));
  expect(await run(["--sim", "8xh100", "run", "python"])).toEqual(usageError(/unexpected option/));
});
