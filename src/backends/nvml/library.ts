// NVML as backends use it: a call gives its value, or throws the error that is told to whoever asked.
import { ZeusdError } from "../../contract/errors.ts";
import type { Argument } from "../../native/load.ts";
import {
  createFieldValue,
  createPciInfo,
  fieldValueOf,
  loadNvml,
  pciInfoOf,
  textBytes,
  textOf,
  type NvmlLibrary,
  type NvmlSymbol,
} from "../../native/nvml.ts";
import { codeError, nativeError, unknownValueError, valueTypeError } from "./errors.ts";

/** NVML's pointer to a device. */
export type Handle = bigint;

export interface Nvml {
  run(symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<void>;
  /** What a function stores through its last `count` parameters, which are pointers to numbers. */
  numbers(count: number, symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<readonly number[]>;
  /** The same for one number. */
  number(symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<number>;
  text(symbol: NvmlSymbol, handle: Handle): Promise<string>;
  handle(index: number): Promise<Handle>;
  /** For example `0000:41:00.0`. */
  pciAddress(handle: Handle): Promise<string>;
  /** One field of one scope, if it is an unsigned whole number. */
  field(handle: Handle, fieldId: number, scopeId: number): Promise<number>;
}

/** Loads and initialises NVML. When that fails nothing of it stays, so that it can be tried again with another driver. */
export async function openNvml(names: readonly string[]): Promise<Nvml> {
  const library = load(names);
  const nvml = createNvml(library);
  try {
    await nvml.run("nvmlInit_v2");
    return nvml;
  } catch (error) {
    library.unload();
    throw error;
  }
}

function load(names: readonly string[]): NvmlLibrary {
  try {
    return loadNvml(names);
  } catch (error) {
    throw nativeError(error);
  }
}

function createNvml(library: NvmlLibrary): Nvml {
  async function run(symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<void> {
    const code = await library.call(symbol, ...args).catch(rethrow);
    if (code !== 0) throw codeError(symbol, code);
  }

  async function numbers(count: number, symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<readonly number[]> {
    const slots = Array.from({ length: count }, (): Slot => [0]);
    await run(symbol, ...args, ...slots);
    // koffi makes 64-bit numbers a bigint where they are large; NVML's counters stay exact up to 2^53.
    return slots.map(([value]) => Number(value));
  }

  return {
    run,
    numbers,
    async number(symbol, ...args) {
      const [value] = await numbers(1, symbol, ...args);
      return Number(value);
    },
    async text(symbol, handle) {
      const bytes = Buffer.alloc(textBytes);
      await run(symbol, handle, bytes, textBytes);
      return textOf(bytes);
    },
    async handle(index) {
      const slot: Slot = [null];
      await run("nvmlDeviceGetHandleByIndex_v2", index, slot);
      const [handle] = slot;
      if (typeof handle !== "bigint") throw new ZeusdError("driver_error", `NVML gives no handle for GPU ${index}`);
      return handle;
    },
    async pciAddress(handle) {
      const record = createPciInfo();
      await run("nvmlDeviceGetPciInfo_v3", handle, record);
      const { domain, bus, device } = pciInfoOf(record);
      return `${hex(domain, 4)}:${hex(bus, 2)}:${hex(device, 2)}.0`;
    },
    async field(handle, fieldId, scopeId) {
      const record = createFieldValue(fieldId, scopeId);
      await run("nvmlDeviceGetFieldValues", handle, 1, record);
      return readField(`field ${fieldId} of scope ${scopeId}`, record);
    },
  };
}

/** Where koffi puts what comes out of a pointer parameter. */
type Slot = [number | bigint | null];

const lastKnownType = 4;

function readField(question: string, record: Buffer): number {
  const { code, type, value } = fieldValueOf(record);
  if (code !== 0) throw codeError(question, code);
  if (type > lastKnownType) throw unknownValueError(question, type);
  if (value === undefined) throw valueTypeError(question, type);
  return value;
}

function rethrow(error: unknown): never {
  throw nativeError(error);
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
