// THE TABLE: everything there is to say about an operation stands in its row, once.
// Routes, decoding, refusals, the guard, the Gpu and Cpu interfaces and a set of tests derive from it.
import type { Fields, Quantity } from "./field.ts";

/** The API groups that `--enable` turns on and that tokens carry as scopes. */
export const apiGroups = ["gpu-control", "gpu-read", "cpu-read"] as const;
export type ApiGroup = (typeof apiGroups)[number];

export type DeviceKind = "gpu" | "cpu";

/** The knobs of a GPU. */
export const settings = ["power_limit", "gpu_clocks", "memory_clocks", "persistence_mode"] as const;
export type Setting = (typeof settings)[number];

export interface Operation {
  /** The wire name; the key of the row is the method's name. */
  readonly name: string;
  readonly device: DeviceKind;
  readonly group: ApiGroup;
  /** A write answers nothing; a read answers `result` for each device; a stream goes on sending it. */
  readonly kind: "write" | "read" | "stream";
  /**
   * - `call`: answered by a call of the device's backend.
   * - `feed`: answered by the device's power feed.
   * - `parts`: a write that is done as the operations which change each of its settings alone, with the same parameters; all are
   *   tried even when the first fails.
   * - `settings`: answered by what the daemon remembers of the settings, beside what the driver tells.
   */
  readonly by: "call" | "feed" | "parts" | "settings";
  readonly parameters: Fields;
  readonly result: Fields;
  /** How a read's results are laid out: by device id, or as one snapshot with a time stamp. */
  readonly layout: "by_id" | "snapshot";
  /** The settings that a write changes. */
  readonly settings?: readonly Setting[];
  /** What a read tells about a setting: its value, or what is in force. */
  readonly tells?: { readonly setting: Setting; readonly value: "set" | "enforced" };
  /** Two parameters of which the first must not be above the second. */
  readonly range?: readonly [low: string, high: string];
  /** The query wire (0.3 and later) serves it at `/<device>/<name>`. */
  readonly query: boolean;
  /** The JSON wire (0.1 and 0.2) serves it at `/<device>/{id}/<path>`, with the parameters in a JSON body unless it is a GET. */
  readonly json?: { readonly method: "GET" | "POST"; readonly paths: readonly string[] };
  readonly doc: string;
}

/** A row with the name of its method. */
export type Row = Operation & { readonly call: string };

/** The shape of a write: gpu-control, by a call unless it says otherwise, nothing in return. */
const write = {
  device: "gpu",
  group: "gpu-control",
  kind: "write",
  by: "call",
  result: {},
  layout: "by_id",
  query: true,
} as const;
const gpuRead = {
  device: "gpu",
  group: "gpu-read",
  kind: "read",
  by: "call",
  parameters: {},
  layout: "by_id",
  query: true,
} as const;
const cpuRead = { device: "cpu", group: "cpu-read", kind: "read", layout: "by_id" } as const;

/** A range of clocks, of the GPU or of its memory. */
function clockRange<Clocks extends Quantity>(quantity: Clocks) {
  return {
    min_clock_mhz: { type: "u32", unit: "MHz", quantity, doc: "the lowest clock to run at" },
    max_clock_mhz: { type: "u32", unit: "MHz", quantity, doc: "the highest clock to run at" },
  } as const;
}
const enabled = { type: "boolean", doc: "whether the driver stays loaded while no client uses the GPU" } as const;
const power_limit_mw = {
  type: "u32",
  unit: "mW",
  quantity: "power_limit_mw",
  doc: "the most that the GPU may draw",
} as const;
const power_mw = { type: "u32", unit: "mW", doc: "the power drawn now" } as const;

function reason(doc: string) {
  return { type: "boolean", doc: `whether the clocks are not higher because ${doc}` } as const;
}
/** NVML's reasons. Several can hold at once. */
const throttleReasons = {
  gpu_idle: reason("nothing runs on the GPU"),
  applications_clocks_setting: reason("of the clocks that were set for applications"),
  sw_power_cap: reason("the power limit is reached"),
  hw_slowdown: reason("the hardware has at least halved them: for heat, its power brake or a sudden draw of power"),
  sync_boost: reason("another GPU of its sync boost group keeps them lower"),
  sw_thermal_slowdown: reason("the driver keeps the GPU or its memory from getting too hot"),
  hw_thermal_slowdown: reason("the hardware has at least halved them for heat"),
  hw_power_brake_slowdown: reason("the hardware has at least halved them when the power supply asked for it"),
  display_clock_setting: reason("of the clocks that the display is set to"),
} as const;

