// NVML as backends use it: a call gives its value, or throws the error that is told to whoever asked.
import { ZeusdError } from "../../contract/errors.ts";
import type { Argument } from "../../native/load.ts";
import {
  bytesOf,
  createFieldValue,
  createList,
  createPciInfo,
  fieldValueOf,
  listOf,
  listRoom,
  loadNvml,
  pciInfoOf,
  textBytes,
  textOf,
  type NvmlLibrary,
  type NvmlSymbol,
} from "../../native/nvml.ts";
import { codeError, isTooSmall, nativeError, unknownValueError, valueTypeError } from "./errors.ts";

/** NVML's pointer to a device. */
export type Handle = bigint;

export interface Nvml {
  run(symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<void>;
  /** What a function stores through its last `count` parameters, which are pointers to numbers. */
  numbers(count: number, symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<readonly number[]>;
  /** The same for one number. */
  number(symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<number>;
  /** The same for a number of 64 bits that each mean something: the lower 32 of them. */
  bits(symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<number>;
  /** The same for a list, whose last two parameters are pointers to its length and to its numbers. */
  list(symbol: NvmlSymbol, ...args: readonly Argument[]): Promise<readonly number[]>;
  text(symbol: NvmlSymbol, handle: Handle): Promise<string>;
  handle(index: number): Promise<Handle>;
  handleOf(uuid: string): Promise<Handle>;
  /** For example `0000:41:00.0`. */
  pciAddress(handle: Handle): Promise<string>;
  /** One field of one scope, if it is an unsigned whole number. */
  field(handle: Handle, fieldId: number, scopeId: number): Promise<number>;
}

/** NVML from its initialisation to its end. */
export interface OpenNvml extends Nvml {
  /** How many calls are in the library now. */
  readonly inFlight: number;
  /**
   * Shuts NVML down and unloads it; calls are refused from then on. None may be in flight: nobody knows what one does whose
   * library is shut down, and one whose library is unloaded kills the process.
   */
  close(): Promise<void>;
}

/** Loads and initialises NVML. When that fails nothing of it stays, so that it can be tried again with another driver. */
export async function openNvml(names: readonly string[]): Promise<OpenNvml> {
  const library = load(names);
  let inFlight = 0;
  let closed = false;
  const run: Run = async (symbol, ...args) => {
    if (closed) throw openedAnew();
    inFlight += 1;
    try {
      const code = await library.call(symbol, ...args);
      if (code !== 0) throw codeError(symbol, code);
    } catch (error) {
      throw nativeError(error);
    } finally {
      inFlight -= 1;
    }
  };
  await run("nvmlInit_v2").catch((error: unknown) => {
    library.unload();
    throw error;
  });
  return {
    ...createNvml(run),
    get inFlight() {
      return inFlight;
    },
    async close() {
      const shutdown = run("nvmlShutdown");
      closed = true;
      // A driver that is gone cannot be told, which makes no difference.
      await shutdown.catch(() => {});
      library.unload();
    },
  };
}

/** The same NVML, until `ended`: what is asked afterwards does not reach the driver. */
export function nvmlUntil(ended: AbortSignal, nvml: Nvml): Nvml {
  return createNvml(async (...call) => {
    if (ended.aborted) throw openedAnew();
    try {
      await nvml.run(...call);
    } catch (error) {
      throw ended.aborted ? openedAnew(error) : error;
    }
  });
}

function load(names: readonly string[]): NvmlLibrary {
  try {
    return loadNvml(names);
  } catch (error) {
    throw nativeError(error);
  }
}

type Run = Nvml["run"];

function createNvml(run: Run): Nvml {
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
    async bits(symbol, ...args) {
      const slot: Slot = [0];
      await run(symbol, ...args, slot);
      // As a number the lower bits would be lost where high ones are set.
      return Number(BigInt.asUintN(32, BigInt(slot[0] ?? 0)));
    },
    async list(symbol, ...args) {
      const count: Slot = [listRoom];
      const read = async (): Promise<readonly number[]> => {
        const list = createList(Number(count[0]));
        await run(symbol, ...args, count, list);
        return listOf(list, Number(count[0]));
      };
      return read().catch((error: unknown) => {
        if (!isTooSmall(error)) throw error;
        // The count tells by now how much room it takes.
        return read();
      });
    },
    async text(symbol, handle) {
      const bytes = Buffer.alloc(textBytes);
      await run(symbol, handle, bytes, textBytes);
      return textOf(bytes);
    },
    handle: (index) => readHandle(run, "nvmlDeviceGetHandleByIndex_v2", index),
    handleOf: (uuid) => readHandle(run, "nvmlDeviceGetHandleByUUID", bytesOf(uuid)),
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

async function readHandle(run: Run, symbol: NvmlSymbol, which: Argument): Promise<Handle> {
  const slot: Slot = [null];
  await run(symbol, which, slot);
  const [handle] = slot;
  if (typeof handle !== "bigint") throw new ZeusdError("driver_error", `${symbol} gives no handle`);
  return handle;
}

const lastKnownType = 4;

function readField(question: string, record: Buffer): number {
  const { code, type, value } = fieldValueOf(record);
  if (code !== 0) throw codeError(question, code);
  if (type > lastKnownType) throw unknownValueError(question, type);
  if (value === undefined) throw valueTypeError(question, type);
  return value;
}

function openedAnew(cause?: unknown): ZeusdError {
  return new ZeusdError("gpu_away", "The GPU was lost and is opened anew: try again", { cause });
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
