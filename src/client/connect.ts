// A daemon to ask: where it is, by flags or by the environment as for the Python library, and what to do if it is not there.
import { existsSync } from "node:fs";
import { messageOf } from "../contract/errors.ts";
import { ask, type Answer, type Place } from "./ask.ts";
import { Refusal } from "./refusal.ts";

/** What a person says of where the daemon is. */
export interface Where {
  readonly socketPath?: string | undefined;
  /** `host:port`. */
  readonly hostPort?: string | undefined;
}

/** ZEUSD_SOCK_PATH, ZEUSD_HOST_PORT and ZEUSD_TOKEN are read of it. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface Daemon {
  /** What to call it in a message: its path, or its host and port. */
  readonly name: string;
  readonly transport: "unix" | "tcp";
  /** Rejects with an Error whose message is one sentence, also where a token is missing. */
  ask(method: "GET" | "POST", target: string, patienceMs?: number): Promise<Answer>;
}

/**
 * Flags win over the environment. Without either, the first of `sockets` that exists. Throws an Error for what is no place;
 * whether somebody listens there shows when it is asked.
 */
export function connect(where: Where, env: Environment, sockets: readonly string[]): Daemon {
  const place = placeOf(where, env, sockets);
  const name = "socketPath" in place ? place.socketPath : `${bracketed(place.host)}:${place.port}`;
  const token = env["ZEUSD_TOKEN"] || undefined;
  return {
    name,
    transport: "socketPath" in place ? "unix" : "tcp",
    async ask(method, target, patienceMs) {
      const answer = await ask(place, { method, target, token, patienceMs }).catch((error: unknown) => {
        throw new Error(adviceOn(place, name, error), { cause: error });
      });
      if (answer.status === 401) {
        const advice = token === undefined ? "wants a token; give one in" : "does not take the token of";
        throw new Refusal(401, `The daemon at '${name}' ${advice} ZEUSD_TOKEN`);
      }
      return answer;
    },
  };
}

function placeOf({ socketPath, hostPort }: Where, env: Environment, sockets: readonly string[]): Place {
  if (socketPath !== undefined) return { socketPath: nonEmpty(socketPath, "--socket-path") };
  if (hostPort !== undefined) return addressOf(hostPort, "--host-port");
  if (env["ZEUSD_SOCK_PATH"]) return { socketPath: nonEmpty(env["ZEUSD_SOCK_PATH"], "ZEUSD_SOCK_PATH") };
  if (env["ZEUSD_HOST_PORT"]) return addressOf(env["ZEUSD_HOST_PORT"], "ZEUSD_HOST_PORT");
  const [first = ""] = sockets;
  return { socketPath: sockets.find((path) => existsSync(path)) ?? first };
}

function nonEmpty(path: string, source: string): string {
  if (path === "") throw new Error(`${source} is empty; it is the path of the daemon's socket`);
  return path;
}

function addressOf(text: string, source: string): Place {
  const [, inBrackets, plain, port] = /^(?:\[([^[\]]+)\]|([^[\]:]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = inBrackets ?? plain;
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new Error(`${source} must be host:port, e.g. 127.0.0.1:4938 or [::1]:4938, not '${text}'`);
  }
  return { host, port: Number(port) };
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

const elsewhere =
  "is zeusd running? If it listens elsewhere, say so with --socket-path or --host-port, or in ZEUSD_SOCK_PATH or ZEUSD_HOST_PORT";

function adviceOn(place: Place, name: string, error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const unix = "socketPath" in place;
  if (unix && code === "ENOENT") return `There is no socket '${name}': ${elsewhere}`;
  if (unix && code === "EACCES") {
    return `You may not use the socket '${name}': its owner, group and mode say who may (ls -l shows them); ask who runs zeusd here`;
  }
  if (code === "ECONNREFUSED") return `Nobody listens at '${name}': ${elsewhere}`;
  return `Cannot ask the daemon at '${name}': ${messageOf(error)}`;
}
