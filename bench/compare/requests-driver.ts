// What the driver and the powercap tree answer, and what becomes of it.
import type { Exchange } from "./exchange.ts";
import { get, post, postJson } from "./requests.ts";

const codes = [...Array.from({ length: 30 }, (_, index) => index + 1), 99, 999, 1000, -1];
const limit = "/gpu/set_power_limit?gpu_ids=0,1&power_limit_mw=200000&block=";

const named = (name: string, exchange: Exchange): Exchange => ({ ...exchange, name: `${exchange.name} with ${name}` });
const failing = (exchange: Exchange, ...faults: readonly string[]): Exchange =>
  named(faults.filter((rule) => rule !== noUsage).join("; "), { ...exchange, faults });

/** Ours would ask for it where the field is not there. */
const noUsage = "nvmlDeviceGetPowerUsage=code:3";

const symbols = {
  get_power: "nvmlDeviceGetFieldValues",
  get_cumulative_energy: "nvmlDeviceGetTotalEnergyConsumption",
  get_power_limit: "nvmlDeviceGetPowerManagementLimit",
  get_power_limit_constraints: "nvmlDeviceGetPowerManagementLimitConstraints",
  get_persistence_mode: "nvmlDeviceGetPersistenceMode",
} as const;
const setters = {
  "set_persistence_mode?enabled=true&": "nvmlDeviceSetPersistenceMode",
  "set_gpu_locked_clocks?min_clock_mhz=210&max_clock_mhz=1410&": "nvmlDeviceSetGpuLockedClocks",
  "reset_gpu_locked_clocks?": "nvmlDeviceResetGpuLockedClocks",
  "set_mem_locked_clocks?min_clock_mhz=2619&max_clock_mhz=2619&": "nvmlDeviceSetMemoryLockedClocks",
  "reset_mem_locked_clocks?": "nvmlDeviceResetMemoryLockedClocks",
} as const;

export const driverRequests: readonly Exchange[] = [
  ...codes.flatMap((code) => [
    failing(get("/gpu/get_power"), `field186.0=code:${code}`, `nvmlDeviceGetPowerUsage=code:${code}`),
    failing(get("/gpu/get_power"), `nvmlDeviceGetFieldValues=code:${code}`, noUsage),
    failing(get("/gpu/get_power_limit?gpu_ids=1"), `nvmlDeviceGetPowerManagementLimit=code:${code}`),
    failing(post(`${limit}true`), `nvmlDeviceSetPowerManagementLimit=code:${code}`),
    failing(post(`${limit}false`), `nvmlDeviceSetPowerManagementLimit=code:${code}`),
  ]),
  ...Object.entries(symbols).flatMap(([name, symbol]) => [
    ...[3, 4, 15].map((code) => failing(get(`/gpu/${name}`), `${symbol}@1=code:${code}`, noUsage)),
    failing(get(`/gpu/${name}`), `${symbol}@0=code:3`, `${symbol}@1=code:4`, noUsage),
    failing(get(`/gpu/${name}`), `${symbol}@0=code:999`, `${symbol}@1=code:2`, noUsage),
    failing(get(`/gpu/${name}?gpu_ids=0`), `${symbol}@1=code:3`, noUsage),
  ]),
  ...Object.entries(setters).flatMap(([name, symbol]) => [
    ...[2, 3, 4, 15].map((code) => failing(post(`/gpu/${name}gpu_ids=0,1&block=true`), `${symbol}@1=code:${code}`)),
    failing(post(`/gpu/${name}gpu_ids=0,1&block=false`), `${symbol}=code:4`),
  ]),
  ...[0, 1, 2, 3, 4, 5, 6, 7, 8, 255].map((type) =>
    failing(get("/gpu/get_power?gpu_ids=0"), `field186.0=type:${type}`, noUsage),
  ),
  ...["0", "4294967295", "4294967296", "4294967297", "18446744073709551615"].flatMap((value) =>
    [1, 2, 3].map((type) =>
      failing(get("/gpu/get_power?gpu_ids=0"), `field186.0=type:${type},value:${value}`, noUsage),
    ),
  ),
  ...["0", "4294967296", "9007199254740993", "18446744073709551615"].map((value) =>
    failing(get("/gpu/get_cumulative_energy"), `nvmlDeviceGetTotalEnergyConsumption=value:${value}`),
  ),
  ...[0, 1, 2, 7].map((value) =>
    failing(get("/gpu/get_persistence_mode"), `nvmlDeviceGetPersistenceMode=value:${value}`),
  ),
  failing(get("/gpu/get_power_limit"), "nvmlDeviceGetPowerManagementLimit=value:4294967295"),
  failing(get("/gpu/get_power"), "field186.0@0=delay:300", noUsage),
  failing(post(`${limit}true`), "nvmlDeviceSetPowerManagementLimit@0=delay:300"),
  failing(get("/gpu/get_power"), "field186.0=code:3"),
];

