// `zeusd run` as a process: what its program inherits, how both end, and what happens when only one of them does.
import { spawnSync } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createFolder } from "../folder.ts";
import { eventually } from "../processes/http-client.ts";
import { ordinaryUser } from "../processes/ordinary-user.ts";
import { startZeusd, type StartOptions, type Zeusd } from "../processes/zeusd.ts";
import { startFakeDaemon, type FakeDaemon } from "./fake-daemon.ts";

const user = ordinaryUser();

interface Wrapped {
  readonly daemon: FakeDaemon;
  readonly zeusd: Zeusd;
}

async function start(words: readonly string[], options: StartOptions = {}): Promise<Wrapped> {
  const daemon = await startFakeDaemon();
  const env = { ZEUSD_SOCK_PATH: daemon.address, ...options.env };
  return { daemon, zeusd: startZeusd(["run", ...words], { ...options, env }) };
}

async function outcomeOf(words: readonly string[], options: StartOptions = {}) {
  const { daemon, zeusd } = await start(words, options);
  const { code, signal } = await zeusd.exit;
  return { code, signal, stdout: zeusd.stdout(), stderr: zeusd.stderr(), paths: daemon.paths() };
}

/** Says when it is ready, and what signal comes first; ends by itself after some seconds. */
const waiting = (signals: string): readonly string[] => [
  ...["sh", "-c"],
  `for s in ${signals}; do trap "echo got $s; exit 7" $s; done; echo ready; for i in $(seq 500); do sleep 0.02; done`,
];

async function startWaiting(signals: string): Promise<Wrapped> {
  const wrapped = await start(waiting(signals));
  await eventually(() => wrapped.zeusd.stdout() === "ready\n");
  return wrapped;
}

describe("the exit code", () => {
  it.each([
    [["true"], 0],
    [["--", "sh", "-c", "exit 3"], 3],
    [["sh", "-c", "exit 255"], 255],
    [["sh", "-c", "kill -KILL $$"], 137],
    [["sh", "-c", "kill -TERM $$"], 143],
    [["sh", "-c", "kill -USR1 $$"], 138],
  ])("of %j is %i, and the lease ends with it", async (words, code) => {
    expect(await outcomeOf(words)).toEqual({
      ...{ code, signal: null, stdout: "", stderr: "" },
      paths: ["/lease/acquire", "/lease/release"],
    });
  });

  it.each([
    ["/nowhere/program", 127, "no such file or directory"],
    ["no-such-program", 127, "no such file or directory"],
    ["/", 126, "permission denied"],
  ])("of %s is %i, with the reason", async (program, code, reason) => {
    expect(await outcomeOf([program, "x"])).toEqual({
      ...{ code, signal: null, stdout: "", stderr: `zeusd run: cannot run '${program}': ${reason}\n` },
      paths: ["/lease/acquire", "/lease/release"],
    });
  });

  it("of a file that may not be executed is 126", async () => {
    const path = join(createFolder(), "program");
    writeFileSync(path, "#!/bin/sh\n", { mode: 0o644 });
    expect(await outcomeOf([path])).toMatchObject({ code: 126, stderr: expect.stringContaining("permission denied") });
  });

  it("is 1 where there is no daemon, and nothing was run", async () => {
    expect(await outcomeOf(["--socket-path", "/nowhere/z.sock", "echo", "x"])).toEqual({
      ...{ code: 1, signal: null, stdout: "", paths: [] },
      stderr: expect.stringMatching(/^Error: There is no socket '\/nowhere\/z\.sock': is zeusd running\?[^\n]*\n$/),
    });
  });

  it("is 1 where the socket is not for everyone, with what to do", async () => {
    const daemon = await startFakeDaemon();
    chmodSync(daemon.address, 0);
    const zeusd = startZeusd(["run", "--socket-path", daemon.address, "echo", "x"], user);
    expect([await zeusd.exit, zeusd.stdout()]).toEqual([{ code: 1, signal: null }, ""]);
    expect(zeusd.stderr()).toMatch(
      /^Error: You may not use the socket '[^\n]*': its owner, group and mode say who may/,
    );
  });
});

