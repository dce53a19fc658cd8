// What NVML's return codes say, and which of our codes they are.
import { ZeusdError, type ErrorCode } from "../../contract/errors.ts";
import { LibraryMissing, SymbolMissing } from "../../native/load.ts";

/** The sentences that the original's users know, its slips of the pen included. */
const texts: Readonly<Record<number, string>> = {
  1: "NVML was not first initialized with `Nvml::init()`",
  2: "a supplied argument was invalid",
  3: "the requested operation is not available on the target device",
  4: "the current user does not have permission to perform this operation",
  5: "NVML was already initialized",
  6: "a query to find an object was unsuccessful",
  7: "an input argument is not large enough",
  8: "device's external power cables are not properly attached",
  9: "NVIDIA driver is not loaded",
  10: "the provided timeout was reached",
  11: "NVIDIA kernel detected an interrupt issue with a device",
  12: "a shared library couldn't be found or loaded",
  13: "a function couldn't be found in a shared library",
  14: "the infoROM is corrupted",
  15: "device fell off the bus or has otherwise become inacessible",
  16: "device requires a reset before it can be used again",
  17: "device control has been blocked by the operating system/cgroups",
  18: "RM detects a driver/library version mismatch",
  19: "operation cannot be performed because the GPU is currently in use",
  20: "insufficient memory",
  21: "no data",
  22: "the requested vgpu operation is not available on the target device because ECC is enabled",
  999: "an internal driver error occurred",
};

const codes: Readonly<Record<number, ErrorCode>> = {
  1: "gpu_lost",
  2: "invalid_argument",
  3: "not_supported",
  4: "no_permission",
  9: "gpu_lost",
  15: "gpu_lost",
  16: "gpu_lost",
  18: "driver_mismatch",
};

/** What the driver answered, and to which question; the cause of the error that is told. */
export class NvmlAnswer extends Error {
  override readonly name = "NvmlAnswer";
  /** The return code; 0 for a value that cannot be read. */
  readonly code: number;

  constructor(question: string, answer: string, code: number) {
    super(`${question} answered ${answer}`);
    this.code = code;
  }
}

export function codeError(question: string, code: number): ZeusdError {
  const text = texts[code] ?? `unexpected enum variant value: ${code >>> 0}`;
  return nvmlError(codes[code] ?? "driver_error", text, new NvmlAnswer(question, `code ${code}`, code));
}

/** A value outside the list that NVML documents. */
export function unknownValueError(question: string, value: number): ZeusdError {
  const text = `unexpected enum variant value: ${value}`;
  return nvmlError("driver_error", text, new NvmlAnswer(question, `value ${value}`, 0));
}

/** A value of a documented type that is no unsigned whole number. */
export function valueTypeError(question: string, type: number): ZeusdError {
  return nvmlError("invalid_argument", String(texts[2]), new NvmlAnswer(question, `a value of type ${type}`, 0));
}

/** What native code throws, in the words that clients know. */
export function nativeError(error: unknown): unknown {
  if (error instanceof SymbolMissing) {
    return nvmlError("driver_error", `function symbol failed to load: ${error.message}`, error);
  }
  if (error instanceof LibraryMissing) {
    return new ZeusdError("driver_error", `Cannot load NVML: ${error.message}`, { cause: error });
  }
  return error;
}

/** Whether the driver would have told more than there was room for. */
export function isTooSmall(error: unknown): boolean {
  return error instanceof ZeusdError && error.cause instanceof NvmlAnswer && error.cause.code === 7;
}

/** Whether only a new process can go on. */
export function isMismatch(error: unknown): boolean {
  return error instanceof ZeusdError && error.code === "driver_mismatch";
}

/** Whether the GPU, or the driver as a whole, has gone. */
export function isLost(error: unknown): boolean {
  return error instanceof ZeusdError && error.code === "gpu_lost";
}

function nvmlError(code: ErrorCode, text: string, cause: Error): ZeusdError {
  return new ZeusdError(code, `NVML error: ${text}`, { cause });
}
