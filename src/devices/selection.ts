// Which devices a command means, by id, UUID or PCI address.
import type { Command } from "../contract/command.ts";
import { isCalled, normalGpuName } from "../contract/device-name.ts";
import { UnknownDevice } from "../contract/errors.ts";
import type { Target } from "../contract/target.ts";

/** What a device can be called by. */
type Named = Pick<Target, "id" | "uuid" | "pci_address">;

/**
 * The devices of `known` that the command names, by ascending id and once each; `present` are those meant when it names none.
 * Throws UnknownDevice if one does not exist.
 */
export function select<D extends Named>(
  command: Command,
  known: ReadonlyMap<number, D>,
  present: readonly D[],
): readonly D[] {
  if (!command.devices) return present;
  const found = new Map<number, D>();
  const missing: (number | string)[] = [];
  for (const reference of command.devices) {
    const device = typeof reference === "number" ? known.get(reference) : findByName(known, reference);
    if (device) found.set(device.id, device);
    else missing.push(reference);
  }
  if (missing.length > 0) {
    const sorted = [...new Set(missing)].toSorted(byNumber);
    throw new UnknownDevice(
      command.row.device.toUpperCase(),
      sorted,
      present.map(({ id }) => id),
    );
  }
  return [...found.values()].toSorted((one, other) => one.id - other.id);
}

/** Ids first and by size, then names. */
function byNumber(one: number | string, other: number | string): number {
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (typeof one === typeof other) return String(one).localeCompare(String(other));
  return typeof one === "number" ? -1 : 1;
}

function findByName<D extends Named>(known: ReadonlyMap<number, D>, name: string): D | undefined {
  const wanted = normalGpuName(name);
  for (const device of known.values()) if (isCalled(device, wanted)) return device;
  return undefined;
}