describe("the program", () => {
  it("has its arguments and our standard streams", async () => {
    const words = ["sh", "-c", 'printf "%s|" "$@"; echo err >&2', "sh", "--gpu", "", "a b", "--", "ü\n"];
    expect(await outcomeOf(words)).toMatchObject({ code: 0, stdout: "--gpu||a b|--|ü\n|", stderr: "err\n" });
  });

  it("is found by PATH, and a script without a first line that names its shell is one of sh", async () => {
    const folder = createFolder();
    writeFileSync(join(folder, "my-program"), "echo ran\n", { mode: 0o755 });
    const PATH = `${folder}:${process.env["PATH"]}`;
    expect(await outcomeOf(["my-program"], { env: { PATH } })).toMatchObject({ code: 0, stdout: "ran\n" });
  });

  it.each([{ A: "1", EMPTY: "", UVS: "a=b\nc" }, { UV_THREADPOOL_SIZE: "7" }])(
    "has the environment that we were started with, here with %j",
    async (more) => {
      const { stdout } = await outcomeOf(["cat", "/proc/self/environ"], { env: more });
      const entries = stdout.split("\0").slice(0, -1);
      expect(Object.fromEntries(entries.map((line) => line.split(/=(.*)/s)))).toEqual({
        ...{ PATH: process.env["PATH"], ZEUSD_SOCK_PATH: expect.any(String) },
        ...more,
      });
    },
  );

  it("has no descriptors of ours, but those alone that a program has which is started without us", async () => {
    const without = spawnSync("ls", ["/proc/self/fd"], { encoding: "utf8" });
    expect((await outcomeOf(["ls", "/proc/self/fd"])).stdout).toBe(without.stdout);
  });

  it("ignores no signal, blocks none, and does not find its streams non-blocking", async () => {
    const { stdout } = await outcomeOf(["cat", "/proc/self/status", "/proc/self/fdinfo/1", "/proc/self/fdinfo/2"]);
    expect(stdout.match(/^Sig(Ign|Blk):.*/gm)).toEqual(["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]);
    const flags = [...stdout.matchAll(/^flags:\t0(\d+)/gm)].map(([, octal = ""]) => Number.parseInt(octal, 8) & 0o4000);
    expect(flags).toEqual([0, 0]);
  });

  it("is seen by others as itself, and we as zeusd run", async () => {
    const { stdout } = await outcomeOf(["sh", "-c", "cat /proc/$PPID/comm /proc/$$/comm"]);
    expect(stdout).toBe("zeusd run\nsh\n");
  });

  it("is our child and of our process group", async () => {
    const { zeusd } = await start(["cat", "/proc/self/stat"]);
    await zeusd.exit;
    const [parent, group] = zeusd.stdout().split(") ")[1]?.split(" ").slice(1, 3) ?? [];
    expect(parent).toBe(String(zeusd.pid));
    expect(group).not.toBe(String(zeusd.pid));
  });
});

describe("a signal to zeusd run", () => {
  it.each(["TERM", "HUP", "INT", "QUIT", "USR1", "USR2"] as const)("SIG%s is the program's", async (name) => {
    const { daemon, zeusd } = await startWaiting("TERM HUP INT QUIT USR1 USR2");
    zeusd.signal(`SIG${name}`);
    expect(await zeusd.exit).toEqual({ code: 7, signal: null });
    expect([zeusd.stdout(), zeusd.stderr()]).toEqual([`ready\ngot ${name}\n`, ""]);
    expect(daemon.paths().at(-1)).toBe("/lease/release");
  });

  it("that the program dies of gives 128 and its number", async () => {
    const { zeusd } = await startWaiting("USR2");
    zeusd.signal("SIGTERM");
    expect(await zeusd.exit).toEqual({ code: 143, signal: null });
  });

  it("SIGKILL lets the program have SIGTERM", async () => {
    const { daemon, zeusd } = await startWaiting("TERM");
    zeusd.signal("SIGKILL");
    // Its streams are closed when the program has ended too.
    expect(await zeusd.exit).toEqual({ code: null, signal: "SIGKILL" });
    expect(zeusd.stdout()).toBe("ready\ngot TERM\n");
    expect(daemon.paths()).toEqual(["/lease/acquire"]);
  });
});

it("zeusd lease list and release ask the same daemon", async () => {
  const daemon = await startFakeDaemon();
  for (const [words, stdout] of [
    [["list"], "no leases\n"],
    [["release", "3"], "lease 3 has ended\n  GPU 0: restored\n  GPU 1: unchanged\n"],
  ] as const) {
    const zeusd = startZeusd(["lease", ...words], { env: { ZEUSD_SOCK_PATH: daemon.address } });
    expect(await zeusd.exit).toEqual({ code: 0, signal: null });
    expect([zeusd.stdout(), zeusd.stderr()]).toEqual([stdout, ""]);
  }
});

it("the launcher starts nothing where its parent is not the one that it is told", async () => {
  const launcher = join(import.meta.dirname, "../../dist/launch.js");
  const folder = createFolder();
  const through = [process.execPath, launcher, "1", "touch", join(folder, "ran")];
  const child = startZeusd([], { through, as: { command: [] } });
  expect(await child.exit).toEqual({ code: 143, signal: null });
  expect(() => readFileSync(join(folder, "ran"))).toThrow(/ENOENT/);
});
