// Leases as a table for a person: a line for each, in columns.
import type { Held, ListedLease } from "../client/leases.ts";
import { printable } from "../contract/printable.ts";
import type { Values } from "../contract/field.ts";
import { settings, type Setting } from "../contract/operations.ts";

const head = ["LEASE", "GPUS", "MODE", "HOLDER", "SINCE", "ENDS", "REASON", "SETTINGS"] as const;

/** Ends with a line break. */
export function leaseTable(leases: readonly ListedLease[], nowMs: number): string {
  const rows = [head, ...leases.map((lease) => cellsOf(lease, nowMs).map((cell) => printable(cell)))];
  const widths = head.map((_, column) => Math.max(...rows.map((row) => widthOf(row[column] ?? ""))));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => padded(cell, widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}

function cellsOf(lease: ListedLease, nowMs: number): readonly string[] {
  const { lease: number, gpu_ids, exclusive, implicit, reason, since_ms, expires_ms } = lease;
  return [
    String(number),
    gpu_ids.length === 0 ? "-" : gpu_ids.join(","),
    implicit ? "implicit" : exclusive ? "exclusive" : "shared",
    holderText(lease.holder),
    `${spanText(nowMs - since_ms)} ago`,
    expires_ms === null ? "with its holder" : `in ${spanText(expires_ms - nowMs)}`,
    reason ?? "-",
    settingsText(lease.settings),
  ];
}

function widthOf(cell: string): number {
  return [...cell].length;
}

function padded(cell: string, width: number): string {
  return cell + " ".repeat(width - widthOf(cell));
}

function holderText({ uid, pid, program, sub }: ListedLease["holder"]): string {
  const parts = [
    ...(uid === null ? [] : [`uid ${uid}`]),
    ...(sub === null ? [] : [`token ${sub}`]),
    ...(program === null ? [] : [program]),
    ...(pid === null ? [] : [`(${pid})`]),
  ];
  return parts.join(" ") || "-";
}

/** A span of time in words, never negative: `40 s`, `12 min`, `3 h 20 min`, `4 d 2 h`. */
function spanText(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  const [min, h, d] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86_400)];
  if (min < 1) return `${s} s`;
  if (h < 1) return `${min} min`;
  if (d < 1) return `${h} h ${min % 60} min`;
  return `${d} d ${h % 24} h`;
}

/** GPUs with the same settings stand together; their ids stand before them where there are others. */
function settingsText(byGpu: ListedLease["settings"]): string {
  const gpusBy = new Map<string, string[]>();
  for (const [id, held] of Object.entries(byGpu)) {
    const text = settings.flatMap((setting) => (held[setting] ? [knobText(setting, held[setting])] : [])).join(", ");
    if (text !== "") gpusBy.set(text, [...(gpusBy.get(text) ?? []), id]);
  }
  const texts = [...gpusBy].map(([text, ids]) => (gpusBy.size === 1 ? text : `${ids.join(",")}: ${text}`));
  return texts.join("; ") || "-";
}

/** A knob that a newer write has overridden stands in parentheses. */
function knobText(setting: Setting, { asked, wins }: Held): string {
  const text = `${setting.replace("_", " ").replace("gpu", "GPU")} ${valueText(asked)}`;
  return wins ? text : `(${text})`;
}

function valueText(values: Values): string {
  const { power_limit_mw, min_clock_mhz, max_clock_mhz, enabled } = values;
  if (typeof power_limit_mw === "number") return `${power_limit_mw / 1000} W`;
  if (typeof enabled === "boolean") return enabled ? "on" : "off";
  if (min_clock_mhz === undefined) return "unlocked";
  return min_clock_mhz === max_clock_mhz ? `${max_clock_mhz} MHz` : `${min_clock_mhz}-${max_clock_mhz} MHz`;
}
