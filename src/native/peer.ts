// Who is at the other end of a Unix socket, and whether that process is still there.
import { closeSync } from "node:fs";
import { type HeldProcess, holdProcess } from "./held-process.ts";
import { type PidfdCalls, bindPidfdCalls } from "./pidfd.ts";
import { type ProcessId, effectiveIdsOf, lineageOf, programOf } from "./proc.ts";
import { type Credentials, bindSocketOptions } from "./socket-options.ts";

/** The process that connected, as it was when it did. */
export interface Peer {
  readonly uid: number;
  readonly gid: number;
  /** Its gid and all its supplementary groups. */
  readonly groups: ReadonlySet<number>;
  /** Absent where the kernel cannot name it: a process of another pid namespace. */
  readonly pid?: number;
  /** Whether the process has not ended; undefined if there is no handle. */
  alive(): boolean | undefined;
  /**
   * What the process calls itself (/proc/PID/comm, 15 bytes at most, chosen by the process itself), or undefined when that
   * cannot be said for sure. Read once, the first time.
   */
  program(): string | undefined;
  /**
   * The process and those that it descends from, nearest first, down to pid 1 or as far as can be said for sure. Empty if
   * nothing can. Read once, the first time.
   */
  lineage(): readonly ProcessId[];
  /**
   * A handle of its own, which the end of the connection does not close; whoever gets it has to. Undefined if there is no
   * handle, or its process is not known.
   */
  hold(): HeldProcess | undefined;
  /** Closes the handle. */
  close(): void;
}

export interface PeerOptions {
  /** False does without SO_PEERPIDFD, as Linux before 6.5 has to. */
  readonly peerPidfd?: boolean;
}

/**
 * A function that reads the peer of a Unix socket by its descriptor. It throws an Error if that is no connection which a
 * listener accepted. Whoever gets a peer has to close it. A peer that had ended, or for which no descriptor was left, may
 * have no handle.
 */
export function createPeerReader({ peerPidfd = true }: PeerOptions = {}): (descriptor: number) => Peer {
  const options = bindSocketOptions();
  const pidfds = bindPidfdCalls();
  let supported = peerPidfd;

  function openHandle(descriptor: number, credentials: Credentials): number | undefined {
    if (credentials.pid === 0) return undefined;
    const handle = supported ? options.pidfd(descriptor) : "unsupported";
    if (handle !== "unsupported") return handle;
    supported = false;
    return openByPid(pidfds, descriptor, credentials);
  }

  return (descriptor) => {
    const credentials = options.credentials(descriptor);
    const groups = options.groups(descriptor).add(credentials.gid);
    return createPeer(pidfds, credentials, groups, openHandle(descriptor, credentials));
  };
}

/**
 * A handle by number can be one on a later process of the same number. It is refused unless that process acts under the
 * peer's ids, has not ended, and the peer's end of the connection is still open. What remains: a peer that handed its end
 * to a child, ended, and whose number another process of the same user and group has taken since.
 */
function openByPid(pidfds: PidfdCalls, descriptor: number, { pid, uid, gid }: Credentials): number | undefined {
  const handle = pidfds.open(pid);
  if (handle === undefined) return undefined;
  const ids = effectiveIdsOf(pid);
  if (ids?.uid === uid && ids.gid === gid && pidfds.alive(handle) === true && !pidfds.hungUp(descriptor)) return handle;
  closeSync(handle);
  return undefined;
}

function createPeer(
  { alive, duplicate }: PidfdCalls,
  { pid, uid, gid }: Credentials,
  groups: ReadonlySet<number>,
  handle: number | undefined,
): Peer {
  let open = handle;
  let named: { readonly program: string | undefined } | undefined;
  let descent: readonly ProcessId[] | undefined;

  const isAlive = (): boolean | undefined => (open === undefined ? undefined : alive(open));
  const readOf = <Found>(look: (pid: number) => Found): Found | undefined => {
    const found = open === undefined ? undefined : look(pid);
    // Only a process that is there afterwards is the one that was read, and not the next one of the same number.
    return isAlive() === true ? found : undefined;
  };
  const lineage = (): readonly ProcessId[] => {
    descent ??= readOf(lineageOf) ?? [];
    return descent;
  };

  return {
    uid,
    gid,
    groups,
    ...(pid === 0 ? {} : { pid }),
    alive: isAlive,
    program() {
      named ??= { program: readOf(programOf) };
      return named.program;
    },
    lineage,
    hold() {
      const [itself] = lineage();
      if (open === undefined || itself === undefined) return undefined;
      const own = duplicate(open);
      return own === undefined ? undefined : holdProcess(own, itself);
    },
    close() {
      // Its number soon belongs to another descriptor: it must not be closed or polled again.
      const closing = open;
      open = undefined;
      if (closing !== undefined) closeSync(closing);
    },
  };
}
