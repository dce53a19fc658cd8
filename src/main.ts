// The program: gives the command line what it starts, and turns signals into an orderly end.
import { createRequire } from "node:module";
import { runCommandLine } from "./cli/parse.ts";
import { hints } from "./cli/hints.ts";
import type { PolicyCommandParts } from "./cli/policy.ts";
import { issue } from "./cli/token-options.ts";
import { systemClock } from "./contract/clock.ts";
import type { Config } from "./contract/config.ts";
import type { Log } from "./contract/log.ts";
import { startDaemon, type Daemon } from "./daemon.ts";
import { exitNow } from "./native/libc.ts";
import { createNameService } from "./native/names.ts";
import { createLineWriter } from "./telemetry/line-writer.ts";
import { createLog } from "./telemetry/log.ts";

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
  programs: {
    serve,
    async issueToken(flags) {
      const log = createLog({ level: "warn", format: "text", write: stderr });
      const { token, note } = await issue(flags, systemClock, log);
      stdout(`${token}\n`);
      stderr(`${note}\n`);
    },
    checkPolicy: async (path) => (await import("./cli/policy.ts")).checkPolicy(path, policyParts()),
    explainPolicy: async (flags) => (await import("./cli/policy.ts")).explainPolicy(flags, policyParts()),
  },
});

process.exitCode = exitCode;
// A driver call that hung at the start must not keep a start alive that failed.
if (exitCode === 1) exitNow(exitCode);

function policyParts(): PolicyCommandParts {
  const people = createNameService();
  return { people, euid: process.geteuid?.() ?? 0, token: process.env["ZEUSD_TOKEN"], stdout };
}

/** Serves until a signal ends it; never returns. */
async function serve(config: Config): Promise<void> {
  const log = createLog({ level: config.logLevel, format: config.logFormat, write: stderr });
  const euid = process.geteuid?.() ?? 0;
  const signal = nextSignal();
  // zeusd.cts has set it.
  const threads = Number(process.env["UV_THREADPOOL_SIZE"]);
  const starting = startDaemon(config, { version, clock: systemClock, log, euid, threads });
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
