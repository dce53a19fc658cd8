// The system journal's socket: entries with fields of their own, in systemd's native protocol.
import { closeSync } from "node:fs";
import { constants } from "node:os";
import { lastErrno, openLibrary, systemError } from "./koffi.ts";

/** Sends entries to systemd-journald. Never blocks. */
export interface JournalSocket {
  /**
   * Field names have upper-case letters, digits and underscores. Throws an Error, with `code` and `errno` where the system
   * says no: EAGAIN if the journal does not keep up, ECONNREFUSED or ENOENT if there is none, EMSGSIZE if the entry is too
   * long (some 200 kB). An entry is sent whole or not at all.
   */
  send(fields: Readonly<Record<string, string>>): void;
  close(): void;
}

/** Sources: socket(2), send(2), unix(7). */
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** What `sun_path` has room for, with the NUL that ends it. */
const longestPathBytes = 107;

/** What a socket says whose receiver is gone: first that it is, then that there is none. */
const { ECONNREFUSED, ECONNRESET, ENOTCONN, EPIPE } = constants.errno;
const receiverGone: ReadonlySet<number> = new Set([ECONNREFUSED, ECONNRESET, ENOTCONN, EPIPE]);

/** Throws an Error, with `code` and `errno` as above, if nothing receives at `path`. */
export function openJournal(path = "/run/systemd/journal/socket"): JournalSocket {
  const calls = bindCalls(path);
  let open: number | undefined = calls.open();

  return {
    send(fields) {
      if (open === undefined) throw new Error("The journal's socket is closed");
      const entry = entryOf(fields);
      const errno = calls.send(open, entry);
      if (errno === 0) return;
      if (!receiverGone.has(errno)) throw systemError(errno, `send '${path}'`);
      // The journal was started anew, and listens at another socket of the same path.
      calls.connect(open);
      const again = calls.send(open, entry);
      if (again !== 0) throw systemError(again, `send '${path}'`);
    },
    close() {
      const closing = open;
      open = undefined;
      if (closing !== undefined) closeSync(closing);
    },
  };
}

function bindCalls(path: string) {
  const address = addressOf(path);
  const library = openLibrary(null);
  const connectTo = library.func("int connect(int fd, const uint8_t *address, uint32_t bytes)");
  const sendTo = library.func("intptr_t send(int fd, const uint8_t *message, size_t bytes, int flags)");

  function connect(descriptor: number): void {
    if (connectTo(descriptor, address, address.length) !== 0) throw systemError(lastErrno(), `connect '${path}'`);
  }

  return {
    connect,
    /** A connected socket. */
    open(): number {
      const socket = library.func("int socket(int family, int type, int protocol)");
      const descriptor = Number(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (descriptor < 0) throw systemError(lastErrno(), "socket");
      try {
        connect(descriptor);
      } catch (error) {
        closeSync(descriptor);
        throw error;
      }
      return descriptor;
    },
    /** The errno, 0 for success. */
    send(descriptor: number, message: Buffer): number {
      return Number(sendTo(descriptor, message, message.length, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0 ? lastErrno() : 0;
    },
  };
}

/** `struct sockaddr_un`. Throws an Error if the path does not fit: what is left of it would be another socket's. */
function addressOf(path: string): Buffer {
  const bytes = Buffer.byteLength(path);
  if (bytes === 0 || bytes > longestPathBytes || path.includes("\0"))
    throw new Error(
      `The path of the journal's socket has to have 1 to ${longestPathBytes} bytes and no NUL: '${path}'`,
    );
  const address = Buffer.alloc(2 + bytes + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(path, 2);
  return address;
}

/** Source: systemd's "Native Journal Protocol", https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ */
function entryOf(fields: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(Object.entries(fields).map(([name, value]) => fieldOf(name, value)));
}

function fieldOf(name: string, value: string): Buffer {
  // The journal would drop other names in silence, and a line break in one would forge a field.
  if (!/^[A-Z][A-Z0-9_]{0,63}$/.test(name)) throw new Error(`The journal takes no field ${JSON.stringify(name)}`);
  if (!value.includes("\n")) return Buffer.from(`${name}=${value}\n`);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(Buffer.byteLength(value)));
  return Buffer.concat([Buffer.from(`${name}\n`), size, Buffer.from(`${value}\n`)]);
}
