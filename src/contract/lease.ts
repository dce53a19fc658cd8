// A lease: what its holder changes is put back when the holder has gone.

/** A process, which no later one of the same number is taken for. */
export interface ProcessId {
  readonly pid: number;
  /** When it began, in clock ticks since the machine started (proc(5), field 22 of /proc/PID/stat). */
  readonly started: number;
}

/** Whose a lease is, as far as it can be told. */
interface LeaseOwner {
  readonly uid?: number | undefined;
  /** What the process called itself. */
  readonly program?: string | undefined;
  /** The subject of a token. */
  readonly sub?: string | undefined;
}

export interface Lease {
  /** What it is called by where everyone may read it; never used again. */
  readonly number: number;
  /** 128 random bits in hex, which whoever acquired it alone is told. */
  readonly id: string;
  /** Nobody asked for it: it came with a write. */
  readonly implicit: boolean;
  /** Others may not write to its GPUs. */
  readonly exclusive: boolean;
  readonly reason?: string | undefined;
  /** Milliseconds since 1970. */
  readonly sinceMs: number;
  /** How long it lives after it was acquired or renewed, in s; absent if it lasts as long as its holder. */
  readonly ttlS?: number | undefined;
  /** Milliseconds since 1970 at which that is over. */
  readonly expiresMs?: number | undefined;
  readonly owner: LeaseOwner;
  /** The process that it ends with, and whose descendants may use it; absent if only time ends it. */
  readonly holder?: ProcessId | undefined;
  /** The GPUs that it covers, by key. An implicit one covers what its holder has written to. */
  readonly gpus: readonly GpuKey[];
}

/** What a GPU is remembered by: its UUID, or `gpu 0` where the driver does not tell one. */
export type GpuKey = string;

/** The longest time to live, in s. */
export const longestTtlS = 86_400;

/** Why a lease has ended. */
export type LeaseEnd = "released" | "forced" | "holder_ended" | "expired" | "daemon_stopped";

/** What became of one GPU when a lease ended: a word, or a sentence that says why it has to wait. */
const putBack = ["restored", "unchanged"] as const;

export function isPutBack(outcome: string): boolean {
  return putBack.some((word) => word === outcome);
}

/** A process that is watched for its end, whatever becomes of its connections. */
export interface HeldProcess extends ProcessId {
  /** Calls back once when it has ended, from the event loop, also if it had ended before. */
  onEnd(callback: () => void): void;
  /** Gives the handle back; nothing is called back any more. */
  close(): void;
}

/** The process at the other end of a Unix socket, as far as leases know it. */
export interface LeasePeer {
  readonly uid: number;
  readonly pid?: number | undefined;
  program(): string | undefined;
  /** It and those that it descends from, nearest first; empty where that cannot be said. */
  lineage(): readonly ProcessId[];
  /** A handle of its own, which outlives the connection; undefined where none is to be had. Whoever gets it closes it. */
  hold(): HeldProcess | undefined;
}

/** Whoever asks for a lease, or writes. */
export interface Claimant {
  /** Absent over TCP. */
  readonly peer?: LeasePeer | undefined;
  /** The subject of a token. */
  readonly sub?: string | undefined;
}

/** What a write has to know of the leases. */
export interface LeaseBook {
  /** Whether there are none. */
  readonly isEmpty: boolean;
  /**
   * The lease within which a claimant writes to a GPU: the one whose id is given, else the nearest of its process and those
   * that this descends from; undefined if there is none. Throws `held`, `no_such_lease`, and `bad_request` if the lease
   * that is named does not cover the GPU.
   */
  claim(claimant: Claimant, gpu: GpuKey, gpuName: string, leaseId?: string): Lease | undefined;
  /** The lease of a process that asked for none; undefined if its end could not be noticed. Throws `too_many_leases`. */
  implicit(claimant: Claimant): Lease | undefined;
}

/** What a GPU is remembered by. */
export function gpuKey({ id, uuid }: { readonly id: number; readonly uuid?: string | null | undefined }): GpuKey {
  return uuid ?? `gpu ${id}`;
}
