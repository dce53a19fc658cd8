// Processes that had a lease and have ended a moment ago: what they had sent before may still arrive.
import type { Clock } from "../contract/clock.ts";
import type { GpuKey } from "../contract/lease.ts";

/** For how long, in ms. */
const lateMs = 10_000;

interface Late {
  readonly gpus: readonly GpuKey[];
  readonly untilMs: number;
}

export class LateHolders {
  readonly #clock: Clock;
  /** By pid, those that ended first before the others. */
  readonly #late = new Map<number, Late>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isEmpty(): boolean {
    if (this.#late.size > 0) this.#forget();
    return this.#late.size === 0;
  }

  /** A process has ended that had a lease on these GPUs. */
  add(pid: number, gpus: readonly GpuKey[]): void {
    this.#forget();
    this.#late.delete(pid);
    this.#late.set(pid, { gpus, untilMs: this.#clock.monotonicMs() + lateMs });
  }

  had(pid: number, gpu: GpuKey): boolean {
    this.#forget();
    return this.#late.get(pid)?.gpus.includes(gpu) ?? false;
  }

  #forget(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [pid, { untilMs }] of this.#late) {
      if (untilMs > nowMs) return;
      this.#late.delete(pid);
    }
  }
}
