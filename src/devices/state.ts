// The state of a GPU's settings: what was asked for, what is set, what is in force, who wants it so, and whether it binds.
import type { Caller } from "../contract/command.ts";
import { ZeusdError, type ErrorCode } from "../contract/errors.ts";
import type { LeaseFacts } from "../contract/events.ts";
import type { Values } from "../contract/field.ts";
import { gpuKey, type Lease } from "../contract/lease.ts";
import {
  allOperations,
  gpuRows,
  settings,
  type gpuOperations,
  type Row,
  type Setting,
} from "../contract/operations.ts";
import type { Reading } from "./last-known.ts";
import type { Member } from "./member.ts";

export interface StateParts {
  readonly nowMs: () => number;
  readonly leases: () => readonly Lease[];
  readonly factsOf: (lease: Lease) => LeaseFacts;
}

/** One setting. The value of one that is reset has no fields; null is not known, or not told by the driver. */
interface SettingState {
  /** The newest value that was asked for and still stands. */
  readonly asked: Values | null;
  readonly set: Values | null;
  /** What is in force, where the driver tells it: the lowest of all limits. */
  readonly enforced: Values | null;
  /** How old `set` is, in ms. */
  readonly age_ms: number | null;
  /** The lease that wants it so; null if it was asked for without one, or not at all. */
  readonly held_by: LeaseFacts | null;
  /** Whether it keeps the GPU from running faster now. */
  readonly binds: boolean | null;
  /** Whether something else than what was asked for is set, and how often that was found. */
  readonly drift: boolean;
  readonly drifts: number;
}

export interface GpuState extends Readonly<Record<Setting, SettingState>> {
  /** The leases that cover the GPU or have changed something on it. */
  readonly leases: readonly LeaseFacts[];
  /** Settings that are to be put back and are not yet. */
  readonly restoring: readonly Setting[];
  /** Why the clocks are not higher; null if the driver does not tell. */
  readonly throttle_reasons: readonly string[] | null;
  /** Why what stands here is what was last known; null if it was read now. */
  readonly stale: string | null;
  readonly supported?: Readonly<Record<string, Values | null>>;
}

const reasonsRow = gpuRows.getThrottleReasons;
const tellers = allOperations.filter(({ tells }) => tells);
/** What tells what a GPU can do. It does not change while the daemon runs. */
const abilities = [gpuRows.getPowerLimitConstraints, gpuRows.getDefaultPowerLimit, gpuRows.getSupportedClocks];

/** The reason that says of a setting that it binds, in the driver's terms. */
const bindingReasons: Partial<Record<Setting, keyof (typeof gpuOperations)["getThrottleReasons"]["result"]>> = {
  power_limit: "sw_power_cap",
  gpu_clocks: "applications_clocks_setting",
};

/** Reads a GPU's state, or says what was last known of it while its lane is stuck or the GPU is away. */
export async function stateOf(
  member: Member,
  parts: StateParts,
  caller: Caller,
  withSupported: boolean,
): Promise<GpuState> {
  const rows = [...tellers, reasonsRow, ...(withSupported ? abilities : [])];
  const readings = await Promise.all(rows.map((row) => read(member, row, caller, parts.nowMs)));
  const found = new Map(rows.map((row, index) => [row, readings[index] ?? {}] as const));
  const failure = readings.find(({ stale }) => stale !== undefined)?.stale;
  const reasons = found.get(reasonsRow)?.reading?.values;
  const states = settings.map((setting) => [setting, settingState(member, setting, found, parts)] as const);
  const supported = abilities.map(
    (row) => [row.name.replace("get_", ""), found.get(row)?.reading?.values ?? null] as const,
  );
  return {
    ...(Object.fromEntries(states) as Record<Setting, SettingState>),
    leases: leasesOn(member, parts),
    restoring: [...(member.settings?.owed ?? [])],
    throttle_reasons: reasons ? Object.keys(reasons).filter((name) => reasons[name] === true) : null,
    stale: failure ?? null,
    ...(withSupported ? { supported: Object.fromEntries(supported) } : {}),
  };
}

interface Found {
  readonly reading?: Reading | undefined;
  /** Why the reading is not of now. */
  readonly stale?: string;
}

/** Errors that say that the driver cannot be asked now. */
const passing: ReadonlySet<ErrorCode> = new Set([
  "lane_stuck",
  "deadline",
  "queue_full",
  "gpu_away",
  "gpu_lost",
  "driver_error",
]);

async function read(member: Member, row: Row, caller: Caller, nowMs: () => number): Promise<Found> {
  try {
    const values = await member.run({ row, parameters: {} }, { caller });
    return { reading: { values, atMs: nowMs() } };
  } catch (error) {
    if (!(error instanceof ZeusdError)) throw error;
    if (error.code === "client_gone" || error.code === "stopping") throw error;
    const reading = member.lastKnown.reading(row);
    return passing.has(error.code) ? { reading, stale: error.message } : { reading };
  }
}

function settingState(
  { settings: remembered, lastKnown }: Member,
  setting: Setting,
  found: ReadonlyMap<Row, Found>,
  { nowMs, leases, factsOf }: StateParts,
): SettingState {
  const told = (value: "set" | "enforced"): Found | undefined => {
    const row = tellers.find(({ tells }) => tells?.setting === setting && tells.value === value);
    return row && found.get(row);
  };
  const winner = remembered?.winner(setting);
  const asked = winner && winner.order > 0 ? winner.value : null;
  const holder = leases().find(({ number }) => number === winner?.lease);
  // It may have been set since it was last read.
  const set = lastKnown.setting(setting) ?? told("set")?.reading;
  const reason = bindingReasons[setting];
  const reasons = found.get(reasonsRow)?.reading?.values;
  return {
    asked,
    set: set?.values ?? null,
    enforced: told("enforced")?.reading?.values ?? null,
    age_ms: set ? Math.round(nowMs() - set.atMs) : null,
    held_by: holder ? factsOf(holder) : null,
    binds: reason && reasons ? reasons[reason] === true : null,
    drift: remembered?.drifts.of(setting) !== undefined,
    drifts: remembered?.drifts.count(setting) ?? 0,
  };
}

function leasesOn(member: Member, { leases, factsOf }: StateParts): readonly LeaseFacts[] {
  const key = gpuKey(member);
  return leases()
    .filter(({ gpus, number }) => gpus.includes(key) || member.settings?.has(number))
    .map((lease) => factsOf(lease));
}
