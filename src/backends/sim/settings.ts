// The settings of a simulated GPU, and the power that follows from them.
import type { Card } from "./catalogue.ts";
import type { Target } from "./meter.ts";

export interface Settings {
  persistent: boolean;
  power_limit_mw: number;
  /** What the GPU runs at under load: its highest clock, or what it is locked to. */
  gpu_clock_mhz: number;
  memory_clock_mhz: number;
}

export function defaults(card: Card): Readonly<Settings> {
  return {
    persistent: false,
    power_limit_mw: card.power_limit_w.default * 1000,
    gpu_clock_mhz: card.gpu_clock_mhz.max,
    memory_clock_mhz: memoryClock(card, Infinity),
  };
}

/** The highest memory clock that a lock allows; a lock below them all gives the lowest. */
export function memoryClock(card: Card, highest_mhz: number): number {
  const clocks = card.memory_clocks_mhz;
  return clocks.find((clock_mhz) => clock_mhz <= highest_mhz) ?? clocks.at(-1) ?? 0;
}

// At full load and full clocks a card asks for a tenth more than its default limit grants, as real ones do.
const appetite = 1.1;
// Of what load adds to idle power, the part of the memory, which follows its clock.
const memoryPart = 0.25;
// Voltage falls with the clock, so power falls faster than the clock does.
const clockExponent = 2.4;

/** Never above the limit. Keeps the settings as they are now: a later change needs another target. */
export function powerTarget(card: Card, settings: Readonly<Settings>): Target {
  const limit_w = settings.power_limit_mw / 1000;
  const demand = powerDemand(card, settings);
  return (share) => Math.min(limit_w, demand(share));
}

/** What a card would draw at these clocks if there were no limit. */
export function powerDemand(card: Card, settings: Readonly<Settings>): Target {
  const { idle_w, power_limit_w } = card;
  const gpu = (settings.gpu_clock_mhz / card.gpu_clock_mhz.max) ** clockExponent;
  const memory = settings.memory_clock_mhz / memoryClock(card, Infinity);
  const busy_w = (power_limit_w.default * appetite - idle_w) * (memoryPart * memory + (1 - memoryPart) * gpu);
  return (share) => idle_w + share * busy_w;
}