export const gpuOperations = {
  setPersistenceMode: {
    ...write,
    name: "set_persistence_mode",
    parameters: { enabled },
    settings: ["persistence_mode"],
    json: { method: "POST", paths: ["set_persistence_mode", "set_persistent_mode"] },
    doc: "Keep the driver loaded while no client uses the GPU, or let it unload.",
  },
  setPowerLimit: {
    ...write,
    name: "set_power_limit",
    parameters: { power_limit_mw },
    settings: ["power_limit"],
    json: { method: "POST", paths: ["set_power_limit"] },
    doc: "Set the power limit, within the constraints of the GPU.",
  },
  setGpuLockedClocks: {
    ...write,
    name: "set_gpu_locked_clocks",
    parameters: clockRange("gpu_clock_mhz"),
    settings: ["gpu_clocks"],
    range: ["min_clock_mhz", "max_clock_mhz"],
    json: { method: "POST", paths: ["set_gpu_locked_clocks"] },
    doc: "Lock the GPU (SM) clocks to a range.",
  },
  resetGpuLockedClocks: {
    ...write,
    name: "reset_gpu_locked_clocks",
    parameters: {},
    settings: ["gpu_clocks"],
    json: { method: "POST", paths: ["reset_gpu_locked_clocks"] },
    doc: "Unlock the GPU (SM) clocks.",
  },
  setMemLockedClocks: {
    ...write,
    name: "set_mem_locked_clocks",
    parameters: clockRange("memory_clock_mhz"),
    settings: ["memory_clocks"],
    range: ["min_clock_mhz", "max_clock_mhz"],
    json: { method: "POST", paths: ["set_mem_locked_clocks"] },
    doc: "Lock the memory clocks to a range.",
  },
  resetMemLockedClocks: {
    ...write,
    name: "reset_mem_locked_clocks",
    parameters: {},
    settings: ["memory_clocks"],
    json: { method: "POST", paths: ["reset_mem_locked_clocks"] },
    doc: "Unlock the memory clocks.",
  },
  resetLockedClocks: {
    ...write,
    name: "reset_locked_clocks",
    by: "parts",
    parameters: {},
    settings: ["gpu_clocks", "memory_clocks"],
    doc: "Unlock the GPU and the memory clocks; both are tried even when the first fails.",
  },
  getCumulativeEnergy: {
    ...gpuRead,
    name: "get_cumulative_energy",
    result: { energy_mj: { type: "u64", unit: "mJ", doc: "energy drawn since the driver was loaded" } },
    doc: "Read the energy counter.",
  },
  getPower: {
    ...gpuRead,
    name: "get_power",
    result: { power_mw },
    layout: "snapshot",
    doc: "Read the power drawn now.",
  },
  streamPower: {
    ...gpuRead,
    name: "stream_power",
    kind: "stream",
    by: "feed",
    result: { power_mw },
    layout: "snapshot",
    doc: "Follow the power drawn: an event whenever it changes.",
  },
  getPowerLimit: {
    ...gpuRead,
    name: "get_power_limit",
    result: { power_limit_mw },
    tells: { setting: "power_limit", value: "set" },
    doc: "Read the power limit that is set.",
  },
  getEnforcedPowerLimit: {
    ...gpuRead,
    name: "get_enforced_power_limit",
    result: { power_limit_mw },
    tells: { setting: "power_limit", value: "enforced" },
    doc: "Read the power limit that is in force: the lowest of all limits on the GPU.",
  },
  getPowerLimitConstraints: {
    ...gpuRead,
    name: "get_power_limit_constraints",
    result: {
      min_power_limit_mw: { type: "u32", unit: "mW", doc: "the lowest power limit that the GPU takes" },
      max_power_limit_mw: { type: "u32", unit: "mW", doc: "the highest power limit that the GPU takes" },
    },
    doc: "Read the range of power limits that the GPU takes.",
  },
  getDefaultPowerLimit: {
    ...gpuRead,
    name: "get_default_power_limit",
    result: { power_limit_mw },
    doc: "Read the power limit that the GPU has when nobody has set one.",
  },
  getPersistenceMode: {
    ...gpuRead,
    name: "get_persistence_mode",
    result: { enabled },
    tells: { setting: "persistence_mode", value: "set" },
    doc: "Read whether the driver stays loaded while no client uses the GPU.",
  },
  getClocks: {
    ...gpuRead,
    name: "get_clocks",
    result: {
      gpu_clock_mhz: { type: "u32", unit: "MHz", doc: "the clock that the GPU (SM) runs at now" },
      memory_clock_mhz: { type: "u32", unit: "MHz", doc: "the clock that the memory runs at now" },
    },
    doc: "Read the clocks that the GPU and its memory run at now.",
  },
  getSupportedClocks: {
    ...gpuRead,
    name: "get_supported_clocks",
    result: {
      memory_clocks_mhz: { type: "list of u32", unit: "MHz", doc: "the clocks that the memory has, highest first" },
      gpu_clocks_mhz: {
        type: "list of u32",
        unit: "MHz",
        doc: "the clocks that the GPU has while its memory runs at its highest, highest first",
      },
    },
    doc: "Read which clocks the GPU and its memory have.",
  },
  getThrottleReasons: {
    ...gpuRead,
    name: "get_throttle_reasons",
    result: throttleReasons,
    doc: "Read what keeps the clocks of the GPU from being higher now.",
  },
  getState: {
    ...gpuRead,
    name: "get_state",
    by: "settings",
    result: {},
    query: false,
    doc: "Tell what each setting was asked to be, is set to and what is in force, who holds it, and whether it binds.",
  },
} as const satisfies Record<string, Operation>;

