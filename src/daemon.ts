// The composition root: builds every part, and stops what has to be stopped.
import type { Access } from "./access/guard.ts";
import { readSigningKey } from "./access/signing-key.ts";
import { createTokenVerifier } from "./access/token.ts";
import type { Backends } from "./backends/select.ts";
import type { Clock } from "./contract/clock.ts";
import type { Config, TcpListener } from "./contract/config.ts";
import { StartError, ZeusdError } from "./contract/errors.ts";
import type { Log } from "./contract/log.ts";
import type { Fleet } from "./devices/fleet.ts";
import { createDaemonRoutes, discover } from "./http/daemon-routes.ts";
import { createHandler, type Handler } from "./http/handle.ts";
import { fittingConnections } from "./http/open-files.ts";
import { isLoopback, listen, resolveHost } from "./http/listen.ts";
import { createRequestIds } from "./http/request-id.ts";
import { createRoutes } from "./http/routes.ts";
import { HttpServer } from "./http/server.ts";
import { createPathWire } from "./http/wire/path-style.ts";
import { createQueryWire } from "./http/wire/query-style.ts";
import { startFleet } from "./start-fleet.ts";

export interface DaemonParts {
  readonly version: string;
  readonly clock: Clock;
  readonly log: Log;
  /** The effective uid; 0 is root. */
  readonly euid: number;
  /** How many threads there are for driver calls; by default any number. */
  readonly threads?: number;
  /** What drives the devices; by default what the configuration selects. */
  readonly backends?: Backends;
}

export interface Daemon {
  /** Where it listens, as the `Listening on` line shows it. */
  readonly address: string;
  /** Settles when the daemon cannot go on, with the reason. */
  readonly broken: Promise<Error>;
  /**
   * Answers what is running, refuses what comes, ends all streams; settles when nothing is left to do. What has not ended
   * after `patienceMs` is refused as well.
   */
  drain(patienceMs: number): Promise<void>;
  /** Cuts every connection at once. */
  cut(): void;
  /** The driver calls in flight, in words. */
  running(): readonly string[];
}

/** Throws a StartError that says what was tried and what to do. */
export async function startDaemon(config: Config, parts: DaemonParts): Promise<Daemon> {
  const { log, clock } = parts;
  const { handler, fleet, broken } = await assemble(config, parts);
  const { maxStreams } = config;
  const maxConnections = await fittingConnections(config.maxConnections, log);
  const nextRequestId = createRequestIds();
  const http = new HttpServer({ handler, clock, log, nextRequestId, maxConnections, maxStreams });
  const address = await listen(http.server, await checkedListener(config, log), log);
  return {
    address,
    broken,
    async drain(patienceMs) {
      const late = new ZeusdError("stopping", "The daemon is stopping, and what ran before has not returned.");
      const cancel = clock.after(patienceMs, () => fleet.refuseAll(late));
      await http.drain();
      await fleet.idle();
      cancel();
    },
    cut: () => http.cut(),
    running: () => fleet.running(),
  };
}

interface Assembly {
  readonly handler: Handler;
  readonly fleet: Fleet;
  readonly broken: Promise<Error>;
}

/** Everything that answers a request, without a listener. */
export async function assemble(config: Config, parts: DaemonParts): Promise<Assembly> {
  const { clock, log } = parts;
  checkPrivileges(config, parts.euid);
  log.info(`Enabled API groups: ${config.enabledGroups.join(", ")}`);
  const access = await createAccess(config, clock, log);
  let breakDown: (reason: Error) => void = nobodyListens;
  const broken = new Promise<Error>((resolve) => {
    breakDown = resolve;
  });
  const fleet = await startFleet(config, parts, breakDown);
  log.info("Started all device tasks", { gpus: fleet.gpus.length, cpus: fleet.cpus.length });
  return { handler: buildHandler(config, parts, access, fleet), fleet, broken };
}

function nobodyListens(): void {}

/** What changes a setting and what reads RAPL needs root, unless nothing of it is real. */
function checkPrivileges(config: Config, euid: number): void {
  if (euid === 0 || config.allowUnprivileged) return;
  const simulated = config.gpuBackend === "sim";
  const free = {
    "gpu-control": simulated,
    "cpu-read": simulated || config.powercapRoot !== undefined,
    "gpu-read": true,
  };
  const needy = config.enabledGroups.find((group) => !free[group]);
  if (needy === undefined) return;
  throw new StartError(
    `Zeusd must be run as root: API group '${needy}' requires root but Zeusd is not running as root; ` +
      "start it with sudo, or, on a --socket-path that you may write to, with --enable gpu-read or with --sim 8xh100",
  );
}

async function createAccess(config: Config, clock: Clock, log: Log): Promise<Access> {
  const { enabledGroups, signingKeyPath, allowShortSigningKey } = config;
  if (signingKeyPath === undefined) return { enabledGroups };
  const key = await readSigningKey(signingKeyPath, log, allowShortSigningKey);
  return { enabledGroups, tokens: createTokenVerifier(key, clock) };
}

function buildHandler(config: Config, { clock, log, version }: DaemonParts, access: Access, fleet: Fleet): Handler {
  const { gpuStreamFormat } = config;
  const wires = { query: createQueryWire(clock), path: createPathWire() };
  const own = { access, fleet, clock, wire: wires.query, version, gpuStreamFormat };
  log.info(`Discovery: ${JSON.stringify(JSON.stringify(discover(own)))}`);
  const routes = createRoutes(wires, createDaemonRoutes(own));
  return createHandler({ routes, access, fleet, clock, log, gpuStreamFormat });
}

/** A TCP address that other machines can reach needs tokens, or a flag that says that it shall be open. */
async function checkedListener(config: Config, log: Log): Promise<Config["listener"]> {
  const { listener, signingKeyPath } = config;
  if (listener.mode === "uds") return listener;
  const resolved: TcpListener = { ...listener, host: await resolveHost(listener.host) };
  if (signingKeyPath !== undefined) return resolved;
  if (!isLoopback(resolved.host) && !config.allowUnauthenticatedTcp) {
    throw new StartError(
      `Refusing to listen on ${listener.host}:${listener.port} without authentication, since other machines could change GPU settings; ` +
        "give --signing-key-path, or --allow-unauthenticated-tcp to leave it open",
    );
  }
  log.warn(
    "Running in TCP mode without authentication. Any program that can reach the address can use every enabled API group.",
  );
  return resolved;
}
