// The Unix socket: made without a moment of wrong permissions, in place of a stale one, handed to its owner.
import { constants } from "node:fs";
import { chmod, chown, lstat, mkdir, open, stat, unlink } from "node:fs/promises";
import type { Server } from "node:http";
import { connect } from "node:net";
import { dirname } from "node:path";
import type { UnixListener } from "../contract/config.ts";
import { StartError } from "../contract/errors.ts";
import type { Log } from "../contract/log.ts";
import { osErrorText } from "../contract/os-error.ts";
import { bound } from "./bind.ts";

/** The longest path that fits `sockaddr_un`; Node would cut a longer one and bind another file. */
const longestPath = 107;

/** Binds a socket that is never open to anyone whom its mode shall keep out. Throws a StartError. */
export async function listenUnix(server: Server, listener: UnixListener, log: Log): Promise<string> {
  const { path } = listener;
  if (path === "") throw new StartError("The path of the Unix socket is empty; give one with --socket-path");
  if (Buffer.byteLength(path) > longestPath) {
    throw new StartError(
      `path must be shorter than SUN_LEN: '${path}' has over ${longestPath} bytes; choose a shorter --socket-path`,
    );
  }
  await clearStaleSocket(path, log);
  await createFolder(dirname(path)).catch((error: unknown) => {
    throw new StartError(
      `Cannot create the directory of '${path}': ${osErrorText(error)}; create it, or choose another --socket-path`,
    );
  });
  await bindClosed(server, path);
  try {
    await handOver(listener);
  } catch (error) {
    server.close();
    const text = `Cannot set the owner or mode of '${path}': ${osErrorText(error)}; check --socket-uid, --socket-gid and --socket-permissions, and who else writes to its directory`;
    throw new StartError(text, { cause: error });
  }
  return path;
}

/** Like `mkdir -p`; Node's own never returns where a parent cannot be made, as under /proc. */
async function createFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder);
  } catch (error) {
    if (await isFolder(folder)) return;
    if (!isMissing(error) || dirname(folder) === folder) throw error;
    await createFolder(dirname(folder));
    await mkdir(folder);
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Linux's O_PATH: a handle on the file itself, whatever its mode. */
const O_PATH = 0o10_000_000;

/**
 * Gives the socket its mode, then its owner. Not by its path: whoever may write to its directory could put a link to
 * another file there meanwhile.
 */
async function handOver({ path, permissions, uid, gid }: UnixListener): Promise<void> {
  const file = await open(path, O_PATH | constants.O_NOFOLLOW);
  try {
    if (!(await file.stat()).isSocket()) throw new Error("it is not the socket any more");
    const itself = `/proc/self/fd/${file.fd}`;
    await chmod(itself, permissions);
    // -1 leaves an owner as it is.
    if (uid !== undefined || gid !== undefined) await chown(itself, uid ?? -1, gid ?? -1);
  } finally {
    await file.close();
  }
}

/** The file is born with mode 000, so that nobody connects before it has its owner and mode. Node binds within the call. */
async function bindClosed(server: Server, path: string): Promise<void> {
  const bind = (): void => {
    const umask = process.umask(0o777);
    try {
      server.listen({ path });
    } finally {
      process.umask(umask);
    }
  };
  await bound(server, bind, `'${path}'`, "choose another --socket-path");
}

/** Removes a socket that nobody listens on. Throws a StartError if the path is taken by anything else. */
export async function clearStaleSocket(path: string, log: Log): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (!found) return;
  if (!found.isSocket()) {
    throw new StartError(
      `Socket path is occupied by a non-socket file: '${path}'; move it away, or choose another --socket-path`,
    );
  }
  const outcome = await tryConnect(path);
  // A full queue of connections is one that somebody will take from.
  if (outcome === "connected" || outcome === "EAGAIN") {
    throw new StartError(
      `Socket is in use by another process: '${path}'; stop that one, or choose another --socket-path`,
    );
  }
  if (outcome !== "ECONNREFUSED") {
    throw new StartError(
      `Socket file already exists: '${path}' (${outcome}); remove it if no daemon uses it, or choose another --socket-path`,
    );
  }
  await unlink(path).catch((error: unknown) => {
    const text = `Cannot remove the stale socket '${path}': ${osErrorText(error)}; remove it as its owner, or choose another --socket-path`;
    throw new StartError(text, { cause: error });
  });
  log.warn(`Removed the socket '${path}', which a daemon that ended without cleaning up had left behind`);
}

function tryConnect(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.once("connect", () => {
      socket.destroy();
      resolve("connected");
    });
  });
}
