// A daemon on a Unix socket of its own, in the test's process, that ends with its test.
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import type { Config } from "../../src/contract/config.ts";
import { startDaemon, type Daemon } from "../../src/daemon.ts";
import { createFolder } from "../folder.ts";
import { createQuietLog } from "../quiet-log.ts";
import type { FakeMachine } from "./fake-machine.ts";
import { testConfig } from "./test-config.ts";

export interface SocketDaemon {
  readonly daemon: Daemon;
  readonly path: string;
  /** What it has logged so far. */
  readonly logged: readonly string[];
}

export async function startOnSocket({ backends }: FakeMachine, config: Partial<Config> = {}): Promise<SocketDaemon> {
  const path = join(createFolder(), "zeusd.sock");
  const log = createQuietLog();
  const parts = { version: "1.2.3", clock: systemClock, log, euid: process.geteuid?.() ?? 0, backends };
  const listener = { mode: "uds", path, permissions: 0o600 } as const;
  const daemon = await startDaemon(testConfig({ ...config, listener }), parts);
  onTestFinished(async () => {
    daemon.cut();
    await daemon.drain(1_000);
  });
  return { daemon, path, logged: log.lines };
}
