// The composition root: builds every part, and stops what has to be stopped.
import { hostname } from "node:os";
import { openAccess, type AccessParts, type OpenAccess } from "./access/access.ts";
import type { Access } from "./access/guard.ts";
import type { Names } from "./access/policy-file.ts";
import type { Backends } from "./backends/select.ts";
import type { Clock } from "./contract/clock.ts";
import type { Config, TcpListener } from "./contract/config.ts";
import { StartError, ZeusdError } from "./contract/errors.ts";
import { Events } from "./contract/events.ts";
import { Health } from "./contract/health.ts";
import { isPutBack } from "./contract/lease.ts";
import type { Log } from "./contract/log.ts";
import type { Fleet } from "./devices/fleet.ts";
import { createDaemonRoutes, discover } from "./http/daemon-routes.ts";
import { createHandler, type Handler } from "./http/handle.ts";
import { fittingConnections } from "./http/open-files.ts";
import { isLoopback, listen, requirePlace, resolveHost } from "./http/listen.ts";
import { createOriginGuard } from "./http/origin.ts";
import { createRequestIds } from "./http/request-id.ts";
import { createRoutes } from "./http/routes.ts";
import { HttpServer, type HttpServerParts } from "./http/server.ts";
import { createPathWire } from "./http/wire/path-style.ts";
import { createQueryWire } from "./http/wire/query-style.ts";
import { openJournal } from "./native/journal.ts";
import { createNameService } from "./native/names.ts";
import { createPeerReader } from "./native/peer.ts";
import type { Settings } from "./settings/settings.ts";
import { startFleet } from "./start-fleet.ts";
import { startSettings } from "./start-settings.ts";

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
  /** Who knows users and groups; by default the system's name service. */
  readonly names?: Names;
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
  /** Reads the policy and the revoked tokens again, and opens the audit log anew. Never rejects. */
  reload(): Promise<void>;
  /** Writes down what is still to be written down of commands that have ended. */
  finish(): void;
  /** Cuts every connection at once. */
  cut(): void;
  /** The driver calls in flight, in words. */
  running(): readonly string[];
}

/** Throws a StartError that says what was tried and what to do. */
export async function startDaemon(config: Config, parts: DaemonParts): Promise<Daemon> {
  const { log, clock } = parts;
  await requirePlace(config.listener, log);
  const { handler, fleet, settings, broken, reload, close } = await assemble(config, parts);
  const { maxStreams } = config;
  // On a Unix socket each connection comes with a handle on its process.
  const filesEach = config.listener.mode === "uds" ? 2 : 1;
  const maxConnections = await fittingConnections(config.maxConnections, filesEach, log);
  const listener = await checkedListener(config, log);
  const nextRequestId = createRequestIds();
  const limits = { maxConnections, maxStreams };
  const http = new HttpServer({ handler, clock, log, nextRequestId, ...limits, ...identification(listener, config) });
  const address = await listen(http.server, listener, log);
  return {
    address,
    broken,
    reload: () => reload(() => http.recheckStreams()),
    async drain(patienceMs) {
      const late = new ZeusdError("stopping", "The daemon is stopping, and what ran before has not returned.");
      const cancel = clock.after(patienceMs, () => fleet.refuseAll(late));
      const idle = http.drain().then(() => fleet.idle());
      // A GPU that hangs must not keep what leases have changed on the others.
      await Promise.race([idle, new Promise<void>((resolve) => void clock.after(patienceMs / 2, resolve))]);
      if (config.onStop === "restore") await endLeases(fleet, settings, log);
      await idle;
      cancel();
    },
    finish() {
      fleet.refuseAll(new ZeusdError("stopping", "The daemon has stopped."));
      fleet.stopReadingBack();
      close();
    },
    cut: () => http.cut(),
    running: () => fleet.running(),
  };
}

/** Puts back what leases have changed. What cannot be put back now is done by the next start, or by `zeusd restore`. */
async function endLeases(fleet: Fleet, settings: Settings, log: Log): Promise<void> {
  const ends = settings.leases.all.map((lease) => fleet.end(lease, "daemon_stopped"));
  for (const outcomes of await Promise.all(ends)) {
    for (const [id, outcome] of outcomes) {
      if (isPutBack(outcome)) continue;
      log.warn(`What leases have changed on GPU ${id} is not put back yet, which the next start does: ${outcome}`);
    }
  }
}

/** How connections and requests are told apart: by the process at the other end, or by the page that sent them. */
function identification(
  listener: Config["listener"],
  { allowedOrigins: allowed }: Config,
): Pick<HttpServerParts, "readPeer" | "originGuard" | "hostMatters"> {
  const hostName = hostname();
  if (listener.mode === "uds") {
    const originGuard = createOriginGuard({ hostName, allowed });
    return { readPeer: createPeerReader(), originGuard, hostMatters: false };
  }
  const loopback = isLoopback(listener.host);
  return { originGuard: createOriginGuard({ loopback, hostName, allowed }), hostMatters: loopback };
}

interface Assembly {
  readonly handler: Handler;
  readonly fleet: Fleet;
  readonly settings: Settings;
  readonly broken: Promise<Error>;
  readonly reload: OpenAccess["reload"];
  /** Writes down what is remembered, and what the audit has not written yet. */
  close(): void;
}

/** Everything that answers a request, without a listener. */
export async function assemble(config: Config, parts: DaemonParts): Promise<Assembly> {
  const { log } = parts;
  checkPrivileges(config, parts.euid);
  log.info(`Enabled API groups: ${config.enabledGroups.join(", ")}`);
  const health = new Health();
  const events = new Events(() => parts.clock.epochMs());
  const remembered = startSettings(config, { ...parts, health, events });
  const { settings } = remembered;
  const { access, reload, close } = await openAccess(config, accessParts(parts, health, settings));
  let breakDown: (reason: Error) => void = nobodyListens;
  const broken = new Promise<Error>((resolve) => {
    breakDown = resolve;
  });
  const fleet = await startFleet(config, parts, { events, health, settings, broken: breakDown });
  log.info("Started all device tasks", { gpus: fleet.gpus.length, cpus: fleet.cpus.length });
  const handler = buildHandler(config, parts, { access, fleet, health, events, settings });
  const closeAll = (): void => {
    close();
    remembered.close();
  };
  return { handler, fleet, settings, broken, reload, close: closeAll };
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

function accessParts({ clock, log, euid, names }: DaemonParts, health: Health, { leases }: Settings): AccessParts {
  return {
    clock,
    log,
    health,
    euid,
    names: names ?? createNameService(),
    openJournal,
    leases,
  };
}

interface Assembled {
  readonly access: Access;
  readonly fleet: Fleet;
  readonly health: Health;
  readonly events: Events;
  readonly settings: Settings;
}

function buildHandler(config: Config, { clock, log, version }: DaemonParts, assembled: Assembled): Handler {
  const { gpuStreamFormat } = config;
  const { access, fleet } = assembled;
  const wires = { query: createQueryWire(clock), path: createPathWire() };
  const own = { ...assembled, clock, wire: wires.query, version, gpuStreamFormat };
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
