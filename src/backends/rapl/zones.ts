// Which zones of the powercap tree are CPU packages, and which of their sub-zones is the memory.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../contract/clock.ts";
import { messageOf } from "../../contract/errors.ts";
import type { Log } from "../../contract/log.ts";
import { openEnergyCounter, type EnergyCounter } from "./energy-counter.ts";
import { readText } from "./sysfs.ts";

interface ZoneParts {
  readonly log: Pick<Log, "info" | "warn">;
  readonly clock: Pick<Clock, "monotonicMs">;
}

export interface CpuPackage {
  /** The N of `intel-rapl:N`. */
  readonly id: number;
  readonly cpu: EnergyCounter;
  readonly dram: EnergyCounter | null;
}

/** The packages under `root`, by ascending id; none if it is not there. What cannot be read is left out with a warning. */
export async function findPackages(root: string, parts: ZoneParts): Promise<readonly CpuPackage[]> {
  const ids = await numbersAfter("intel-rapl:", root).catch(() => []);
  const packages = await Promise.all(ids.map((id) => openPackage(join(root, `intel-rapl:${id}`), id, parts)));
  return packages.filter((found) => found !== null);
}

async function openPackage(folder: string, id: number, parts: ZoneParts): Promise<CpuPackage | null> {
  return orSkip(folder, parts, async () => {
    const name = await readText(join(folder, "name"));
    // psys, for one, is the whole board, and contains the packages.
    if (!name.startsWith("package-")) {
      parts.log.info(`RAPL zone ${folder} is "${name}", not a CPU package: left out`);
      return null;
    }
    const cpu = await openEnergyCounter(folder, parts);
    return { id, cpu, dram: await openDram(folder, id, parts) };
  });
}

/** The first sub-zone named exactly `dram`. Others, such as `core`, need not even have a counter. */
async function openDram(folder: string, id: number, parts: ZoneParts): Promise<EnergyCounter | null> {
  const prefix = `intel-rapl:${id}:`;
  const numbers = (await orSkip(folder, parts, () => numbersAfter(prefix, folder))) ?? [];
  const subzones = numbers.map((number) => join(folder, `${prefix}${number}`));
  const names = await Promise.all(subzones.map((zone) => orSkip(zone, parts, () => readText(join(zone, "name")))));
  const dram = subzones.find((_, index) => names[index] === "dram");
  return dram === undefined ? null : orSkip(dram, parts, () => openEnergyCounter(dram, parts));
}

async function orSkip<T>(zone: string, { log }: ZoneParts, open: () => Promise<T>): Promise<T | null> {
  try {
    return await open();
  } catch (error) {
    log.warn(`RAPL zone ${zone} left out: ${messageOf(error)}`);
    return null;
  }
}

/** The numbers N, ascending, for which `folder` has an entry `<prefix>N`. */
async function numbersAfter(prefix: string, folder: string): Promise<readonly number[]> {
  const entries = await readdir(folder);
  return entries
    .filter((entry) => entry.startsWith(prefix) && /^(0|[1-9]\d{0,8})$/.test(entry.slice(prefix.length)))
    .map((entry) => Number(entry.slice(prefix.length)))
    .toSorted((one, other) => one - other);
}
