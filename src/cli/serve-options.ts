// The flags of the daemon, and the configuration that they make.
import { type Command, Option } from "commander";
import {
  gpuBackends,
  gpuStreamFormats,
  logFormats,
  logLevels,
  type Config,
  type GpuBackendName,
  type GpuStreamFormat,
  type LogFormat,
  type LogLevel,
  type TcpListener,
  type UnixListener,
} from "../contract/config.ts";
import { StartError } from "../contract/errors.ts";
import { apiGroups, type ApiGroup } from "../contract/operations.ts";
import { U32_MAX } from "../contract/field.ts";
import { leaseKeeping, leaseKeepingOptions, type LeaseKeepingFlags } from "./lease-keeping.ts";
import { addOptions, listOf, origin, wholeNumber } from "./options.ts";

/** 0.1 has no subcommand and binds another path; `serve` came with 0.4. */
export type Form = "plain" | "serve";

/** Where the daemon listens by default. */
export const defaultSocket = { plain: "/var/run/zeusd.sock", serve: "/run/zeusd/zeusd.sock" } as const satisfies Record<
  Form,
  string
>;

interface ServeFlags extends LeaseKeepingFlags {
  readonly mode: "uds" | "tcp";
  readonly socketPath: string;
  readonly socketPermissions: string;
  readonly socketUid?: number;
  readonly socketGid?: number;
  readonly tcpBindAddress: string;
  readonly allowUnprivileged?: boolean;
  readonly gpuPowerPollHz: number;
  readonly cpuPowerPollHz: number;
  readonly enable: readonly ApiGroup[];
  readonly signingKeyPath?: string;
  readonly allowShortSigningKey?: boolean;
  readonly allowUnauthenticatedTcp?: boolean;
  readonly revokedTokens?: string;
  readonly allowOrigin: readonly string[];
  readonly policy?: string;
  readonly auditLog?: string;
  readonly auditRequired?: boolean;
  readonly gpuBackend: GpuBackendName | "amdsmi";
  readonly gpuCommandOverrides?: string;
  readonly sim?: string;
  readonly powercapRoot?: string;
  readonly gpuStreamFormat: GpuStreamFormat;
  readonly deviceTimeoutMs: number;
  readonly busyPollUs: number;
  readonly maxConnections: number;
  readonly maxStreams: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

const machineHelp = "simulate this machine, e.g. 8xh100, 4xa100, 1xrtx4090 (implies --gpu-backend sim)";

/** Adds the flags of the daemon to the command that starts it. */
export function addServeOptions(command: Command, argv: readonly string[], form: Form, env: NodeJS.ProcessEnv): void {
  const hz = wholeNumber(0, 1_000_000);
  const options = [
    ...listenerOptions(form),
    new Option("--num-workers <n>", "threads for driver calls, if more than 64").argParser(wholeNumber(1, 1024)),
    new Option("--gpu-power-poll-hz <hz>", "how often a streamed GPU's power is read").argParser(hz).default(20),
    new Option("--cpu-power-poll-hz <hz>", "how often a streamed CPU's power is read").argParser(hz).default(10),
    new Option("--signing-key-path <path>", "require tokens signed with this key file"),
    new Option("--allow-short-signing-key", "accept a signing key under 32 bytes"),
    new Option("--allow-unauthenticated-tcp", "accept TCP from other machines without tokens"),
    new Option("--revoked-tokens <path>", "refuse the tokens that this file names; read again on SIGHUP"),
    new Option("--policy <path>", "who may do what, and within which bounds (TOML); read again on SIGHUP"),
    new Option("--audit-log <path>", "write down every change and refusal; journal is the system's"),
    new Option("--audit-required", "refuse changes that cannot be written down"),
    ...leaseKeepingOptions(),
    new Option("--gpu-backend <name>", "which library drives the GPUs")
      .choices([...gpuBackends, "amdsmi"])
      .default("auto"),
    new Option("--gpu-command-overrides <path>", "commands to run instead of driver calls (not supported yet)"),
    new Option("--sim <machine>", machineHelp),
    new Option("--powercap-root <dir>", "where to look for intel-rapl:N instead of /sys/class/powercap/intel-rapl"),
    new Option("--gpu-stream-format <format>", "GPU power events for clients of 0.3 and 0.4 (v1) or 0.5 and later (v2)")
      .choices(gpuStreamFormats)
      .default("v2"),
    new Option(
      "--device-timeout-ms <ms>",
      "answer 504 after this long; a driver call that takes longer makes its GPU stuck",
    )
      .argParser(wholeNumber(1, 100_000))
      .default(4000),
    new Option("--busy-poll-us <us>", "stay awake this long for what is about to happen; 0 sleeps at once")
      .argParser(wholeNumber(0, 10_000))
      .default(200),
    new Option("--max-connections <n>", "more are answered with 503")
      .argParser(wholeNumber(1, 1_000_000))
      .default(4096),
    new Option("--max-streams <n>", "more are answered with 503").argParser(wholeNumber(1, 1_000_000)).default(256),
    new Option("--log-level <level>", "least level that is logged, on stderr; RUST_LOG is read too")
      .choices(logLevels)
      .default(levelOf(env["RUST_LOG"])),
    new Option("--log-format <format>", "how a log line looks").choices(logFormats).default("text"),
  ];
  if (form === "plain") options.push(new Option("--allow-unprivileged", "start without root"));
  const enable = new Option("--enable <groups>", `API groups to serve: ${apiGroups.join(", ")}`).argParser(
    listOf(apiGroups),
  );
  const origins = new Option(
    "--allow-origin <origin>",
    "take requests of pages from this origin or host; may be repeated",
  );
  addOptions(command, argv, options, [
    enable.default(apiGroups, apiGroups.join(",")),
    origins.argParser(origin()).default([], "this machine"),
  ]);
}

function listenerOptions(form: Form): readonly Option[] {
  const id = wholeNumber(0, U32_MAX);
  return [
    new Option("--mode <mode>", "listen on a Unix socket or on TCP").choices(["uds", "tcp"]).default("uds"),
    new Option("--socket-path <path>", "path of the Unix socket").default(defaultSocket[form]),
    new Option("--socket-permissions <octal>", "mode of the Unix socket").default("666"),
    new Option("--socket-uid <uid>", "owner of the Unix socket").argParser(id),
    new Option("--socket-gid <gid>", "group of the Unix socket").argParser(id),
    new Option("--tcp-bind-address <host:port>", "TCP address; port 0 takes a free one").default("127.0.0.1:4938"),
  ];
}

/** The original reads its level from RUST_LOG, and takes what it does not understand as `info`. */
function levelOf(text: string | undefined): LogLevel {
  return logLevels.find((level) => level === text?.toLowerCase()) ?? "info";
}

/** Throws a StartError for what only makes sense together, or is not supported. */
export function toConfig(flags: ServeFlags): Config {
  const listener = flags.mode === "uds" ? unixListener(flags) : tcpListener(flags);
  return {
    listener,
    enabledGroups: flags.enable,
    allowUnprivileged: flags.allowUnprivileged ?? false,
    ...(flags.signingKeyPath === undefined ? {} : { signingKeyPath: flags.signingKeyPath }),
    allowShortSigningKey: flags.allowShortSigningKey ?? false,
    allowUnauthenticatedTcp: flags.allowUnauthenticatedTcp ?? false,
    ...revocations(flags),
    allowedOrigins: flags.allowOrigin,
    ...(flags.policy === undefined ? {} : { policyPath: flags.policy }),
    ...audit(flags),
    ...leaseKeeping(flags, { listener, enabledGroups: flags.enable }),
    gpuBackend: gpuBackend(flags),
    sim: flags.sim ?? "8xh100",
    ...(flags.powercapRoot === undefined ? {} : { powercapRoot: flags.powercapRoot }),
    // 0 behaves as 1, as in the original.
    gpuPowerPollHz: Math.max(1, flags.gpuPowerPollHz),
    cpuPowerPollHz: Math.max(1, flags.cpuPowerPollHz),
    gpuStreamFormat: flags.gpuStreamFormat,
    deviceTimeoutMs: flags.deviceTimeoutMs,
    busyPollUs: flags.busyPollUs,
    maxConnections: flags.maxConnections,
    maxStreams: flags.maxStreams,
    logLevel: flags.logLevel,
    logFormat: flags.logFormat,
  };
}

function revocations({ revokedTokens, signingKeyPath }: ServeFlags): Pick<Config, "revokedTokensPath"> {
  if (revokedTokens === undefined) return {};
  if (signingKeyPath === undefined)
    throw new StartError("--revoked-tokens says nothing where no token is needed; give --signing-key-path as well");
  return { revokedTokensPath: revokedTokens };
}

function audit({ auditLog, auditRequired = false }: ServeFlags): Pick<Config, "auditLog" | "auditRequired"> {
  if (auditRequired && auditLog === undefined)
    throw new StartError("--audit-required needs a place to write to; give --audit-log a path, or journal");
  return auditLog === undefined ? { auditRequired } : { auditLog, auditRequired };
}

function gpuBackend({ gpuBackend: name, gpuCommandOverrides, sim }: ServeFlags): GpuBackendName {
  if (gpuCommandOverrides !== undefined) {
    throw new StartError("--gpu-command-overrides is not supported by this version; start without it");
  }
  if (name === "amdsmi") {
    throw new StartError("--gpu-backend amdsmi is not supported by this version; use nvml, sim or auto");
  }
  if (sim === undefined) return name;
  if (name === "nvml") throw new StartError("--sim cannot be combined with --gpu-backend nvml; leave one of them out");
  return "sim";
}

function unixListener({ socketPath, socketPermissions, socketUid, socketGid }: ServeFlags): UnixListener {
  if (!/^[0-7]{1,11}$/.test(socketPermissions) || Number.parseInt(socketPermissions, 8) > 0o7777) {
    const text = "Failed to parse socket permissions: invalid digit found in string";
    throw new StartError(`${text} '${socketPermissions}'; give --socket-permissions as octal digits, e.g. 660`);
  }
  return {
    mode: "uds",
    path: socketPath,
    permissions: Number.parseInt(socketPermissions, 8),
    ...(socketUid === undefined ? {} : { uid: socketUid }),
    ...(socketGid === undefined ? {} : { gid: socketGid }),
  };
}

function tcpListener({ tcpBindAddress }: ServeFlags): TcpListener {
  const [, host, port] = /^\[?([^[\]]+?)\]?:([^:]*)$/.exec(tcpBindAddress) ?? [];
  if (host === undefined) {
    throw new StartError(
      `invalid socket address '${tcpBindAddress}'; give --tcp-bind-address as host:port, e.g. 127.0.0.1:4938`,
    );
  }
  if (!/^\d{1,5}$/.test(port ?? "") || Number(port) > 65_535) {
    throw new StartError(`invalid port value '${port}' in '${tcpBindAddress}'; a port is a number from 0 to 65535`);
  }
  return { mode: "tcp", host, port: Number(port) };
}
