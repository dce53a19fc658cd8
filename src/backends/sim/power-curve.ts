// The mathematics of simulated power: it approaches a target that changes in steps, and its integral is exact.

/** How quickly power approaches its target: after 150 ms, 63 % of the way is done. */
const lag_s = 0.15;

/** A target for a while. Stretches in a row form a cycle, which repeats for ever. */
export interface Stretch {
  readonly target_w: number;
  readonly lasts_s: number;
}

/** Where a curve stands: its time, its power then, and its energy since time zero. */
export interface Point {
  readonly at_s: number;
  readonly power_w: number;
  readonly energy_j: number;
}

/**
 * The point of the curve at `at_s`. Costs one walk over the cycle however far that is: over whole cycles power is a geometric
 * series, so a simulated week costs what a second does. A time before `from` gives `from`.
 */
export function follow(from: Point, cycle: readonly Stretch[], at_s: number): Point {
  const period_s = cycle.reduce((sum, { lasts_s }) => sum + lasts_s, 0);
  const ahead_s = Math.max(0, at_s - from.at_s);
  const periods = Math.floor(ahead_s / period_s);
  const later = periods === 0 ? from : skip(from, cycle, period_s, periods);
  return walk(later, cycle, period_s, ahead_s - periods * period_s);
}

/**
 * One cycle maps the power at its start, P, to aP + b, and adds cP + d of energy, where a = exp(-period/lag) and
 * c = lag (1 - a) do not depend on the targets. b and d are what a walk from zero power gives.
 */
function skip(from: Point, cycle: readonly Stretch[], period_s: number, periods: number): Point {
  const { power_w: b, energy_j: d } = walk({ at_s: from.at_s, power_w: 0, energy_j: 0 }, cycle, period_s, period_s);
  const settled_w = b / -Math.expm1(-period_s / lag_s);
  const above_w = from.power_w - settled_w;
  const gone = -Math.expm1((-periods * period_s) / lag_s);
  return {
    at_s: from.at_s + periods * period_s,
    power_w: settled_w + above_w * (1 - gone),
    energy_j: from.energy_j + periods * (lag_s * b + d) + lag_s * above_w * gone,
  };
}

/** Follows the cycle for at most one period, stretch by stretch. */
function walk(from: Point, cycle: readonly Stretch[], period_s: number, lasts_s: number): Point {
  const start_s = from.at_s % period_s;
  const end_s = start_s + lasts_s;
  const point = { ...from, at_s: from.at_s + lasts_s };
  let boundary_s = 0;
  for (const stretch of [...cycle, ...cycle]) {
    const begins_s = Math.max(boundary_s, start_s);
    boundary_s += stretch.lasts_s;
    const ends_s = Math.min(boundary_s, end_s);
    if (ends_s > begins_s) approach(point, stretch.target_w, ends_s - begins_s);
  }
  return point;
}

function approach(point: { power_w: number; energy_j: number }, target_w: number, lasts_s: number): void {
  const gone = -Math.expm1(-lasts_s / lag_s);
  const above_w = point.power_w - target_w;
  point.energy_j += target_w * lasts_s + above_w * lag_s * gone;
  point.power_w -= above_w * gone;
}
