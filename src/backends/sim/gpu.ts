// A simulated GPU: NVML's calls over a card of the catalogue and a power meter.
import { createHash } from "node:crypto";
import type { Calls, Gpu } from "../../contract/gpu.ts";
import type { gpuOperations } from "../../contract/operations.ts";
import type { Card } from "./catalogue.ts";
import { clocksNow, gpuClocks, throttleReasons } from "./clocks.ts";
import type { Load } from "./load.ts";
import { createMeter } from "./meter.ts";
import { refuseInvalid, refusing } from "./refusals.ts";
import { defaults, memoryClock, powerTarget, type Settings } from "./settings.ts";

interface SimulatedGpu {
  /** The machine's name, which the UUID is made from. */
  readonly machine: string;
  readonly id: number;
  readonly card: Card;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly load: Load;
}

type GpuCalls = Required<Calls<typeof gpuOperations>>;

export function simulatedGpu({ machine, id, card, now, load }: SimulatedGpu): Gpu {
  const lacks = card.lacks ?? [];
  return {
    id,
    name: `${card.product} (simulated)`,
    uuid: uuidOf(`${machine}/${id}`),
    pci_address: `0000:${(0x18 + 0x0c * id).toString(16)}:00.0`,
    cumulative_energy_available: !lacks.includes("getCumulativeEnergy"),
    ...driverCalls(card, now, load),
    ...refusing(lacks),
  };
}

function driverCalls(card: Card, now: () => number, load: Load): GpuCalls {
  const normal = defaults(card);
  const { min, max } = card.power_limit_w;
  const settings: Settings = { ...normal };
  const meter = createMeter(now, load, powerTarget(card, settings));
  const change = (changes: Partial<Settings>): void => {
    Object.assign(settings, changes);
    meter.retarget(powerTarget(card, settings));
  };
  return {
    setPersistenceMode: async ({ enabled }) => change({ persistent: enabled }),
    getPersistenceMode: async () => ({ enabled: settings.persistent }),
    setPowerLimit: async ({ power_limit_mw }) => {
      refuseInvalid(power_limit_mw < min * 1000 || power_limit_mw > max * 1000);
      change({ power_limit_mw });
    },
    getPowerLimit: async () => ({ power_limit_mw: settings.power_limit_mw }),
    getEnforcedPowerLimit: async () => ({ power_limit_mw: settings.power_limit_mw }),
    getDefaultPowerLimit: async () => ({ power_limit_mw: normal.power_limit_mw }),
    getPowerLimitConstraints: async () => ({ min_power_limit_mw: min * 1000, max_power_limit_mw: max * 1000 }),
    setGpuLockedClocks: async ({ min_clock_mhz, max_clock_mhz }) => {
      refuseInvalid(min_clock_mhz > max_clock_mhz || max_clock_mhz === 0);
      const { min: lowest, max: highest } = card.gpu_clock_mhz;
      change({ gpu_clock_mhz: Math.min(Math.max(max_clock_mhz, lowest), highest) });
    },
    resetGpuLockedClocks: async () => change({ gpu_clock_mhz: normal.gpu_clock_mhz }),
    setMemLockedClocks: async ({ min_clock_mhz, max_clock_mhz }) => {
      refuseInvalid(min_clock_mhz > max_clock_mhz || max_clock_mhz === 0);
      change({ memory_clock_mhz: memoryClock(card, max_clock_mhz) });
    },
    resetMemLockedClocks: async () => change({ memory_clock_mhz: normal.memory_clock_mhz }),
    getClocks: async () => clocksNow(card, settings, meter.share()),
    getSupportedClocks: async () => ({ memory_clocks_mhz: card.memory_clocks_mhz, gpu_clocks_mhz: gpuClocks(card) }),
    getThrottleReasons: async () => throttleReasons(card, settings, meter.share()),
    getCumulativeEnergy: async () => ({ energy_mj: Math.floor(meter.read().energy_j * 1000) }),
    getPower: async () => ({ power_mw: Math.floor(meter.read().power_w * 1000) }),
  };
}

/** The same for every start of the same machine. */
function uuidOf(seed: string): string {
  const hex = createHash("sha256").update(seed).digest("hex");
  return `GPU-${[hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join("-")}`;
}
