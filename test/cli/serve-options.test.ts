// The flags of the daemon, in the form of 0.1 to 0.3 and in that of 0.4 and later.
import { describe, expect, it } from "vitest";
import type { Config } from "../../src/contract/config.ts";
import { configOf, run, usageError } from "./subject.ts";

const forms = [
  { form: "zeusd", head: [], socket: "/var/run/zeusd.sock" },
  { form: "zeusd serve", head: ["serve"], socket: "/run/zeusd/zeusd.sock" },
] as const;

/** Every option of both forms with a value that it takes, or null for a switch. */
const options: readonly (readonly [option: string, value: string | null])[] = [
  ["--mode", "tcp"],
  ["--socket-path", "/tmp/z.sock"],
  ["--socket-permissions", "660"],
  ["--socket-uid", "1000"],
  ["--socket-gid", "1000"],
  ["--tcp-bind-address", "localhost:80"],
  ["--num-workers", "8"],
  ["--gpu-power-poll-hz", "50"],
  ["--cpu-power-poll-hz", "5"],
  ["--signing-key-path", "/etc/key"],
  ["--allow-short-signing-key", null],
  ["--allow-unauthenticated-tcp", null],
  ["--gpu-backend", "nvml"],
  ["--gpu-command-overrides", "/etc/overrides.toml"],
  ["--sim", "8xh100"],
  ["--powercap-root", "/tmp/powercap"],
  ["--state-dir", "/tmp/state"],
  ["--restore-on-exit", null],
  ["--on-stop", "keep"],
  ["--drift-check-s", "5"],
  ["--reassert", null],
  ["--gpu-stream-format", "v1"],
  ["--device-timeout-ms", "300"],
  ["--busy-poll-us", "50"],
  ["--max-connections", "10"],
  ["--max-streams", "10"],
  ["--log-level", "warn"],
  ["--log-format", "json"],
];
const withValue = options.flatMap(([option, value]) => (value === null ? [] : [[option, value] as const]));

