// The program: gives the command line what it starts, and turns signals into an orderly end.
import { createRequire } from "node:module";
import { join } from "node:path";
import { hints } from "./cli/hints.ts";
import type { LeaseCommandParts } from "./cli/lease.ts";
import { runCommandLine } from "./cli/parse.ts";
import type { PolicyCommandParts } from "./cli/policy.ts";
import { systemClock } from "./contract/clock.ts";
import type { Config } from "./contract/config.ts";
import type { Log } from "./contract/log.ts";
import type { Daemon } from "./daemon.ts";
import { exitNow } from "./native/libc.ts";
import { createLineWriter } from "./telemetry/line-writer.ts";

const { version } = createRequire(import.meta.url)("../package.json") as { version: string };

/** What has not ended this long after a signal is refused, in milliseconds, and a little later the process ends. */
const orderly = { refuseMs: 4_000, endMs: 4_500 } as const;
/** The same for a signal that does not wait: a driver call that runs gets a moment all the same. */
const hasty = { refuseMs: 0, endMs: 500 } as const;
/** How long a start that is interrupted gets to finish, in milliseconds. */
const lastMomentMs = 500;

const stdout = (text: string): void => void process.stdout.write(text);
const stderr = createLineWriter(process.stderr);

// Whoever reads what we print may go away; that is no reason to stop serving.
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});

// Node would open a debugger's port on it, and whoever reaches that port is root.
process.on("SIGUSR1", () => {});

const exitCode = await runCommandLine(process.argv.slice(2), {
  version,
  env: process.env,
  stdout,
  stderr,
  // What each needs is loaded when it is started: a program that zeusd runs shall not wait for a daemon to be loaded.
  programs: {
    serve,
    async restore(config, all) {
      const { restore } = await import("./restore.ts");
      const log = await createLog(config);
      return restore(config, { all, clock: systemClock, log, euid: euid(), stdout });
    },
    async issueToken(flags) {
      const { issue } = await import("./cli/token.ts");
      const log = await createLog({ logLevel: "warn", logFormat: "text" });
      const { token, note } = await issue(flags, systemClock, log);
      stdout(`${token}\n`);
      stderr(`${note}\n`);
    },
    checkPolicy: async (path) => (await import("./cli/policy.ts")).checkPolicy(path, await policyParts()),
    explainPolicy: async (flags) => (await import("./cli/policy.ts")).explainPolicy(flags, await policyParts()),
    listLeases: async (flags) => (await import("./cli/lease.ts")).listLeases(flags, leaseParts()),
    releaseLease: async (flags) => (await import("./cli/lease.ts")).releaseLease(flags, leaseParts()),
    async run(flags, words) {
      const [{ run }, { environmentAtStart, inForeground, nameOurselves, startProgram }] = await Promise.all([
        import("./cli/run.ts"),
        import("./cli/run-program.ts"),
      ]);
      nameOurselves();
      const env = environmentAtStart();
      const launcher = join(import.meta.dirname, "launch.js");
      const start = (line: readonly string[]) => startProgram(launcher, line, env);
      // A request that a signal cut short must not keep the process.
      return process.exit(await run(flags, words, { env, signals: process, inForeground, start, stderr }));
    },
  },
});

process.exitCode = exitCode;
// A driver call that hung at the start must not keep a start alive that failed.
if (exitCode === 1) exitNow(exitCode);

function euid(): number {
  return process.geteuid?.() ?? 0;
}

async function createLog({ logLevel, logFormat }: Pick<Config, "logLevel" | "logFormat">): Promise<Log> {
  const telemetry = await import("./telemetry/log.ts");
  return telemetry.createLog({ level: logLevel, format: logFormat, write: stderr });
}

function leaseParts(): LeaseCommandParts {
  return { env: process.env, epochMs: systemClock.epochMs, stdout };
}

async function policyParts(): Promise<PolicyCommandParts> {
  const { createNameService } = await import("./native/names.ts");
  return { people: createNameService(), euid: euid(), token: process.env["ZEUSD_TOKEN"], stdout };
}

/** Serves until a signal ends it; never returns. */
async function serve(config: Config): Promise<void> {
  const signal = nextSignal();
  const log = await createLog(config);
  // zeusd.cts has set it.
  const threads = Number(process.env["UV_THREADPOOL_SIZE"]);
  const starting = import("./daemon.ts").then(({ startDaemon }) =>
    startDaemon(config, { version, clock: systemClock, log, euid: euid(), threads }),
  );
  process.on("SIGHUP", () => {
    log.info("Reading the policy and the revoked tokens again, and opening the audit log anew, on SIGHUP");
    starting.then((started) => started.reload()).catch(() => {});
  });
  // A start that a signal interrupts may be as good as done, and would leave its socket behind.
  const daemon = await Promise.race([starting, signal.then(() => Promise.race([starting, pause(lastMomentMs)]))]);
  if (!daemon) exitNow(0);
  stdout(`Listening on ${daemon.address}\n${hints(config, daemon.address)}`);
  const reason = await Promise.race([signal, daemon.broken]);
  if (reason instanceof Error) log.error(`Stopping, since only a new process can go on: ${reason.message}`);
  else log.info(`Stopping on ${reason}`);
  const cut = reason === "SIGINT" || reason === "SIGQUIT";
  if (cut) daemon.cut();
  await stop(daemon, cut ? hasty : orderly, log);
  daemon.finish();
  // process.exit would wait for a driver call in flight, and that of a lost GPU never returns.
  exitNow(reason instanceof Error ? 1 : 0);
}

/** Lets what is in flight finish, for so long, and unless a second signal comes. */
async function stop(daemon: Daemon, { refuseMs, endMs }: typeof orderly | typeof hasty, log: Log): Promise<void> {
  const late = pause(endMs).then(() => `after ${endMs / 1000} s`);
  const again = nextSignal().then((second) => `${second} came as well`);
  const reason = await Promise.race([daemon.drain(refuseMs), late, again]);
  if (reason === undefined) return;
  const running = daemon.running();
  const left = running.length > 0 ? `; the driver is still at ${running.join(", ")}` : "";
  log.warn(`Ending without waiting any longer: ${reason}${left}`);
}

function pause(ms: number): Promise<undefined> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(undefined), ms);
  });
}

function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGQUIT"] as const) process.once(signal, resolve);
  });
}
