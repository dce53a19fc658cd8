// What each setting of each GPU may be, given what was there, who wrote what since, and who still lives.
import { settings, type Setting } from "../../src/contract/operations.ts";
import { untouchedGpu, type StubGpu } from "../stub/gpus.ts";

/**
 * - `done`: its writer was told that it is set.
 * - `open`: the daemon was killed while the driver was at it, and nobody knows.
 * - `never`: the driver was not to hear of it any more.
 */
type Fate = "done" | "open" | "never";

export interface Write {
  readonly gpu: number;
  readonly setting: Setting;
  readonly value: string;
  /** Whoever holds it; undefined without a lease. */
  readonly holder?: string | undefined;
  fate: Fate;
}

export class KillModel {
  /** By GPU: what may be there when nobody holds anything. */
  readonly #bases: Map<Setting, ReadonlySet<string>>[];
  readonly #writes: Write[] = [];

  constructor(gpus: number) {
    this.#bases = Array.from({ length: gpus }, () => {
      return new Map(settings.map((setting) => [setting, new Set([untouchedGpu[setting]])]));
    });
  }

  /** Writes are told in the order in which the driver gets them. */
  write(write: Omit<Write, "fate">): Write {
    const told: Write = { ...write, fate: "done" };
    this.#writes.push(told);
    return told;
  }

  /** What may be there while only these live. */
  allowed(gpu: number, setting: Setting, living: ReadonlySet<string>): ReadonlySet<string> {
    const standing = this.#writes.filter(
      (write) => write.gpu === gpu && write.setting === setting && (!write.holder || living.has(write.holder)),
    );
    const may = new Set<string>();
    // The newest counts; below one of which nobody knows, so does the next.
    for (const { fate, value } of standing.toReversed()) {
      if (fate === "never") continue;
      may.add(value);
      if (fate === "done") return may;
    }
    return new Set([...may, ...(this.#bases[gpu]?.get(setting) ?? [])]);
  }

  /** In words, what is not as it may be. */
  complaints(gpus: readonly StubGpu[], living: ReadonlySet<string>): readonly string[] {
    return gpus.flatMap((found, gpu) =>
      settings.flatMap((setting) => {
        const allowed = this.allowed(gpu, setting, living);
        if (allowed.has(found[setting])) return [];
        return `${setting} of GPU ${gpu} is ${found[setting]} and should be ${[...allowed].join(" or ")}`;
      }),
    );
  }

  /** Nobody holds anything any more. */
  settle(): void {
    this.#bases.forEach((bases, gpu) => {
      for (const setting of settings) bases.set(setting, this.allowed(gpu, setting, new Set()));
    });
    this.#writes.length = 0;
  }
}