describe.each(forms)("$form", ({ head, socket }) => {
  it("without flags has the defaults of its generation", async () => {
    expect(await configOf(head)).toEqual({
      listener: { mode: "uds", path: socket, permissions: 0o666 },
      enabledGroups: ["gpu-control", "gpu-read", "cpu-read"],
      allowUnprivileged: false,
      allowShortSigningKey: false,
      allowUnauthenticatedTcp: false,
      allowedOrigins: [],
      auditRequired: false,
      stateDir: `${socket}.state`,
      stateDirRequired: false,
      restoreOnExit: false,
      onStop: "restore",
      driftCheckS: 30,
      reassert: false,
      gpuBackend: "auto",
      sim: expect.any(String),
      gpuPowerPollHz: 20,
      cpuPowerPollHz: 10,
      gpuStreamFormat: "v2",
      deviceTimeoutMs: 4_000,
      busyPollUs: expect.any(Number),
      maxConnections: expect.any(Number),
      maxStreams: expect.any(Number),
      logLevel: "info",
      logFormat: "text",
    });
    expect((await configOf([...head, "--mode", "tcp"])).listener).toEqual({
      mode: "tcp",
      host: "127.0.0.1",
      port: 4938,
    });
  });

  it.each([
    [["--mode", "uds"], { listener: { mode: "uds", path: socket, permissions: 0o666 } }],
    [["--socket-path", "/tmp/z.sock"], { listener: { mode: "uds", path: "/tmp/z.sock", permissions: 0o666 } }],
    [
      ["--socket-uid", "1000", "--socket-gid", "0"],
      { listener: { mode: "uds", path: socket, permissions: 0o666, uid: 1000, gid: 0 } },
    ],
    [["--socket-gid", "4294967294"], { listener: { mode: "uds", path: socket, permissions: 0o666, gid: 4294967294 } }],
    [["--mode", "tcp", "--tcp-bind-address", "0.0.0.0:0"], { listener: { mode: "tcp", host: "0.0.0.0", port: 0 } }],
    [["--mode=tcp", "--tcp-bind-address=node-7:65535"], { listener: { mode: "tcp", host: "node-7", port: 65_535 } }],
    [["--mode", "tcp", "--tcp-bind-address", "[::1]:80"], { listener: { mode: "tcp", host: "::1", port: 80 } }],
    [["--gpu-power-poll-hz", "50", "--cpu-power-poll-hz", "5"], { gpuPowerPollHz: 50, cpuPowerPollHz: 5 }],
    [["--signing-key-path", "/etc/key"], { signingKeyPath: "/etc/key" }],
    [["--allow-short-signing-key"], { allowShortSigningKey: true }],
    [["--allow-unauthenticated-tcp"], { allowUnauthenticatedTcp: true }],
    [["--policy", "/etc/p.toml"], { policyPath: "/etc/p.toml" }],
    [["--audit-log", "journal"], { auditLog: "journal", auditRequired: false }],
    [["--audit-log", "/var/log/a", "--audit-required"], { auditLog: "/var/log/a", auditRequired: true }],
    [["--signing-key-path", "k", "--revoked-tokens", "r"], { signingKeyPath: "k", revokedTokensPath: "r" }],
    [
      ["--allow-origin", "https://Node7:8443", "--allow-origin", "node8"],
      { allowedOrigins: ["https://node7:8443", "node8"] },
    ],
    [["--state-dir", "/var/lib/z"], { stateDir: "/var/lib/z" }],
    [["--restore-on-exit", "--on-stop", "keep"], { restoreOnExit: true, onStop: "keep" }],
    [["--drift-check-s", "0", "--reassert"], { driftCheckS: 0, reassert: true }],
    [["--gpu-backend", "auto"], { gpuBackend: "auto" }],
    [["--gpu-backend", "nvml"], { gpuBackend: "nvml" }],
    [["--gpu-backend", "sim"], { gpuBackend: "sim" }],
    [["--sim", "2xa100"], { gpuBackend: "sim", sim: "2xa100" }],
    [["--sim", "2xa100", "--gpu-backend", "sim"], { gpuBackend: "sim", sim: "2xa100" }],
    [["--powercap-root", "/tmp/powercap"], { powercapRoot: "/tmp/powercap" }],
    [["--gpu-stream-format", "v1"], { gpuStreamFormat: "v1" }],
    [["--device-timeout-ms", "300", "--busy-poll-us", "0"], { deviceTimeoutMs: 300, busyPollUs: 0 }],
    [["--max-connections", "10", "--max-streams", "5"], { maxConnections: 10, maxStreams: 5 }],
    [["--log-level", "debug", "--log-format", "json"], { logLevel: "debug", logFormat: "json" }],
  ])("%j are understood", async (args, expected) => {
    expect(await configOf([...head, ...args])).toMatchObject(expected);
  });

  it.each(withValue)(
    "%s takes its value after a blank or an equals sign, and cannot be without one",
    async (option, value) => {
      const spaced = await run([...head, option, value]);
      expect(await run([...head, `${option}=${value}`])).toEqual(spaced);
      expect(spaced.code).toBe(option === "--gpu-command-overrides" ? 1 : 0);
      expect(await run([...head, option])).toEqual(usageError());
    },
  );

  it.each(options)("%s cannot be given twice", async (option, value) => {
    const given = value === null ? [option] : [option, value];
    expect(await run([...head, ...given, ...given])).toEqual(usageError(/--/));
    if (value !== null) expect(await run([...head, `${option}=${value}`, ...given])).toEqual(usageError(/--/));
  });

  it.each(options)("%s cannot be abbreviated or written in upper case", async (option, value) => {
    const rest = value === null ? [] : [value];
    expect(await run([...head, option.slice(0, -1), ...rest])).toEqual(usageError());
    expect(await run([...head, option.toUpperCase(), ...rest])).toEqual(usageError());
  });

  it.each(withValue)("%s takes a value that begins with a dash only after an equals sign", async (option) => {
    expect(await run([...head, option, "-x"])).toEqual(usageError());
    expect(await run([...head, option, "--mode"])).toEqual(usageError());
  });

  it("takes a path that begins with a dash after an equals sign", async () => {
    const { listener, signingKeyPath } = await configOf([...head, "--socket-path=-x", "--signing-key-path=--key=1"]);
    expect(listener).toMatchObject({ path: "-x" });
    expect(signingKeyPath).toBe("--key=1");
  });

  it.each([
    ["--mode", "TCP"],
    ["--mode", "named-pipe"],
    ["--mode", ""],
    ["--gpu-backend", "NVML"],
    ["--gpu-backend", "rocm"],
    ["--on-stop", "Keep"],
    ["--on-stop", "nothing"],
    ["--gpu-stream-format", "V2"],
    ["--gpu-stream-format", "2"],
    ["--log-level", "INFO"],
    ["--log-level", "trace2"],
    ["--log-format", "Text"],
  ])("%s does not know %j", async (option, value) => {
    expect(await run([...head, option, value])).toEqual(usageError(new RegExp(option)));
  });

  it.each([
    ["--num-workers", ["1", "64", "512"], ["0", "-1", "1.5", "many", "", " 1", "1e2", "0x10"]],
    ["--socket-uid", ["0", "65534"], ["-1", "root", "4294967296", "", "1.0"]],
    ["--socket-gid", ["0", "65534"], ["-1", "root", "4294967296", "", "1.0"]],
    ["--gpu-power-poll-hz", ["0", "1", "1000000"], ["1000001", "4294967296", "-1", "20.0", "", "1e3"]],
    ["--cpu-power-poll-hz", ["0", "1", "1000000"], ["1000001", "4294967296", "-1", "10.0", "", "1e3"]],
    ["--device-timeout-ms", ["1", "4000", "100000"], ["0", "100001", "-1", "0.5", "", "4s", "1e3"]],
    ["--busy-poll-us", ["0", "200", "10000"], ["10001", "-1", "0.5", "", "1ms", "1e3"]],
    ["--drift-check-s", ["0", "30", "86400"], ["86401", "-1", "0.5", "", "30s", "1e3"]],
    ["--state-dir", ["/run/z", "state"], [""]],
    ["--max-connections", ["1", "100000"], ["0", "-1", "", "x"]],
    ["--max-streams", ["1", "100000"], ["0", "-1", "", "x"]],
    [
      "--allow-origin",
      ["node7", "node7:65535", "https://node7:1", "http://[::1]:80", "[2001:db8::6]"],
      ["node7:65536", "node7:99999", "https://[::1]:70000", "node7:", "node7:x", "node7/", "ftp://node7", "*", ""],
    ],
  ])("%s takes %j and does not take %j (13.2 #22)", async (option, good, bad) => {
    for (const value of good) expect(await run([...head, option, value])).toMatchObject({ code: 0, stderr: "" });
    for (const value of bad) expect(await run([...head, `${option}=${value}`])).toEqual(usageError(new RegExp(option)));
  });

  it.each([
    [["--socket-path", "/tmp/z.sock"], "/tmp/z.sock.state"],
    [["--mode", "tcp"], "/run/zeusd/tcp-127.0.0.1-4938.state"],
    [["--mode", "tcp", "--tcp-bind-address", "[::1]:80"], "/run/zeusd/tcp-__1-80.state"],
    [["--mode", "tcp", "--tcp-bind-address", "../node-7/x:80"], "/run/zeusd/tcp-.._node-7_x-80.state"],
    [["--mode", "tcp", "--tcp-bind-address", "localhost:0"], undefined],
    [["--mode", "tcp", "--tcp-bind-address", "localhost:0", "--state-dir", "/s"], "/s"],
    [["--enable", "gpu-read,cpu-read"], undefined],
    [["--enable", "gpu-read", "--state-dir", "/s"], "/s"],
    [["--enable", "gpu-control", "--socket-path", "z"], "z.state"],
  ])("%j remember leases in %s", async (args, stateDir) => {
    expect((await configOf([...head, ...args])).stateDir).toBe(stateDir);
  });

  it("takes a poll rate of 0 as 1, as the original does", async () => {
    const args = ["--gpu-power-poll-hz", "0", "--cpu-power-poll-hz", "0"];
    expect(await configOf([...head, ...args])).toMatchObject({ gpuPowerPollHz: 1, cpuPowerPollHz: 1 });
  });

  it.each([
    ["660", 0o660],
    ["0660", 0o660],
    ["0", 0],
    ["777", 0o777],
    ["00000000666", 0o666],
  ])("--socket-permissions %s are octal digits", async (text, permissions) => {
    expect((await configOf([...head, "--socket-permissions", text])).listener).toMatchObject({ permissions });
  });

  it.each(["0o660", "999", "668", "", "rw-rw-rw-", "6 6", "0x1ff", "77777777777777777777"])(
    "--socket-permissions %j are refused with 1, as in the original",
    async (text) => {
      const outcome = await run([...head, `--socket-permissions=${text}`]);
      expect(outcome).toEqual({ code: 1, stdout: "", stderr: expect.stringMatching(/^Error: [^\n]*\n$/) });
      expect(outcome.stderr).toContain("Failed to parse socket permissions: invalid digit found in string");
    },
  );

  it.each([
    [["--enable", "gpu-read"], ["gpu-read"]],
    [["--enable=cpu-read,gpu-read"], ["cpu-read", "gpu-read"]],
    [
      ["--enable", "gpu-read", "--enable", "gpu-control"],
      ["gpu-read", "gpu-control"],
    ],
    [
      ["--enable", "cpu-read,cpu-read", "--enable", "gpu-read,cpu-read"],
      ["cpu-read", "cpu-read", "gpu-read", "cpu-read"],
    ],
  ])("%j enables %j: order and duplicates stay", async (args, groups) => {
    expect((await configOf([...head, ...args])).enabledGroups).toEqual(groups);
    expect((await configOf([...head, ...args])).enabledGroups).toEqual(groups);
  });

  it.each([
    "",
    ",",
    "gpu-read,",
    ",gpu-read",
    "gpu-read,,cpu-read",
    "GPU-READ",
    "gpu_read",
    "gpu-read, cpu-read",
    "all",
  ])("--enable %j is no list of API groups", async (list) => {
    expect(await run([...head, `--enable=${list}`])).toEqual(usageError(/--enable/));
    expect(await run([...head, "--enable", "gpu-read", "--enable", list])).toEqual(usageError(/--enable/));
  });

  it.each([
    [["--gpu-backend", "amdsmi"], "amdsmi"],
    [["--gpu-command-overrides", "/etc/overrides.toml"], "--gpu-command-overrides"],
    [["--sim", "2xh100", "--gpu-backend", "nvml"], "--sim"],
    [["--mode", "tcp", "--tcp-bind-address", "nonsense"], "invalid socket address"],
    [["--mode", "tcp", "--tcp-bind-address", "localhost:http"], "invalid port value"],
  ])("%j are refused with 1 in one sentence", async (args, text) => {
    const outcome = await run([...head, ...args]);
    expect(outcome).toEqual({ code: 1, stdout: "", stderr: expect.stringMatching(/^Error: [^\n]*\n$/) });
    expect(outcome.stderr).toContain(text);
  });

  it("takes the log level from RUST_LOG where none is given, and info where it does not understand that", async () => {
    const levels = { warn: "warn", DEBUG: "debug", "zeusd=trace,actix=off": "info", "": "info" };
    for (const [RUST_LOG, logLevel] of Object.entries(levels)) {
      expect(await configOf(head, { env: { RUST_LOG } })).toMatchObject({ logLevel });
    }
    expect(await configOf([...head, "--log-level", "error"], { env: { RUST_LOG: "debug" } })).toMatchObject({
      logLevel: "error",
    });
  });

  it.each(["--bogus", "--no-mode", "-x", "--pipe-name=x", "--socket-path2=/tmp/z"])(
    "does not know %s",
    async (word) => {
      expect(await run([...head, word])).toEqual(usageError());
    },
  );

  it("takes no words beside its options", async () => {
    expect(await run([...head, "extra"])).toEqual(usageError());
    expect(await run([...head, "--sim", "2xh100", "extra"])).toEqual(usageError());
  });
});