/** Eleven GPUs: keys of errors are sorted as text. */
export const manyRequests: readonly Exchange[] = [
  get("/discover"),
  get("/gpu/get_power"),
  get("/gpu/get_power_limit?gpu_ids=10,2,1"),
  failing(get("/gpu/get_power_limit"), "nvmlDeviceGetPowerManagementLimit=code:3"),
  post("/gpu/set_power_limit?gpu_ids=10,9,2,10&power_limit_mw=200000&block=true"),
  post("/gpu/set_power_limit?gpu_ids=11&power_limit_mw=200000&block=true"),
];

/** No GPU at all. */
export const noneRequests: readonly Exchange[] = [
  ...[
    "/discover",
    "/gpu/get_power",
    "/gpu/get_power_limit",
    "/gpu/get_cumulative_energy",
    "/gpu/get_power?gpu_ids=0",
  ].map((path) => get(path)),
  { ...get("/gpu/stream_power"), events: 0 },
  get("/gpu/stream_power?gpu_ids=0"),
  get("/cpu/get_cumulative_energy?cpu=true&dram=true"),
  get("/cpu/get_power"),
  { ...get("/cpu/stream_power"), events: 0 },
  post(`${limit}true`),
  post(`${limit}false`),
];

export const jsonDriverRequests: readonly Exchange[] = codes.flatMap((code) =>
  ["true", "false"].map((block) =>
    failing(
      postJson("/gpu/1/set_power_limit", `{"power_limit_mw":200000,"block":${block}}`),
      `nvmlDeviceSetPowerManagementLimit=code:${code}`,
    ),
  ),
);

const energy = get("/cpu/get_cumulative_energy?cpu=true&dram=true");
const counters = { energy_uj: "intel-rapl:1/energy_uj", dram: "intel-rapl:0/intel-rapl:0:1/energy_uj" } as const;
const usual = { energy_uj: "2000000\n", dram: "700000\n" } as const;
const broken = { text: "abc\n", nothing: "", "a blank": " \n", "a sign": "-1\n", "too much": "18446744073709551616\n" };
const odd = {
  "a plus": "+300000000\n",
  "no line end": "300000001",
  blanks: " 300000002 \n",
  hex: "0x1\n",
  "a dot": "1.5\n",
};

const counting = (file: keyof typeof counters, text: string | undefined, exchange = energy): Exchange =>
  named(`${JSON.stringify(text)} in ${file}`, { ...exchange, files: { [counters[file]]: text } });

export const cpuRequests: readonly Exchange[] = [
  energy,
  ...(["energy_uj", "dram"] as const).flatMap((file) => [
    ...[...Object.values(broken), undefined].flatMap((text) => [
      counting(file, text),
      counting(file, text, get("/cpu/get_power")),
      counting(file, text, get("/cpu/get_cumulative_energy?cpu=false&dram=true")),
      counting(file, text, get("/cpu/get_cumulative_energy?cpu_ids=0&cpu=true&dram=false")),
    ]),
    counting(file, usual[file]),
    ...Object.values(odd).map((text) => counting(file, text)),
    counting(file, "300000003"),
  ]),
  energy,
  counting("energy_uj", "100\n"),
  counting("energy_uj", "200\n"),
  counting("dram", "100\n", get("/cpu/get_cumulative_energy?cpu=false&dram=true")),
];
