// Which id is whose: a GPU that got one keeps it, wherever the driver counts it later.
import { ZeusdError } from "../../contract/errors.ts";
import type { AwayGpu, Gpu } from "../../contract/gpu.ts";
import type { OpenGpu } from "./gpu.ts";
import type { Seat } from "./seat.ts";

export interface Place {
  readonly id: number;
  /** The GPU as it was last found; absent before it was first opened. */
  gpu?: Gpu;
  /** Ends the use of the GPU's handle; absent while it has none. */
  close?: (() => void) | undefined;
}

export class Places {
  readonly #places = new Map<number, Place>();

  get anyOpen(): boolean {
    return [...this.#places.values()].some(({ close }) => close);
  }

  /** Gives up the handles of GPUs that are lost. */
  close(lost: ReadonlySet<number>): void {
    for (const place of this.#places.values()) {
      if (!lost.has(place.id)) continue;
      place.close?.();
      place.close = undefined;
    }
  }

  closeAll(): void {
    this.close(new Set(this.#places.keys()));
  }

  /** Takes in what was opened at a seat; tells why not if that is a GPU which is open already, or may be any. */
  take(seat: Seat, { record, close }: OpenGpu): ZeusdError | undefined {
    seat.taken();
    const uuid = record.uuid ?? seat.place?.gpu?.uuid;
    const place = uuid ? this.#placeOf(uuid, seat) : (seat.place ?? this.#nameless(seat.index));
    if (!place) return refusal(`The GPU at index ${seat.index} does not tell its UUID, and may be any`);
    if (place.close) return refusal(`The GPU at index ${seat.index} is GPU ${place.id}`);
    place.gpu = { id: place.id, ...withKnownFacts(record, place.gpu) };
    place.close = close;
    this.#places.set(place.id, place);
    seat.place = place;
    return undefined;
  }

  /** Keeps the id of an index whose GPU cannot be opened. */
  reserve(id: number): void {
    if (!this.#places.has(id)) this.#places.set(id, { id });
  }

  /** All GPUs by ascending id; those that are not open with the reason, as far as there is one. */
  list(reasons: ReadonlyMap<number, ZeusdError>): readonly (Gpu | AwayGpu)[] {
    const places = [...this.#places.values()].toSorted((one, other) => one.id - other.id);
    return places.map(({ id, gpu, close }) => (gpu && close ? gpu : { id, away: reasons.get(id) ?? notFound(gpu) }));
  }

  #placeOf(uuid: string, seat: Seat): Place {
    const owner = [...this.#places.values()].find(({ gpu }) => gpu?.uuid === uuid);
    return owner ?? seat.place ?? this.#nameless(seat.index) ?? this.#nextFree();
  }

  /** The place of an index itself, unless it belongs to a GPU that is known by its UUID or open elsewhere. */
  #nameless(index: number): Place | undefined {
    const place = this.#places.get(index) ?? { id: index };
    return place.gpu?.uuid || place.close ? undefined : place;
  }

  #nextFree(): Place {
    let id = 0;
    while (this.#places.get(id)?.gpu) id++;
    return this.#places.get(id) ?? { id };
  }
}

/** What a GPU once told about itself stays true when it does not tell it again. */
function withKnownFacts(record: Omit<Gpu, "id">, before: Gpu | undefined): Omit<Gpu, "id"> {
  if (!before) return record;
  return {
    ...record,
    uuid: record.uuid ?? before.uuid,
    pci_address: record.pci_address ?? before.pci_address,
    cumulative_energy_available: record.cumulative_energy_available || before.cumulative_energy_available,
  };
}

function notFound(gpu: Gpu | undefined): ZeusdError {
  return refusal(gpu?.uuid ? `NVML does not find ${gpu.uuid}` : "NVML does not count it");
}

function refusal(message: string): ZeusdError {
  return new ZeusdError("driver_error", message);
}
