// Finds NVIDIA GPUs: loads NVML when it is there, opens each GPU once, and waits for none of them for ever.
import type { Clock } from "../../contract/clock.ts";
import { ZeusdError } from "../../contract/errors.ts";
import type { AwayGpu, Gpu, GpuBackend } from "../../contract/gpu.ts";
import { nvmlNames } from "../../native/nvml.ts";
import { openGpu } from "./gpu.ts";
import { openNvml, type Nvml } from "./library.ts";

export interface NvmlParts {
  readonly clock: Clock;
  /** Names or paths of the library, in the order in which they are tried. */
  readonly names?: readonly string[];
  /** How long a probe waits for the driver, and for each GPU. Eight GPUs without persistence mode take a while to wake. */
  readonly patienceMs?: number;
}

export function createNvmlBackend({ clock, names = nvmlNames, patienceMs = 30_000 }: NvmlParts): GpuBackend {
  const library = untilDone(() => openNvml(names));
  const countGpus = oneAtATime(async () => (await library()).number("nvmlDeviceGetCount_v2"));
  const openers = new Map<number, () => Promise<Gpu>>();

  async function look(nvml: Nvml, id: number): Promise<Gpu | AwayGpu> {
    const open = openers.get(id) ?? untilDone(() => openGpu(nvml, id));
    openers.set(id, open);
    try {
      return await within(patienceMs, clock, `GPU ${id}`, open());
    } catch (error) {
      if (error instanceof ZeusdError) return { id, away: error };
      throw error;
    }
  }

  return {
    name: "nvml",
    async probe() {
      const count = await within(patienceMs, clock, "NVML", countGpus());
      const nvml = await library();
      // A GPU that was there before is not forgotten when the driver counts fewer.
      const ids = Array.from({ length: Math.max(count, openers.size) }, (_, id) => id);
      return Promise.all(ids.map((id) => look(nvml, id)));
    },
  };
}

/** Tries `work` anew after a failure, and keeps its result. A try that hangs is joined, so that it costs one thread only. */
function untilDone<Result>(work: () => Promise<Result>): () => Promise<Result> {
  let attempt: Promise<Result> | undefined;
  return () => {
    attempt ??= work().catch((error: unknown) => {
      attempt = undefined;
      throw error;
    });
    return attempt;
  };
}

/** Does `work` anew each time, but never twice at once. */
function oneAtATime<Result>(work: () => Promise<Result>): () => Promise<Result> {
  let running: Promise<Result> | undefined;
  return () => {
    running ??= work().finally(() => {
      running = undefined;
    });
    return running;
  };
}

function within<Result>(ms: number, clock: Clock, who: string, work: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const late = new ZeusdError("driver_error", `${who} has not answered for ${ms / 1000} s`);
    const cancel = clock.after(ms, () => reject(late));
    work.then(resolve, reject).finally(cancel);
  });
}
