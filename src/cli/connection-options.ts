// Where the daemon is that a subcommand asks: its flags.
import { Option } from "commander";
import type { Where } from "../client/connect.ts";
import { defaultSocket } from "./serve-options.ts";

export type ConnectionFlags = Where;

/** Where a daemon may be if nobody says: the first of these that exists. */
export const usualSockets = [defaultSocket.serve, defaultSocket.plain];

export function connectionOptions(): readonly Option[] {
  return [
    new Option("--socket-path <path>", "where the daemon listens (default: ZEUSD_SOCK_PATH, or the usual places)"),
    new Option(
      "--host-port <host:port>",
      "the same over TCP (default: ZEUSD_HOST_PORT); ZEUSD_TOKEN is sent",
    ).conflicts("socketPath"),
  ];
}
