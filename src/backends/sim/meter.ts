// A simulated device's power meter: it remembers where the curve stood when its target last changed.
import { shareAt, type Load } from "./load.ts";
import { follow, type Point, type Stretch } from "./power-curve.ts";

/** Watts that the device would settle at, for a share of 0 to 1 at work. */
export type Target = (share: number) => number;

export interface Meter {
  /** Power now, and energy since the meter was made. */
  read(): { readonly power_w: number; readonly energy_j: number };
  /** How much of the device is at work now, 0 to 1. */
  share(): number;
  /** From now on power approaches another target. */
  retarget(target: Target): void;
}

/** `now` in ms. It begins with no energy, at the power of an idle device. */
export function createMeter(now: () => number, load: Load, target: Target): Meter {
  const start_ms = now();
  let cycle = cycleOf(load, target);
  let point: Point = { at_s: 0, power_w: target(0), energy_j: 0 };
  const here = (): Point => follow(point, cycle, (now() - start_ms) / 1000);
  return {
    read: here,
    share: () => shareAt(load, now() - start_ms),
    retarget(next) {
      point = here();
      cycle = cycleOf(load, next);
    },
  };
}

function cycleOf(load: Load, target: Target): readonly Stretch[] {
  return load.map(({ share, lasts_ms }) => ({ target_w: target(share), lasts_s: lasts_ms / 1000 }));
}
