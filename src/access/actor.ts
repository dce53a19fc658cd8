// The actor: who asks. Made of what the kernel says of the connection, and of what a token says.
import type { Claimant, LeasePeer } from "../contract/lease.ts";
import type { Claims } from "./token.ts";

/** The process at the other end of a Unix socket, as it was when it connected (SO_PEERCRED, SO_PEERGROUPS). */
export interface Peer extends LeasePeer {
  readonly uid: number;
  readonly gid: number;
  /** Its gid and all its supplementary groups. */
  readonly groups: ReadonlySet<number>;
  /** Absent where the kernel cannot name it: a process of another pid namespace. */
  readonly pid?: number | undefined;
  /** What the process calls itself, or undefined where that cannot be said for sure. */
  program(): string | undefined;
}

export interface Actor {
  /** Absent over TCP. */
  readonly peer?: Peer | undefined;
  /** Absent where no token is needed. */
  readonly claims?: Claims | undefined;
}

/** The actor in words, as refusals show it. */
export function describeActor({ peer, claims }: Actor): string {
  const subject = claims && `token subject '${claims.sub}'`;
  if (peer) return subject === undefined ? `uid ${peer.uid}` : `uid ${peer.uid} with ${subject}`;
  return subject ?? "a client without identity";
}

/** What tells one actor from another where each has a share of its own. */
export function actorKey({ peer, claims }: Actor): string {
  if (peer) return `uid ${peer.uid}`;
  return claims ? `sub ${claims.sub}` : "";
}

/** The actor as leases know it. */
export function claimantOf({ peer, claims }: Actor): Claimant {
  return { peer, sub: claims?.sub };
}

/** Somebody to ask the policy about, who is not there. */
export function supposedActor(uid: number | undefined, gids: readonly number[], sub: string | undefined): Actor {
  const peer = uid === undefined ? undefined : supposedPeer(uid, gids);
  return { peer, claims: sub === undefined ? undefined : { sub, scopes: [] } };
}

function supposedPeer(uid: number, gids: readonly number[]): Peer {
  const [gid = uid] = gids;
  return { uid, gid, groups: new Set(gids), program: () => undefined, lineage: () => [], hold: () => undefined };
}
