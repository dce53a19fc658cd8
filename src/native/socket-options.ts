// What the kernel says of the process at a Unix socket's other end: the options of getsockopt(2) that Node does not offer.
import { constants } from "node:os";
import { lastErrno, openLibrary, systemError } from "./koffi.ts";

export interface Credentials {
  /** 0 for a process of another pid namespace. */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** Each takes the descriptor of a socket. */
export interface SocketOptions {
  /** Throws an Error unless the socket is a connection of a Unix socket that a listener accepted. */
  credentials(descriptor: number): Credentials;
  /** The supplementary groups. Throws an Error as above. */
  groups(descriptor: number): Set<number>;
  /** A pidfd, close-on-exec. Undefined if none is to be had; "unsupported" before Linux 6.5. */
  pidfd(descriptor: number): number | "unsupported" | undefined;
}

/** Sources: socket(7), unix(7), and the kernel's include/uapi/asm-generic/socket.h. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_ACCEPTCONN = 30;
const SO_PEERGROUPS = 59;
const SO_PEERPIDFD = 77;
const AF_UNIX = 1;
const { ENOPROTOOPT, ERANGE } = constants.errno;

/** Linux lets no process have more (NGROUPS_MAX). */
const mostGroups = 65_536;
/** What the kernel calls nobody at all: -1. */
const noId = 0xffff_ffff;

type Calls = ReturnType<typeof bindCalls>;

export function bindSocketOptions(): SocketOptions {
  const calls = bindCalls();
  return {
    credentials: (descriptor) => readCredentials(calls, descriptor),
    groups: createGroupReader(calls),
    pidfd(descriptor) {
      const slot = new Uint32Array(1);
      const { errno } = calls.getOption(descriptor, SO_PEERPIDFD, slot);
      if (errno === ENOPROTOOPT) return "unsupported";
      return errno === 0 ? slot[0] : undefined;
    },
  };
}

function bindCalls() {
  const library = openLibrary(null);
  const getsockname = library.func("int getsockname(int fd, _Out_ uint32_t *address, _Inout_ uint32_t *bytes)");
  const getsockopt = library.func(
    "int getsockopt(int fd, int level, int name, _Out_ uint32_t *value, _Inout_ uint32_t *bytes)",
  );
  const length = new Uint32Array(1);

  return {
    /** The family of a socket's own address, and how many bytes of address follow it. */
    addressOf(descriptor: number) {
      const start = new Uint32Array(1);
      length[0] = start.byteLength;
      if (getsockname(descriptor, start, length) !== 0) throw systemError(lastErrno(), "getsockname");
      return { family: (start[0] ?? 0) & 0xffff, bytes: length[0] - 2 };
    },
    /** Reads an option into `value`. `bytes` is the size of what was read, or for ERANGE would have been. */
    getOption(descriptor: number, name: number, value: Uint32Array) {
      length[0] = value.byteLength;
      const errno = getsockopt(descriptor, SOL_SOCKET, name, value, length) === 0 ? 0 : lastErrno();
      return { errno, bytes: length[0] };
    },
  };
}

/**
 * Of a socketpair the kernel would name who made it, and of a listener ourselves. An accepted socket bears the address of
 * its listener, which one of a pair has not.
 */
function readCredentials({ addressOf, getOption }: Calls, descriptor: number): Credentials {
  const { family, bytes } = addressOf(descriptor);
  const listens = new Uint32Array(1);
  getOption(descriptor, SO_ACCEPTCONN, listens);
  const record = new Uint32Array(3);
  const { errno } = getOption(descriptor, SO_PEERCRED, record);
  if (errno !== 0) throw systemError(errno, "getsockopt SO_PEERCRED");
  const [pid = 0, uid = noId, gid = noId] = record;
  if (family !== AF_UNIX || bytes <= 0 || listens[0] !== 0 || uid === noId || gid === noId)
    throw new Error(`Descriptor ${descriptor} is no accepted connection of a Unix socket`);
  return { pid, uid, gid };
}

function createGroupReader({ getOption }: Calls): (descriptor: number) => Set<number> {
  // Grows to what the longest list so far took.
  let room = new Uint32Array(64);
  return function readGroups(descriptor) {
    const { errno, bytes } = getOption(descriptor, SO_PEERGROUPS, room);
    const count = bytes / room.BYTES_PER_ELEMENT;
    if (errno === 0) return new Set(room.subarray(0, count));
    if (errno !== ERANGE || count <= room.length || count > mostGroups)
      throw systemError(errno, "getsockopt SO_PEERGROUPS");
    room = new Uint32Array(count);
    return readGroups(descriptor);
  };
}
