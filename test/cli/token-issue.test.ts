// `zeusd token issue`: tokens that any daemon of 0.4 and later takes, and what is said about them.
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { issue } from "../../src/cli/token.ts";
import { systemClock } from "../../src/contract/clock.ts";
import { apiGroups } from "../../src/contract/operations.ts";
import { rights } from "../../src/contract/rights.ts";
import { createFolder } from "../folder.ts";
import { run, usageError, type Outcome } from "./subject.ts";

const key = "0123456789abcdef0123456789abcde\n";
const now_ms = 1_700_000_000_900;
const now_s = 1_700_000_000;

function createKey(text = key): string {
  const path = join(createFolder(), "key");
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

/** Issues at a fixed moment, and prints as main.ts does. */
async function issueWith(argv: readonly string[], path = createKey()): Promise<Outcome> {
  const quiet = { debug() {}, info() {}, warn() {}, error() {} };
  const notes: string[] = [];
  const outcome = await run(["token", "issue", "--signing-key-path", path, ...argv], {
    programs: (stdout) => ({
      async issueToken(flags) {
        const { token, note } = await issue(flags, { ...systemClock, epochMs: () => now_ms }, quiet);
        stdout(`${token}\n`);
        notes.push(`${note}\n`);
      },
    }),
  });
  return { ...outcome, stderr: outcome.stderr + notes.join("") };
}

interface Parts {
  readonly header: string;
  /** Without when it was issued and its id, which must be there, and in the note on stderr. */
  readonly claims: string;
  readonly jti: string;
}

/** What a token says, as text. Its signature must be right. */
async function issued(...argv: readonly string[]): Promise<Parts> {
  const { code, stdout, stderr } = await issueWith(argv);
  expect(code).toBe(0);
  const [, signed = "", signature = ""] = /^([\w-]+\.[\w-]+)\.([\w-]+)\n$/.exec(stdout) ?? [];
  expect(signature).toBe(createHmac("sha256", key).update(signed).digest("base64url"));
  const [header = "", claims = ""] = signed.split(".").map((part) => Buffer.from(part, "base64url").toString("utf8"));
  const [own = "", jti = ""] = new RegExp(`,"iat":${now_s},"jti":"([0-9a-f]{32})"}$`).exec(claims) ?? [];
  expect(stderr).toBe(`To revoke this token, write the line 'jti ${jti}' to the daemon's --revoked-tokens file.\n`);
  return { header, claims: `${claims.slice(0, -own.length)}}`, jti };
}

async function expiryOf(expires: string): Promise<unknown> {
  const { claims } = await issued("--user", "me", `--expires=${expires}`);
  return (JSON.parse(claims) as { readonly exp?: number }).exp;
}

it("prints a token with the header and the claims of the original, in its order, before its time of issue and its id", async () => {
  expect(await issued("--user", "me", "--scope", "gpu-read,cpu-read", "--expires", "1h")).toMatchObject({
    header: '{"typ":"JWT","alg":"HS256"}',
    claims: `{"sub":"me","scopes":["gpu-read","cpu-read"],"exp":${now_s + 3600}}`,
  });
});

it("leaves exp out of a token that never expires", async () => {
  expect((await issued("--user", "me", "--scope", "gpu-read", "--expires", "never")).claims).toBe(
    '{"sub":"me","scopes":["gpu-read"]}',
  );
});

it("gives each token an id of its own", async () => {
  const ids = await Promise.all(
    Array.from({ length: 20 }, async () => (await issued("--user", "me", "--expires", "never")).jti),
  );
  expect(new Set(ids).size).toBe(20);
});

it("takes every API group and every operation for a scope, alone and in a list", async () => {
  const names = [...rights.keys()];
  expect(names).toEqual(expect.arrayContaining([...apiGroups, "set_power_limit", "gpu/get_power", "cpu/get_power"]));
  const scopesOf = async (...argv: readonly string[]): Promise<unknown> =>
    (JSON.parse((await issued("--user", "me", "--expires", "never", ...argv)).claims) as { scopes: unknown }).scopes;
  for (const name of names) expect(await scopesOf("--scope", name)).toEqual([name]);
  expect(await scopesOf("--scope", names.join(","))).toEqual(names);
  expect(await scopesOf("--scope", "set_power_limit,gpu/get_power", "--scope=cpu-read")).toEqual([
    "set_power_limit",
    "gpu/get_power",
    "cpu-read",
  ]);
});

it.each(["gpu-write", "GPU-READ", "", "get_power ", "gpu/get_powers", "gpu/gpu-read", "/get_power", "toString"])(
  "says of the scope %j that it is none, and which there are, in one sentence that can be read",
  async (name) => {
    const outcome = await issueWith(["--user", "me", "--expires", "1h", `--scope=gpu-read,${name}`]);
    expect(outcome).toEqual(usageError(/^error: [^\n]{1,320}\n$/));
    expect(outcome.stderr).toContain(`'${name}' is no scope`);
    for (const allowed of [...apiGroups, "set_power_limit", "token issue --help"])
      expect(outcome.stderr).toContain(allowed);
  },
);

it("lists all scopes in its help, on lines that fit a terminal, and says what the original makes of those that it does not know", async () => {
  const { stdout } = await run(["token", "issue", "--help"]);
  for (const name of rights.keys()) if (!name.includes("/")) expect(stdout).toContain(name);
  expect(stdout).toMatch(/original daemon, up to 0\.5,[^]* refuses a token as\s+a whole/);
  for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
});

it("takes an empty user, and a list of scopes that is empty", async () => {
  expect((await issued("--user", "", "--expires", "never")).claims).toBe('{"sub":"","scopes":[]}');
  expect((await issued("--user=", "--expires", "never")).claims).toBe('{"sub":"","scopes":[]}');
});

it("keeps the scopes in their order, and duplicates", async () => {
  const scopes = ["--scope", "cpu-read,gpu-control", "--scope", "cpu-read", "--scope=gpu-read,gpu-read"];
  expect((await issued("--user", "me", "--expires", "never", ...scopes)).claims).toBe(
    '{"sub":"me","scopes":["cpu-read","gpu-control","cpu-read","gpu-read","gpu-read"]}',
  );
});

it("keeps a user's name as it is", async () => {
  const user = 'Zoë "z" \\ 日本 \u0001';
  expect((await issued("--user", user, "--expires", "never")).claims).toBe(
    '{"sub":"Zoë \\"z\\" \\\\ 日本 \\u0001","scopes":[]}',
  );
  expect((await issued("--user=-x", "--expires", "never")).claims).toBe('{"sub":"-x","scopes":[]}');
});

it.each([
  ["never", undefined],
  ["NEVER", undefined],
  [" Never ", undefined],
  ["0", undefined],
  ["0s", now_s],
  ["1s", now_s + 1],
  ["100ms", now_s + 1],
  ["99ms", now_s],
  ["1m", now_s + 60],
  ["1M", now_s + 60],
  ["1month", now_s + 2_630_016],
  ["1h", now_s + 3600],
  ["1H", now_s + 3600],
  ["1h30m", now_s + 5400],
  ["1h 30m", now_s + 5400],
  ["1.5h", now_s + 5400],
  ["7d", now_s + 604_800],
  ["2 days", now_s + 172_800],
  ["30d", now_s + 2_592_000],
  ["1w", now_s + 604_800],
  ["1y", now_s + 31_557_600],
  ["1year 2months 3weeks 4days 5hours 6mins 7secs", now_s + 31_557_600 + 5_260_032 + 1_814_400 + 345_600 + 18_367],
])("--expires %j gives exp %j", async (expires, exp) => {
  expect(await expiryOf(expires)).toBe(exp);
});

it.each([
  ["", "value was empty"],
  ["  ", "value was empty"],
  ["30", "time unit needed, for example 30sec or 30ms"],
  ["h", "expected number at 0"],
  ["-1h", "expected number at 0"],
  ["1h30", "time unit needed"],
  ["1x", 'unknown time unit "x"'],
  ["1constructor", 'unknown time unit "constructor"'],
  ["1h,30m", "expected number at 2"],
  ["tomorrow", "expected number at 0"],
])("--expires %j is refused with 1: %s (13.2 #22)", async (expires, cause) => {
  const outcome = await issueWith(["--user", "me", `--expires=${expires}`]);
  expect(outcome).toEqual({ code: 1, stdout: "", stderr: expect.stringMatching(/^Error: [^\n]*\n$/) });
  expect(outcome.stderr).toContain(`Invalid duration '${expires}'. Use e.g. '1h', '7d', '30d', or 'never'.`);
  expect(outcome.stderr).toContain(cause);
});

it.each([
  "99999999999999999999y",
  `${"9".repeat(400)}s`,
  "1000000000000 years",
  "300000y 300000y",
  `1${"0".repeat(30)}ns`,
])("--expires %s, an absurd value, is refused with 1 like any other", async (expires) => {
  const outcome = await issueWith(["--user", "me", "--expires", expires]);
  expect(outcome).toEqual({ code: 1, stdout: "", stderr: expect.stringMatching(/^Error: Invalid duration [^\n]*\n$/) });
});

it.each([
  { name: "user", argv: ["--expires", "1h"] },
  { name: "expires", argv: ["--user", "me"] },
])("--$name is required", async ({ name, argv }) => {
  expect(await issueWith(argv)).toEqual(usageError(new RegExp(`--${name}`)));
});

it("--signing-key-path is required", async () => {
  const outcome = await run(["token", "issue", "--user", "me", "--expires", "1h"]);
  expect(outcome).toEqual(usageError(/--signing-key-path/));
});

it.each([
  ["--scope", "gpu-write"],
  ["--scope", "GPU-READ"],
  ["--scope", ""],
  ["--scope", "gpu-read,"],
  ["--bogus", "x"],
  ["--mode", "tcp"],
  ["--user", "me", "--user", "you"],
  ["--expires", "1h", "--expires", "1h"],
  ["--user", "-x"],
])("%j are no proper options", async (...argv) => {
  const rest = argv.includes("--user") ? ["--expires", "1h"] : ["--user", "me"];
  const needed = argv.includes("--expires") || argv.includes("--user") ? rest : ["--user", "me", "--expires", "1h"];
  expect(await issueWith([...needed, ...argv])).toEqual(usageError());
});

it("refuses a key that is missing, empty or short with 1, and takes a short one on an explicit word", async () => {
  const argv = ["--user", "me", "--expires", "never"];
  const refused = async (path: string): Promise<string> => {
    const outcome = await issueWith(argv, path);
    expect(outcome).toEqual({ code: 1, stdout: "", stderr: expect.stringMatching(/^Error: [^\n]*\n$/) });
    return outcome.stderr;
  };
  expect(await refused("/nowhere/key")).toContain(
    "Failed to read signing key from '/nowhere/key': No such file or directory (os error 2)",
  );
  expect(await refused(createKey(""))).toContain("is empty");
  expect(await refused(createKey("short"))).toContain("--allow-short-signing-key");
  expect((await issueWith([...argv, "--allow-short-signing-key"], createKey("short"))).code).toBe(0);
});
