// What a simulated device is busy with: phases that repeat for ever.

interface Phase {
  /** How much of the device is at work, 0 to 1. */
  readonly share: number;
  /** Above 0. */
  readonly lasts_ms: number;
}
export type Load = readonly Phase[];

/** How much of the device is at work after so many ms. */
export function shareAt(load: Load, after_ms: number): number {
  let left_ms = after_ms % load.reduce((sum, { lasts_ms }) => sum + lasts_ms, 0);
  for (const { share, lasts_ms } of load) {
    if (left_ms < lasts_ms) return share;
    left_ms -= lasts_ms;
  }
  return load.at(-1)?.share ?? 0;
}

/** The same load for ever: 0 is idle, 1 is all that the device can do. */
export function steady(share: number): Load {
  return [{ share, lasts_ms: 1000 }];
}

/** Training: two busy steps, after each a wait for the other GPUs, and a pause for data. The pace differs from GPU to GPU. */
export function training(gpu: number): Load {
  const busy = 1 - 0.03 * (gpu % 5);
  const step_ms = 700 + 90 * ((gpu * 7) % 11);
  return [
    { share: busy, lasts_ms: step_ms },
    { share: 0.55, lasts_ms: 160 },
    { share: busy * 0.95, lasts_ms: step_ms },
    { share: 0.55, lasts_ms: 160 },
    { share: 0.15, lasts_ms: 120 + 40 * (gpu % 3) },
  ];
}

/** What the CPU does meanwhile: it feeds the GPUs in bursts. */
export function serving(cpu: number): Load {
  return [
    { share: 0.3, lasts_ms: 900 },
    { share: 0.75 - 0.1 * (cpu % 2), lasts_ms: 250 },
  ];
}
