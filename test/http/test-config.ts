// The configuration of a daemon under test: the defaults, but quick to poll and on a free port.
import type { Config } from "../../src/contract/config.ts";
import { apiGroups } from "../../src/contract/operations.ts";

export function testConfig(over: Partial<Config>): Config {
  return {
    listener: { mode: "tcp", host: "127.0.0.1", port: 0 },
    enabledGroups: apiGroups,
    allowUnprivileged: true,
    allowShortSigningKey: false,
    allowUnauthenticatedTcp: false,
    allowedOrigins: [],
    auditRequired: false,
    restoreOnExit: false,
    onStop: "restore",
    driftCheckS: 0,
    reassert: false,
    stateDirRequired: false,
    gpuBackend: "auto",
    sim: "2xh100",
    gpuPowerPollHz: 100,
    cpuPowerPollHz: 100,
    gpuStreamFormat: "v2",
    deviceTimeoutMs: 4_000,
    busyPollUs: 0,
    maxConnections: 100,
    maxStreams: 10,
    logLevel: "info",
    logFormat: "text",
    ...over,
  };
}
