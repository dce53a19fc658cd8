// What the daemon writes: where it listens and what to try on stdout, its log on stderr.
import { join } from "node:path";
import { expect, it } from "vitest";
import { createDriver } from "./driver.ts";
import { createFolder } from "../folder.ts";
import { startZeusd, type Zeusd } from "./zeusd.ts";

function startSimulation(args: readonly string[] = [], env: Readonly<Record<string, string>> = {}): Zeusd {
  const path = join(createFolder(), "zeusd.sock");
  return startZeusd(["serve", "--sim", "2xh100", "--socket-path", path, ...args], { env });
}

/** Runs a daemon to its end, and gives back the lines of its log. */
async function logOf(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<readonly string[]> {
  const daemon = startSimulation(args, env);
  expect((await daemon.request("/gpu/get_power?gpu_ids=9")).status).toBe(400);
  daemon.signal("SIGTERM");
  await daemon.exit;
  return daemon.stderr().split("\n").slice(0, -1);
}

async function levelsAt(level: string): Promise<ReadonlySet<string | undefined>> {
  return new Set((await logOf(["--log-level", level])).map((line) => line.split(/ +/)[1]));
}

it("prints where it listens, and nothing else, when it drives real GPUs", async () => {
  const path = join(createFolder(), "zeusd.sock");
  const { env } = createDriver();
  const daemon = startZeusd(["--allow-unprivileged", "--socket-path", path], { env });
  expect((await daemon.request("/time")).status).toBe(200);
  daemon.signal("SIGTERM");
  await daemon.exit;
  expect(daemon.stdout()).toBe(`Listening on ${path}\n`);
});

it.each([
  ["a Unix socket", ["--mode", "uds"]],
  ["TCP", ["--mode", "tcp", "--tcp-bind-address", "127.0.0.1:0"]],
])("prints commands to try on simulated GPUs, each of which works, on %s", async (_, args) => {
  const daemon = startSimulation(args);
  const address = await daemon.listening();
  const [first, ...hints] = daemon.stdout().split("\n").slice(0, -1);
  expect(first).toBe(`Listening on ${address}`);
  const commands = hints.filter((line) => line.includes("curl"));
  expect(commands.length).toBeGreaterThan(0);
  for (const command of commands) {
    const [, host = "", target = ""] = /http:\/\/([^/']+)([^ ']*)/.exec(command) ?? [];
    expect(command).toContain(address);
    expect(host).toBe(address.startsWith("/") ? "localhost" : address);
    const method = command.includes("-X POST") ? "POST" : "GET";
    expect((await daemon.stream(target, { method })).status).toBe(200);
  }
});

it("logs on stderr, without colours even where they are asked for (13.2 #27)", async () => {
  const log = await logOf([], {
    FORCE_COLOR: "1",
    CLICOLOR_FORCE: "1",
    COLORTERM: "truecolor",
    TERM: "xterm-256color",
  });
  expect(log.length).toBeGreaterThan(0);
  for (const line of log) {
    expect(line).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z +(INFO|WARN) \S/);
    expect(line).not.toContain("\u001B");
  }
});

it("says in its log which API groups are enabled, and that simulated GPUs are not real", async () => {
  const log = (await logOf(["--enable", "gpu-read,cpu-read"])).join("\n");
  expect(log).toContain("Enabled API groups: gpu-read, cpu-read");
  expect(log).toMatch(/WARN .*simulated/);
});

it("writes each line of its log as JSON, with the time, the level and the text, for --log-format json", async () => {
  const log = await logOf(["--log-format", "json"]);
  expect(log.length).toBeGreaterThan(0);
  for (const line of log) {
    expect(JSON.parse(line)).toMatchObject({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/),
      level: expect.stringMatching(/^(info|warn)$/),
      text: expect.stringMatching(/\S/),
    });
  }
});

it("logs from the level on that --log-level gives", async () => {
  expect(await levelsAt("error")).toEqual(new Set());
  expect(await levelsAt("warn")).toEqual(new Set(["WARN"]));
  expect(await levelsAt("info")).toEqual(new Set(["WARN", "INFO"]));
  expect(await levelsAt("debug")).toEqual(new Set(["WARN", "INFO", "DEBUG"]));
});

it("takes the level from RUST_LOG where none is given, and what it does not understand there as info", async () => {
  const refused = "GPU 9 not found";
  expect((await logOf([], { RUST_LOG: "debug" })).join("\n")).toContain(refused);
  expect(await logOf([], { RUST_LOG: "error" })).toEqual([]);
  const log = (await logOf([], { RUST_LOG: "no such level" })).join("\n");
  expect(log).toContain("INFO");
  expect(log).not.toContain(refused);
  expect((await logOf(["--log-level", "debug"], { RUST_LOG: "error" })).join("\n")).toContain(refused);
});

it("goes on serving when nobody reads its log any more", async () => {
  const daemon = startSimulation();
  await daemon.listening();
  daemon.abandonLog();
  // Invalid, so that it is logged once its reply is on the way.
  const invalid = "/gpu/set_power_limit?gpu_ids=0&power_limit_mw=1&block=false";
  expect((await daemon.request(invalid, { method: "POST" })).status).toBe(200);
  expect((await daemon.request("/gpu/get_power")).status).toBe(200);
  daemon.signal("SIGTERM");
  expect(await daemon.exit).toEqual({ code: 0, signal: null });
});
