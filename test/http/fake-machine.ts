// Two GPUs and two CPUs that do as they are told and write down every call, as in the golden exchanges.
import { onTestFinished } from "vitest";
import type { Backends } from "../../src/backends/select.ts";
import type { Cpu } from "../../src/contract/cpu.ts";
import type { Values } from "../../src/contract/field.ts";
import type { AwayGpu, Gpu } from "../../src/contract/gpu.ts";

type Answer = Values | (() => Promise<Values>) | Error;

export interface FakeMachine {
  readonly backends: Backends;
  /** Every call that reached a device, for example `gpu 0 setPowerLimit {"power_limit_mw":200000}`. */
  readonly calls: string[];
  /** Decides what a call answers from now on: values, something to wait for, or an error to throw. */
  answer(device: `${"gpu" | "cpu"} ${number}`, call: string, answer: Answer): void;
  /** Makes a call wait until the result is called, or else until the test ends. */
  hold(device: `${"gpu" | "cpu"} ${number}`, call: string, values?: Values): () => void;
  /** The GPUs that cannot be opened from now on. */
  takeAway(...away: readonly AwayGpu[]): void;
}

const gpuAnswers = (id: number): Readonly<Record<string, Values>> => ({
  setPersistenceMode: {},
  setPowerLimit: {},
  setGpuLockedClocks: {},
  resetGpuLockedClocks: {},
  setMemLockedClocks: {},
  resetMemLockedClocks: {},
  getCumulativeEnergy: { energy_mj: 1_000_000 * (id + 1) },
  getPower: { power_mw: 50_000 + id },
  getPowerLimit: { power_limit_mw: 300_000 },
  getEnforcedPowerLimit: { power_limit_mw: 300_000 },
  getPowerLimitConstraints: { min_power_limit_mw: 100_000, max_power_limit_mw: 400_000 },
  getDefaultPowerLimit: { power_limit_mw: 300_000 },
  getPersistenceMode: { enabled: false },
  getClocks: { gpu_clock_mhz: 1980, memory_clock_mhz: 2619 },
  getSupportedClocks: { memory_clocks_mhz: [2619], gpu_clocks_mhz: [1980, 1965, 1950] },
  getThrottleReasons: {
    gpu_idle: false,
    applications_clocks_setting: false,
    sw_power_cap: true,
    hw_slowdown: false,
    sync_boost: false,
    sw_thermal_slowdown: false,
    hw_thermal_slowdown: false,
    hw_power_brake_slowdown: false,
    display_clock_setting: false,
  },
});

export interface FakeMachineOptions {
  readonly gpus?: number;
  readonly cpus?: number;
  /** GPUs that cannot be opened. */
  readonly away?: readonly AwayGpu[];
  /** Calls that GPU 0's vendor lacks. */
  readonly lacks?: readonly string[];
}

export function createFakeMachine({ gpus = 2, cpus = 2, away = [], lacks = [] }: FakeMachineOptions = {}): FakeMachine {
  const calls: string[] = [];
  let missing = away;
  const answers = new Map<string, Answer>();
  const perform = async (device: string, call: string, usual: Values, parameters: unknown): Promise<Values> => {
    calls.push(`${device} ${call} ${JSON.stringify(parameters)}`);
    const answer = answers.get(`${device} ${call}`) ?? usual;
    if (answer instanceof Error) throw answer;
    return typeof answer === "function" ? (answer as () => Promise<Values>)() : answer;
  };
  const functions = (device: string, usual: Readonly<Record<string, Values>>, absent: readonly string[]): object =>
    Object.fromEntries(
      Object.entries(usual)
        .filter(([call]) => !absent.includes(call))
        .map(([call, values]) => [call, (parameters: unknown) => perform(device, call, values, parameters)]),
    );
  const gpu = (id: number): Gpu => {
    const facts = {
      id,
      name: `Fake GPU ${id}`,
      uuid: `GPU-00000000-0000-0000-0000-00000000000${id}`,
      pci_address: `0000:4${id + 1}:00.0`,
      cumulative_energy_available: true,
    };
    return { ...facts, ...functions(`gpu ${id}`, gpuAnswers(id), id === 0 ? lacks : []) };
  };
  const cpu = (id: number): Cpu => {
    const dram_available = id === 0;
    const usual = { cpu_energy_uj: 1_000_000 * (id + 1), dram_energy_uj: id === 0 ? 700_000 : null };
    return {
      id,
      dram_available,
      supportsDramEnergy: async () => ({ dram_available }),
      async getCumulativeEnergy(parameters) {
        const values = await perform(`cpu ${id}`, "getCumulativeEnergy", usual, parameters);
        return {
          cpu_energy_uj: parameters.cpu ? Number(values["cpu_energy_uj"]) : null,
          dram_energy_uj: parameters.dram && dram_available ? Number(values["dram_energy_uj"]) : null,
        };
      },
    };
  };
  const count = (howMany: number): number[] => Array.from({ length: howMany }, (_, id) => id);
  const records = new Map<number, Gpu>();
  const find = (id: number, lost: ReadonlySet<number>): Gpu | AwayGpu => {
    if (lost.has(id)) records.delete(id);
    const record = records.get(id) ?? missing.find((one) => one.id === id) ?? gpu(id);
    if (!("away" in record)) records.set(id, record);
    return record;
  };
  return {
    calls,
    answer: (device, call, answer) => void answers.set(`${device} ${call}`, answer),
    hold(device, call, values = {}) {
      let release = (): void => {};
      const held = new Promise<Values>((resolve) => {
        release = () => resolve(values);
      });
      answers.set(`${device} ${call}`, () => held);
      onTestFinished(release);
      return release;
    },
    takeAway: (...now) => void (missing = now),
    backends: {
      gpus: { name: "fake", probe: async (lost) => count(gpus).map((id) => find(id, lost)) },
      cpus: async () => count(cpus).map(cpu),
    },
  };
}
