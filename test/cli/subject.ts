// The command line in process: what it prints, how it ends, and what it would start.
import { expect } from "vitest";
import type { Config } from "../../src/contract/config.ts";
import { runCommandLine, type CliParts } from "../../src/cli/parse.ts";

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The daemon's configuration, where a daemon would start. */
  readonly config?: Config;
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** What runs instead of only being noted. */
  readonly programs?: (stdout: (text: string) => void) => Partial<CliParts["programs"]>;
}

export const version = "1.2.3";

/** Runs a command line, without the word `zeusd`. */
export async function run(argv: readonly string[], { env = {}, programs }: RunOptions = {}): Promise<Outcome> {
  const printed = { stdout: "", stderr: "" };
  const started: { config?: Config } = {};
  const stdout = (text: string): void => void (printed.stdout += text);
  const code = await runCommandLine(argv, {
    version,
    env,
    stdout,
    stderr: (text) => (printed.stderr += text),
    programs: {
      async serve(config) {
        started.config = config;
      },
      restore: async () => true,
      async issueToken() {},
      async checkPolicy() {},
      explainPolicy: async () => true,
      async listLeases() {},
      async releaseLease() {},
      run: async () => 0,
      ...programs?.(stdout),
    },
  });
  return { code, ...printed, ...started };
}

/** The configuration that a command line makes. */
export async function configOf(argv: readonly string[], options: RunOptions = {}): Promise<Config> {
  const { config, code, stderr } = await run(argv, options);
  if (!config) throw new Error(`zeusd ${argv.join(" ")} starts no daemon; it ends with ${code}: ${stderr}`);
  return config;
}

/** The outcome of a line that is no proper one: it says so on stderr, and starts nothing. */
export function usageError(text = /\S/): Outcome {
  return { code: 2, stdout: "", stderr: expect.stringMatching(text) };
}
