// What the command line decides: the daemon's configuration, complete and checked.
import type { ApiGroup } from "./operations.ts";

export const gpuBackends = ["auto", "nvml", "sim"] as const;
export type GpuBackendName = (typeof gpuBackends)[number];

export const gpuStreamFormats = ["v1", "v2"] as const;
/** How GPU power events look: as in 0.3 and 0.4 (v1), or as from 0.5 on (v2). No client reads both. */
export type GpuStreamFormat = (typeof gpuStreamFormats)[number];

/** What becomes of leases when the daemon stops: they end, and what they changed is put back, or the next start takes them on. */
export const onStops = ["restore", "keep"] as const;
export type OnStop = (typeof onStops)[number];

export const logLevels = ["error", "warn", "info", "debug"] as const;
export type LogLevel = (typeof logLevels)[number];
export const logFormats = ["text", "json"] as const;
export type LogFormat = (typeof logFormats)[number];

export interface UnixListener {
  readonly mode: "uds";
  readonly path: string;
  readonly permissions: number;
  readonly uid?: number;
  readonly gid?: number;
}

export interface TcpListener {
  readonly mode: "tcp";
  readonly host: string;
  readonly port: number;
}

export interface Config {
  readonly listener: UnixListener | TcpListener;
  readonly enabledGroups: readonly ApiGroup[];
  /** The 0.1 form's `--allow-unprivileged`: start without root, and let the driver refuse what it refuses. */
  readonly allowUnprivileged: boolean;
  readonly signingKeyPath?: string;
  readonly allowShortSigningKey: boolean;
  readonly allowUnauthenticatedTcp: boolean;
  /** Ids, digests and subjects of tokens that are refused; read again on SIGHUP. */
  readonly revokedTokensPath?: string;
  /** Where pages in a browser may come from besides this machine: origins or host names. */
  readonly allowedOrigins: readonly string[];
  /** Who may do what; read again on SIGHUP. Without one, everyone who can connect may use what is enabled. */
  readonly policyPath?: string;
  /** A file, or `journal`. */
  readonly auditLog?: string;
  /** Refuse writes that cannot be written down. */
  readonly auditRequired: boolean;
  /** Where leases are remembered over restarts; absent means that they are not. */
  readonly stateDir?: string;
  /** Whether it was asked for, so that there is no starting without it. */
  readonly stateDirRequired: boolean;
  /** Whether what a process changes over the Unix socket is put back when it ends, where the policy does not say otherwise. */
  readonly restoreOnExit: boolean;
  readonly onStop: OnStop;
  /** How often what should be set is held against what is, in seconds; 0 is never. */
  readonly driftCheckS: number;
  /** Whether what was changed behind the daemon's back is put right. */
  readonly reassert: boolean;
  readonly gpuBackend: GpuBackendName;
  /** The simulated machine, for example `8xh100`. */
  readonly sim: string;
  /** Where RAPL is looked for; absent means the system's own place. */
  readonly powercapRoot?: string;
  readonly gpuPowerPollHz: number;
  readonly cpuPowerPollHz: number;
  readonly gpuStreamFormat: GpuStreamFormat;
  /** How long a request waits, and how long a driver call may run before its lane counts as stuck, in ms. */
  readonly deviceTimeoutMs: number;
  /** How long the event loop stays awake when something is about to happen, in µs; 0 is never. */
  readonly busyPollUs: number;
  readonly maxConnections: number;
  readonly maxStreams: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}
