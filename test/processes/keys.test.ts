// The signing key: which files are taken, and tokens from the command line to the daemon.
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { createFolder } from "../folder.ts";
import { ordinaryUser } from "./ordinary-user.ts";
import { refusal, startZeusd, type Zeusd } from "./zeusd.ts";

const user = ordinaryUser();

function createKey(text: string, mode = 0o600): string {
  const path = join(createFolder(), "key");
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

function words(keyPath: string, ...more: readonly string[]): readonly string[] {
  const socket = join(createFolder(), "zeusd.sock");
  return ["serve", "--sim", "2xh100", "--socket-path", socket, "--signing-key-path", keyPath, ...more];
}

async function started(args: readonly string[]): Promise<Zeusd> {
  const daemon = startZeusd(args);
  await daemon.listening();
  return daemon;
}

async function issue(keyPath: string, ...more: readonly string[]): Promise<string> {
  const command = ["token", "issue", "--signing-key-path", keyPath, "--user", "me", "--expires", "1h", ...more];
  const issuing = startZeusd(command);
  expect(await issuing.exit).toEqual({ code: 0, signal: null });
  return issuing.stdout();
}

it("a file that is not there is refused", async () => {
  const path = join(createFolder(), "none");
  expect(await refusal(words(path))).toContain(
    `Failed to read signing key from '${path}': No such file or directory (os error 2)`,
  );
});

it("a folder is refused", async () => {
  const path = createFolder();
  expect(await refusal(words(path))).toContain(`Failed to read signing key from '${path}'`);
});

it("a file that the daemon may not read is refused", async () => {
  const path = createKey("k".repeat(32), 0o000);
  expect(await refusal(words(path), user)).toContain("Permission denied (os error 13)");
});

it("an empty file is refused", async () => {
  const path = createKey("");
  expect(await refusal(words(path))).toContain(`Signing key file '${path}' is empty`);
});

it("a key under 32 bytes is refused, and the sentence names the flag that allows it (13.2 #12)", async () => {
  expect(await refusal(words(createKey("k".repeat(31))))).toContain("--allow-short-signing-key");
});

it("a key under 32 bytes is taken on an explicit word, with a warning", async () => {
  const daemon = await started(words(createKey("short"), "--allow-short-signing-key"));
  expect(daemon.stderr()).toMatch(/ WARN .*Signing key.* 5 bytes/);
  expect((await daemon.request("/gpu/get_power")).status).toBe(401);
});

it.each([
  { mode: "600", warns: false },
  { mode: "400", warns: false },
  { mode: "640", warns: true },
  { mode: "604", warns: true },
])("warns of a key that others can read: mode $mode, $warns", async ({ mode, warns }) => {
  const daemon = await started(words(createKey("k".repeat(32), Number.parseInt(mode, 8))));
  expect(/ WARN .*can be read by others/.test(daemon.stderr())).toBe(warns);
});

it("never writes the key to its log or to an error", async () => {
  const key = "a very secret key of some length";
  const daemon = await started(words(createKey(key), "--log-level", "debug"));
  expect(daemon.stderr() + daemon.stdout()).not.toContain(key);
  expect(await refusal(words(createKey(key.slice(0, 20))))).not.toContain(key.slice(0, 20));
});

it("a token of the command line, one line on stdout, opens the daemon for its scopes", async () => {
  const path = createKey("k".repeat(32));
  const printed = await issue(path, "--scope", "gpu-read");
  expect(printed).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
  const headers = { authorization: `Bearer ${printed.trim()}` };
  const daemon = await started(words(path));
  expect((await daemon.request("/gpu/get_power", { headers })).status).toBe(200);
  expect((await daemon.request("/cpu/get_power", { headers })).status).toBe(403);
  expect((await daemon.request("/gpu/get_power")).status).toBe(401);
  expect(daemon.stdout()).toBe(`Listening on ${await daemon.listening()}\n`);
});

it("a line break at the end of the file is part of the key", async () => {
  const text = "k".repeat(32);
  const headers = { authorization: `Bearer ${(await issue(createKey(text), "--scope", "gpu-read")).trim()}` };
  const daemon = await started(words(createKey(`${text}\n`)));
  expect((await daemon.request("/gpu/get_power", { headers })).status).toBe(401);
});

it("what is wrong with a key goes to stderr when a token is issued, so that stdout holds the token alone", async () => {
  const path = createKey("short", 0o644);
  const command = ["token", "issue", "--signing-key-path", path, "--user", "me", "--expires", "never"];
  expect(await refusal(command)).toContain("--allow-short-signing-key");
  const issuing = startZeusd([...command, "--allow-short-signing-key"]);
  expect(await issuing.exit).toEqual({ code: 0, signal: null });
  expect(issuing.stdout().split("\n")).toHaveLength(2);
  expect(issuing.stderr()).toContain("can be read by others");
});
