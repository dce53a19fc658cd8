// Events: what happens to the devices and leases of the daemon, for whoever wants to hear of it.
import type { DeviceKind, Setting } from "./operations.ts";
import type { Values } from "./field.ts";
import type { LeaseEnd } from "./lease.ts";

/** A lease as everyone may see it. */
export interface LeaseFacts {
  readonly lease: number;
  readonly gpu_ids: readonly number[];
  readonly exclusive: boolean;
  readonly implicit: boolean;
  readonly reason: string | null;
  readonly since_ms: number;
  readonly expires_ms: number | null;
  readonly holder: {
    readonly uid: number | null;
    readonly pid: number | null;
    readonly program: string | null;
    readonly sub: string | null;
  };
}

/** What happened to one setting of one GPU. */
interface OfSetting {
  readonly gpu: number;
  readonly setting: Setting;
}

interface OfDevice {
  readonly device: DeviceKind;
  readonly id: number;
}

export type DaemonEvent =
  | ({ readonly event: "lease_acquired" | "lease_renewed" } & LeaseFacts)
  | ({ readonly event: "lease_ended"; readonly ended: LeaseEnd } & LeaseFacts)
  /** What a lease had changed is as it was before; the value of a setting that was reset has no fields. */
  | ({ readonly event: "restored"; readonly value: Values } & OfSetting)
  | ({ readonly event: "restore_failed"; readonly value: Values; readonly error: string } & OfSetting)
  /** Something other than what should be there was found. */
  | ({ readonly event: "drift"; readonly expected: Values; readonly found: Values } & OfSetting)
  | ({ readonly event: "drift_over"; readonly value: Values } & OfSetting)
  | ({ readonly event: "lane_stuck" | "lane_back"; readonly operation: string } & OfDevice)
  | ({ readonly event: "gpu_lost"; readonly reason: string } & OfDevice)
  | ({ readonly event: "gpu_back" } & OfDevice);

export type Listener = (event: DaemonEvent, timestampMs: number) => void;

export class Events {
  readonly #epochMs: () => number;
  readonly #listeners = new Set<Listener>();

  constructor(epochMs: () => number) {
    this.#epochMs = epochMs;
  }

  tell(event: DaemonEvent): void {
    if (this.#listeners.size === 0) return;
    const nowMs = this.#epochMs();
    for (const listener of this.#listeners) listener(event, nowMs);
  }

  /** The result ends it. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