it("--allow-unprivileged belongs to the plain form alone, where it is a switch", async () => {
  expect(await configOf(["--allow-unprivileged"])).toMatchObject({ allowUnprivileged: true });
  expect(await run(["--allow-unprivileged=true"])).toEqual(usageError());
  expect(await run(["--allow-unprivileged", "--allow-unprivileged"])).toEqual(usageError());
  expect(await run(["serve", "--allow-unprivileged"])).toEqual(usageError(/--allow-unprivileged/));
});

it.each([...options, ["--enable", "gpu-read"], ["--allow-unprivileged", null]] as const)(
  "%s before the subcommand is refused rather than ignored",
  async (option, value) => {
    const given = value === null ? [option] : [option, value];
    expect(await run([...given, "serve"])).toEqual(usageError(new RegExp(option)));
    expect(await run([...given, "restore"])).toEqual(usageError(new RegExp(option)));
    const issue = ["token", "issue", "--signing-key-path", "/etc/key", "--user", "me", "--expires", "1h"];
    expect(await run([...given, ...issue])).toEqual(usageError(new RegExp(option)));
  },
);

it("a value that is the name of a subcommand is a value", async () => {
  expect((await configOf(["--socket-path", "serve"])).listener).toMatchObject({ path: "serve" });
  expect((await configOf(["serve", "--socket-path", "token"])).listener).toMatchObject({ path: "token" });
});

