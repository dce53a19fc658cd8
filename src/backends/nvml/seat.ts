// An index at which the driver counts a GPU, for as long as NVML stays initialised: opens whoever is there.
import { openGpu, type OpenGpu } from "./gpu.ts";
import type { Nvml } from "./library.ts";
import type { Place } from "./places.ts";

export class Seat {
  readonly index: number;
  /** Whose GPU was found here; undefined until one was opened. */
  place: Place | undefined;
  readonly #nvml: Nvml;
  #attempt: Promise<OpenGpu> | undefined;

  constructor(nvml: Nvml, index: number) {
    this.#nvml = nvml;
    this.index = index;
  }

  /** The id of the GPU that was found here, or else the one that a GPU gets which is first found here. */
  get id(): number {
    return this.place?.id ?? this.index;
  }

  /** Whether a GPU is being opened, or was opened and nobody has taken it yet. */
  get busy(): boolean {
    return this.#attempt !== undefined;
  }

  /**
   * Opens the GPU that was found here before, or whichever the driver counts here. One that hangs is joined by the next call,
   * so that it costs one thread only.
   */
  open(): Promise<OpenGpu> {
    this.#attempt ??= this.#tryOpen().catch((error: unknown) => {
      this.#attempt = undefined;
      throw error;
    });
    return this.#attempt;
  }

  /** Says that what was opened has been taken, so that the next call opens anew. */
  taken(): void {
    this.#attempt = undefined;
  }

  async #tryOpen(): Promise<OpenGpu> {
    const uuid = this.place?.gpu?.uuid;
    const handle = uuid ? await this.#nvml.handleOf(uuid) : await this.#nvml.handle(this.index);
    return openGpu(this.#nvml, handle);
  }
}
