// Equipment: makes a device a member of the fleet, with what it needs to be driven and to tell of itself.
import type { Clock } from "../contract/clock.ts";
import type { Cpu } from "../contract/cpu.ts";
import type { ZeusdError } from "../contract/errors.ts";
import type { Events } from "../contract/events.ts";
import type { Gpu } from "../contract/gpu.ts";
import type { Health } from "../contract/health.ts";
import type { Log } from "../contract/log.ts";
import { gpuRows, type DeviceKind } from "../contract/operations.ts";
import type { Settings } from "../settings/settings.ts";
import type { FailureLog } from "./failure-log.ts";
import { Member, type MemberParts } from "./member.ts";
import { createPowerMeter } from "./power-meter.ts";
import type { Wakefulness } from "./wakefulness.ts";

export interface EquipmentParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly gpuPollHz: number;
  readonly cpuPollHz: number;
  /** How long a caller waits, and how long a driver call may run before its lane is stuck, in ms. */
  readonly timeoutMs: number;
  readonly wakefulness: Wakefulness;
  readonly events: Events;
  readonly health: Health;
  /** What the settings of the GPUs should be, and who wants them so. */
  readonly settings: Settings;
}

export interface Equipment {
  /** `failed` hears of every error of the device itself. */
  gpu(id: number, device: Gpu | ZeusdError, failed: (error: unknown) => void): Member<Gpu>;
  cpu(cpu: Cpu): Member<Cpu>;
}

export function createEquipment(parts: EquipmentParts, failures: FailureLog): Equipment {
  const { clock, settings, gpuPollHz, cpuPollHz } = parts;
  return {
    gpu: (id, device, failed) =>
      new Member("gpu", id, device, {
        ...sharedParts(parts, failures, "gpu", id, gpuPollHz),
        settings,
        sampler: (call) => ({ sample: () => call(gpuRows.getPower, {}) }),
        failed,
      }),
    cpu: (cpu) =>
      new Member("cpu", cpu.id, cpu, {
        ...sharedParts(parts, failures, "cpu", cpu.id, cpuPollHz),
        sampler: () => createPowerMeter(cpu, () => clock.monotonicMs()),
        failed: () => {},
      }),
  };
}

function sharedParts(
  { clock, log, timeoutMs, wakefulness, events, health }: EquipmentParts,
  failures: FailureLog,
  device: DeviceKind,
  id: number,
  hz: number,
): Omit<MemberParts, "sampler" | "failed"> {
  return {
    clock,
    log,
    timeoutMs,
    wakefulness,
    periodMs: 1000 / hz,
    stuck: (operation) => events.tell({ event: "lane_stuck", device, id, operation }),
    back: (operation) => events.tell({ event: "lane_back", device, id, operation }),
    notRestored(name, error) {
      const what = `What leases have changed on ${name}`;
      health.report(`restoration on ${name}`, error === undefined ? undefined : `${what} cannot be put back.`);
      if (error !== undefined) failures.tell(`${what} could not be put back, and is tried again`, error);
    },
  };
}
