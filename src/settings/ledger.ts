// What the settings of one GPU have the journal know.
import type { GpuKey, Lease } from "../contract/lease.ts";
import type { Setting } from "../contract/operations.ts";
import type { Journal } from "./journal.ts";
import { readerOf } from "./knobs.ts";
import type { Layered, Written } from "./layers.ts";
import type { JournalRecord } from "./records.ts";

export interface LedgerParts {
  readonly journal: Journal;
  /** Has the journal know of a lease before the first of its layers. Throws `journal_unavailable`. */
  enter(lease: Lease, gpu: GpuKey): void;
}

/** What a setting is that no driver tells and nobody has set. */
const unset: Written = { value: {}, order: 0 };

export class Ledger {
  readonly #parts: LedgerParts;
  /** What the journal calls the GPU. */
  readonly #gpu: () => GpuKey;

  constructor(parts: LedgerParts, gpu: () => GpuKey) {
    this.#parts = parts;
    this.#gpu = gpu;
  }

  /**
   * A lease is about to write to a setting. From its first layer on, whatever happens, the journal knows what to put back: a
   * later value may follow while the driver is at it, by `follow`, as nobody is told before that it is set. Throws
   * `journal_unavailable`.
   */
  require(setting: Setting, lease: Lease, { base, layers }: Layered, written: Written): void {
    const { journal, enter } = this.#parts;
    if (layers.has(lease.number) && journal.isWell) return;
    const gpu = this.#gpu();
    enter(lease, gpu);
    if (base && layers.size === 0) journal.append({ record: "base", gpu, setting, ...base });
    journal.append(layerRecord(gpu, setting, lease.number, written));
  }

  /** A write is under way; `isOwed` says whether the setting is still to be put back. */
  follow(setting: Setting, lease: Lease | undefined, { layers }: Layered, written: Written, isOwed: boolean): void {
    const { journal } = this.#parts;
    if (!journal.isKept) return;
    if (lease) {
      if (layers.has(lease.number)) this.layer(setting, lease.number, written);
      return;
    }
    // Without leases the driver remembers it, where it can tell it.
    if (layers.size > 0 || isOwed || !readerOf(setting)) this.base(setting, written);
  }

  /** What was written last without a lease; without `written` nothing was that needs to be remembered. */
  base(setting: Setting, written: Written | undefined): void {
    if (!written && readerOf(setting)) return;
    this.#parts.journal.note({ record: "base", gpu: this.#gpu(), setting, ...(written ?? unset) });
  }

  /** The last write of a lease; without `written` there is none any more. */
  layer(setting: Setting, lease: number, written: Written | undefined): void {
    const gpu = this.#gpu();
    const record = written ? layerRecord(gpu, setting, lease, written) : noLayer(gpu, setting, lease);
    this.#parts.journal.note(record);
  }

  settled(setting: Setting): void {
    this.#parts.journal.note({ record: "settled", gpu: this.#gpu(), setting });
  }
}

/** Field by field: this is on the way of every write within a lease. */
function layerRecord(gpu: GpuKey, setting: Setting, lease: number, { value, order }: Written): JournalRecord {
  return { record: "layer", lease, gpu, setting, value, order };
}

function noLayer(gpu: GpuKey, setting: Setting, lease: number): JournalRecord {
  return { record: "no_layer", lease, gpu, setting };
}