it("an error of what it starts is one line on stderr, and 1", async () => {
  const luckless = { serve: (): Promise<void> => Promise.reject(new Error("no luck")) };
  expect(await run(["serve"], { programs: () => luckless })).toEqual({
    code: 1,
    stdout: "",
    stderr: "Error: no luck\n",
  });
});

describe("zeusd restore", () => {
  async function restored(argv: readonly string[], done = true) {
    const seen: { config?: Config; all?: boolean } = {};
    const { code } = await run(["restore", ...argv], {
      programs: () => ({
        async restore(config, all) {
          Object.assign(seen, { config, all });
          return done;
        },
      }),
    });
    return { code, ...seen };
  }

  it.each(options.filter(([option]) => option !== "--gpu-command-overrides"))(
    "takes %s as serve does, and finds what that has written down",
    async (option, value) => {
      const given = value === null ? [option] : [option, value];
      expect(await restored(given)).toEqual({ code: 0, config: await configOf(["serve", ...given]), all: false });
      expect(await restored([...given, "--all"])).toMatchObject({ code: 0, all: true });
    },
  );

  it("ends with 1 if something could not be put back", async () => {
    expect((await restored([], false)).code).toBe(1);
  });

  it.each([[["--all", "--all"]], [["--all=yes"]], [["now"]], [["--allow-unprivileged"]], [["--drift-check-s", "x"]]])(
    "%j is a usage error",
    async (argv) => {
      expect(await run(["restore", ...argv])).toEqual(usageError());
    },
  );
});
