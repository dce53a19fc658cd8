// NVML's C signatures and layouts: what its functions take, and where its records keep their fields.
import { loadLibrary, type Library } from "./load.ts";

const device = "void *device";

/** The parameters of each function; all of them return a code, 0 for success. */
const parameters = {
  nvmlInit_v2: "",
  nvmlShutdown: "",
  nvmlDeviceGetCount_v2: "_Out_ unsigned int *count",
  nvmlDeviceGetHandleByIndex_v2: "unsigned int index, _Out_ void **device",
  nvmlDeviceGetHandleByUUID: "const uint8_t *uuid, _Out_ void **device",
  nvmlDeviceGetName: `${device}, _Out_ uint8_t *name, unsigned int bytes`,
  nvmlDeviceGetUUID: `${device}, _Out_ uint8_t *uuid, unsigned int bytes`,
  nvmlDeviceGetPciInfo_v3: `${device}, _Out_ uint8_t *pci`,
  nvmlDeviceSetPersistenceMode: `${device}, unsigned int mode`,
  nvmlDeviceGetPersistenceMode: `${device}, _Out_ unsigned int *mode`,
  nvmlDeviceSetPowerManagementLimit: `${device}, unsigned int limit_mw`,
  nvmlDeviceGetPowerManagementLimit: `${device}, _Out_ unsigned int *limit_mw`,
  nvmlDeviceGetEnforcedPowerLimit: `${device}, _Out_ unsigned int *limit_mw`,
  nvmlDeviceGetPowerManagementDefaultLimit: `${device}, _Out_ unsigned int *limit_mw`,
  nvmlDeviceGetPowerManagementLimitConstraints: `${device}, _Out_ unsigned int *min_mw, _Out_ unsigned int *max_mw`,
  nvmlDeviceSetGpuLockedClocks: `${device}, unsigned int min_mhz, unsigned int max_mhz`,
  nvmlDeviceResetGpuLockedClocks: device,
  nvmlDeviceSetMemoryLockedClocks: `${device}, unsigned int min_mhz, unsigned int max_mhz`,
  nvmlDeviceResetMemoryLockedClocks: device,
  nvmlDeviceGetClockInfo: `${device}, unsigned int type, _Out_ unsigned int *clock_mhz`,
  nvmlDeviceGetSupportedMemoryClocks: `${device}, _Inout_ unsigned int *count, _Out_ uint8_t *clocks_mhz`,
  nvmlDeviceGetSupportedGraphicsClocks: `${device}, unsigned int memory_clock_mhz, _Inout_ unsigned int *count, _Out_ uint8_t *clocks_mhz`,
  // Newer drivers speak of event reasons, and have the old name as well.
  nvmlDeviceGetCurrentClocksThrottleReasons: `${device}, _Out_ unsigned long long *reasons`,
  nvmlDeviceGetTotalEnergyConsumption: `${device}, _Out_ unsigned long long *energy_mj`,
  nvmlDeviceGetFieldValues: `${device}, int count, _Inout_ uint8_t *values`,
  nvmlDeviceGetPowerUsage: `${device}, _Out_ unsigned int *power_mw`,
} as const;

export type NvmlSymbol = keyof typeof parameters;
export type NvmlLibrary = Library<NvmlSymbol>;

/** Installations without development files have only the first. */
export const nvmlNames: readonly string[] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];

export function loadNvml(names: readonly string[]): NvmlLibrary {
  return loadLibrary(names, parameters);
}

/** Room for a name or a UUID, with the NUL that ends it. */
export const textBytes = 96;

export function textOf(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end < 0 ? bytes.length : end);
}

/** Text as C takes it. */
export function bytesOf(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

/** How many numbers a list has room for at first: several times what GPUs have clocks. */
export const listRoom = 512;

export function createList(room: number): Buffer {
  return Buffer.alloc(4 * room);
}

/** The first `count` numbers of a list, as far as it has room for them. */
export function listOf(list: Buffer, count: number): readonly number[] {
  return Array.from({ length: Math.min(count, list.length / 4) }, (_, index) => list.readUInt32LE(4 * index));
}

const pciBytes = 68;

export function createPciInfo(): Buffer {
  return Buffer.alloc(pciBytes);
}

export function pciInfoOf(record: Buffer): { readonly domain: number; readonly bus: number; readonly device: number } {
  return { domain: record.readUInt32LE(16), bus: record.readUInt32LE(20), device: record.readUInt32LE(24) };
}

const fieldValueBytes = 40;

/** A record that asks for one field of one scope; the driver writes the answer into it. */
export function createFieldValue(fieldId: number, scopeId: number): Buffer {
  // From Node's pool of small buffers: one that is allocated by itself takes as long as the rest of the call.
  const record = Buffer.allocUnsafe(fieldValueBytes).fill(0);
  record.writeUInt32LE(fieldId, 0);
  record.writeUInt32LE(scopeId, 4);
  return record;
}

/** The types that a field's value can have, as far as they are unsigned whole numbers. */
const readers: Readonly<Record<number, (record: Buffer) => number | bigint>> = {
  1: (record) => record.readUInt32LE(32),
  2: (record) => record.readBigUInt64LE(32),
  3: (record) => record.readBigUInt64LE(32),
};

export interface FieldValue {
  /** The return code of this one field. */
  readonly code: number;
  readonly type: number;
  /** Absent if the type is no unsigned whole number. */
  readonly value?: number;
}

export function fieldValueOf(record: Buffer): FieldValue {
  const code = record.readInt32LE(28);
  const type = record.readUInt32LE(24);
  const read = readers[type];
  return read ? { code, type, value: Number(read(record)) } : { code, type };
}