const cpuEnergy = {
  cpu_energy_uj: { type: "u64 or null", unit: "µJ", doc: "energy of the package, null if not asked for" },
  dram_energy_uj: {
    type: "u64 or null",
    unit: "µJ",
    doc: "energy of its memory, null if not asked for or not measured",
  },
} as const;
const cpuPower = {
  cpu_mw: { type: "u64", unit: "mW", doc: "mean power of the package over one sampling period" },
  dram_mw: { type: "u64 or null", unit: "mW", doc: "mean power of its memory, null if not measured" },
} as const;

export const cpuOperations = {
  getCumulativeEnergy: {
    ...cpuRead,
    name: "get_cumulative_energy",
    by: "call",
    parameters: {
      cpu: { type: "boolean", doc: "whether to read the energy of the package" },
      dram: { type: "boolean", doc: "whether to read the energy of its memory" },
    },
    result: cpuEnergy,
    query: true,
    json: { method: "POST", paths: ["get_index_energy"] },
    doc: "Read the energy counters of the CPU package and its memory.",
  },
  supportsDramEnergy: {
    ...cpuRead,
    name: "supports_dram_energy",
    by: "call",
    parameters: {},
    result: { dram_available: { type: "boolean", doc: "whether the energy of the memory is measured" } },
    query: false,
    json: { method: "GET", paths: ["supports_dram_energy"] },
    doc: "Tell whether the energy of the memory is measured.",
  },
  getPower: {
    ...cpuRead,
    name: "get_power",
    by: "feed",
    parameters: {},
    result: cpuPower,
    layout: "snapshot",
    query: true,
    doc: "Measure the mean power over one sampling period.",
  },
  streamPower: {
    ...cpuRead,
    name: "stream_power",
    kind: "stream",
    by: "feed",
    parameters: {},
    result: cpuPower,
    layout: "snapshot",
    query: true,
    doc: "Follow the power drawn: an event whenever it changes.",
  },
} as const satisfies Record<string, Operation>;

type Rows<Table extends Record<string, Operation>> = { readonly [Name in keyof Table]: Row };

/** The rows of GPUs by their methods. Rules and rights know a row as this very object: it is never copied. */
export const gpuRows: Rows<typeof gpuOperations> = rowsOf(gpuOperations);
const cpuRows = rowsOf(cpuOperations);

function rowsOf<Table extends Record<string, Operation>>(table: Table): Rows<Table> {
  const rows = Object.entries(table).map(([call, row]) => [call, { call, ...row }] as const);
  // They have the names that they are made of.
  return Object.fromEntries(rows) as Rows<Table>;
}

/** Every row with the name of its method, for what loops over the table. */
export const allOperations: readonly Row[] = [...Object.values<Row>(gpuRows), ...Object.values<Row>(cpuRows)];
