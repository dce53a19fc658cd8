// Listens: on a Unix socket or on a TCP address.
import { lookup } from "node:dns/promises";
import type { Server } from "node:http";
import { isIPv4 } from "node:net";
import type { TcpListener, UnixListener } from "../contract/config.ts";
import { StartError } from "../contract/errors.ts";
import type { Log } from "../contract/log.ts";
import { osErrorText } from "../contract/os-error.ts";
import { bound } from "./bind.ts";
import { clearStaleSocket, listenUnix } from "./unix-socket.ts";

/** Throws a StartError if another daemon has the place: before anything of its state is touched. */
export async function requirePlace(listener: UnixListener | TcpListener, log: Log): Promise<void> {
  if (listener.mode === "uds") await clearStaleSocket(listener.path, log);
}

/** Binds and returns the address that was bound, as the `Listening on` line shows it. Throws a StartError. */
export async function listen(server: Server, listener: UnixListener | TcpListener, log: Log): Promise<string> {
  const address = await (listener.mode === "uds" ? listenUnix(server, listener, log) : listenTcp(server, listener));
  server.on("error", (error) => log.warn(`Accepting a connection failed: ${osErrorText(error)}`));
  return address;
}

async function listenTcp(server: Server, { host, port }: TcpListener): Promise<string> {
  await bound(server, () => server.listen(port, host), `${host}:${port}`, "choose another --tcp-bind-address");
  const address = server.address();
  if (address === null || typeof address === "string") return `${host}:${port}`;
  return isIPv4(address.address) ? `${address.address}:${address.port}` : `[${address.address}]:${address.port}`;
}

/** Resolves names, so that what is bound is what was checked. Throws a StartError for a name that is not known. */
export async function resolveHost(host: string): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw new StartError(
      `Cannot resolve '${host}': ${osErrorText(error)}; give --tcp-bind-address an address of this machine`,
      { cause: error },
    );
  }
}

/** Whether only programs on this machine can reach the address. */
export function isLoopback(address: string): boolean {
  return address === "::1" || (isIPv4(address) && address.startsWith("127."));
}
