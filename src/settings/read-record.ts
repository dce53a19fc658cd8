// From what the journal gives back to a record: root writes to GPUs what stands there, so nothing is taken on trust.
import type { Values } from "../contract/field.ts";
import type { Lease } from "../contract/lease.ts";
import { isSetting, setterOf } from "./knobs.ts";
import type { JournalRecord } from "./records.ts";

type Found = Readonly<Record<string, unknown>>;

/** Undefined if it is no record. */
export function readRecord(found: unknown): JournalRecord | undefined {
  if (!isObject(found)) return undefined;
  const { record } = found;
  const check = typeof record === "string" && Object.hasOwn(checks, record) ? checks[record] : undefined;
  // Each check below is of what the type of its record says.
  return check?.(found) ? (found as unknown as JournalRecord) : undefined;
}

const checks: Readonly<Record<string, (found: Found) => boolean>> = {
  lease: ({ lease }) => isLease(lease),
  ended: ({ lease }) => isCount(lease),
  base: (found) => isOfKnob(found) && isWritten(found),
  layer: (found) => isOfKnob(found) && isWritten(found) && isCount(found["lease"]),
  no_layer: (found) => isOfKnob(found) && isCount(found["lease"]),
  settled: isOfKnob,
};

function isOfKnob({ gpu, setting }: Found): boolean {
  return typeof gpu === "string" && isSetting(setting);
}

/** A value that an operation can set. */
function isWritten({ setting, value, order }: Found): boolean {
  if (!isSetting(setting) || !isObject(value) || !isCount(order)) return false;
  try {
    const { parameters } = setterOf(setting, value);
    return Object.entries(parameters).every(([name, { type }]) =>
      type === "boolean" ? typeof value[name] === "boolean" : isCount(value[name]),
    );
  } catch {
    return false;
  }
}

function isLease(lease: unknown): lease is Lease {
  if (!isObject(lease)) return false;
  const { number, id, implicit, exclusive, reason, sinceMs, ttlS, expiresMs, owner, holder, gpus } = lease;
  return (
    isCount(number) &&
    typeof id === "string" &&
    /^[\da-f]{32}$/.test(id) &&
    typeof implicit === "boolean" &&
    typeof exclusive === "boolean" &&
    isMaybe(reason, isText) &&
    isCount(sinceMs) &&
    isMaybe(ttlS, isCount) &&
    isMaybe(expiresMs, isCount) &&
    isOwner(owner) &&
    isMaybe(holder, isProcess) &&
    // Something has to end it.
    (holder !== undefined || expiresMs !== undefined) &&
    Array.isArray(gpus) &&
    gpus.every(isText)
  );
}

function isOwner(owner: unknown): boolean {
  if (!isObject(owner)) return false;
  const { uid, program, sub } = owner;
  return isMaybe(uid, isCount) && isMaybe(program, isText) && isMaybe(sub, isText);
}

function isProcess(holder: unknown): boolean {
  return isObject(holder) && isCount(holder["pid"]) && isCount(holder["started"]);
}

function isMaybe(value: unknown, is: (value: unknown) => boolean): boolean {
  return value === undefined || is(value);
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isObject(value: unknown): value is Found & Values {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
