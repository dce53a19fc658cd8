// The cards that can be simulated, with the limits and clocks that nvidia-smi shows for the real ones.
import type { Calls } from "../../contract/gpu.ts";
import type { gpuOperations } from "../../contract/operations.ts";

export interface Card {
  /** The product name as NVML gives it. */
  readonly product: string;
  /** Power with the driver loaded and nothing running. */
  readonly idle_w: number;
  readonly power_limit_w: { readonly min: number; readonly default: number; readonly max: number };
  readonly gpu_clock_mhz: { readonly min: number; readonly max: number };
  /** Highest first. A card with one memory clock is not slowed down by locking it. */
  readonly memory_clocks_mhz: readonly number[];
  /** The calls that the driver refuses as not supported on this card. */
  readonly lacks?: readonly (keyof Calls<typeof gpuOperations>)[];
}

// The driver locks memory clocks from Ampere on, and GPU clocks and counts energy from Volta on.
const beforeAmpere = ["setMemLockedClocks", "resetMemLockedClocks"] as const;
const beforeVolta = [...beforeAmpere, "setGpuLockedClocks", "resetGpuLockedClocks", "getCumulativeEnergy"] as const;

const b200: Card = {
  product: "NVIDIA B200",
  idle_w: 140,
  power_limit_w: { min: 200, default: 1000, max: 1000 },
  gpu_clock_mhz: { min: 120, max: 1965 },
  memory_clocks_mhz: [3996],
};
const h200: Card = {
  product: "NVIDIA H200",
  idle_w: 75,
  power_limit_w: { min: 200, default: 700, max: 700 },
  gpu_clock_mhz: { min: 210, max: 1980 },
  memory_clocks_mhz: [3201],
};
const h100: Card = {
  product: "NVIDIA H100 80GB HBM3",
  idle_w: 72,
  power_limit_w: { min: 200, default: 700, max: 700 },
  gpu_clock_mhz: { min: 210, max: 1980 },
  memory_clocks_mhz: [2619],
};
const a100: Card = {
  product: "NVIDIA A100-SXM4-80GB",
  idle_w: 60,
  power_limit_w: { min: 100, default: 400, max: 400 },
  gpu_clock_mhz: { min: 210, max: 1410 },
  memory_clocks_mhz: [1593],
};
const a40: Card = {
  product: "NVIDIA A40",
  idle_w: 30,
  power_limit_w: { min: 100, default: 300, max: 300 },
  gpu_clock_mhz: { min: 210, max: 1740 },
  memory_clocks_mhz: [7251, 405],
};
const l40s: Card = {
  product: "NVIDIA L40S",
  idle_w: 35,
  power_limit_w: { min: 100, default: 350, max: 350 },
  gpu_clock_mhz: { min: 210, max: 2520 },
  memory_clocks_mhz: [9001, 405],
};
const l4: Card = {
  product: "NVIDIA L4",
  idle_w: 16,
  power_limit_w: { min: 40, default: 72, max: 72 },
  gpu_clock_mhz: { min: 210, max: 2040 },
  memory_clocks_mhz: [6251, 405],
};
const rtx4090: Card = {
  product: "NVIDIA GeForce RTX 4090",
  idle_w: 25,
  power_limit_w: { min: 150, default: 450, max: 600 },
  gpu_clock_mhz: { min: 210, max: 3105 },
  memory_clocks_mhz: [10_501, 10_251, 5001, 810, 405],
};
const rtx3090: Card = {
  product: "NVIDIA GeForce RTX 3090",
  idle_w: 25,
  power_limit_w: { min: 100, default: 350, max: 350 },
  gpu_clock_mhz: { min: 210, max: 2100 },
  memory_clocks_mhz: [9751, 9501, 5001, 810, 405],
};
const t4: Card = {
  product: "Tesla T4",
  idle_w: 10,
  power_limit_w: { min: 60, default: 70, max: 70 },
  gpu_clock_mhz: { min: 300, max: 1590 },
  memory_clocks_mhz: [5001, 405],
  lacks: beforeAmpere,
};
const v100: Card = {
  product: "Tesla V100-SXM2-32GB",
  idle_w: 44,
  power_limit_w: { min: 150, default: 300, max: 300 },
  gpu_clock_mhz: { min: 135, max: 1530 },
  memory_clocks_mhz: [877],
  lacks: beforeAmpere,
};
const p100: Card = {
  product: "Tesla P100-PCIE-16GB",
  idle_w: 26,
  power_limit_w: { min: 125, default: 250, max: 250 },
  gpu_clock_mhz: { min: 544, max: 1328 },
  memory_clocks_mhz: [715],
  lacks: beforeVolta,
};

/** By the name that a machine gives: the `h100` of `8xh100`. */
export const cards: ReadonlyMap<string, Card> = new Map(
  Object.entries({ b200, h200, h100, a100, a40, l40s, l4, rtx4090, rtx3090, t4, v100, p100 }),
);
