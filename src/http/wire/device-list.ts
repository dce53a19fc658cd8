// The list of devices in a query: ids, and for GPUs also UUIDs and PCI addresses, separated by commas.
import { isGpuName } from "../../contract/device-name.ts";
import { ZeusdError } from "../../contract/errors.ts";
import type { DeviceKind } from "../../contract/operations.ts";
import { excerpt } from "./excerpt.ts";

const largestId = 2n ** 64n - 1n;

/** Throws `bad_request` for an empty list, an empty part, and a part that can name no device. */
export function parseDeviceList(list: string, device: DeviceKind, parameter: string): readonly (number | string)[] {
  const kind = device.toUpperCase();
  if (trim(list) === "") {
    throw new ZeusdError("bad_request", `${parameter} must contain at least one ${kind} index`);
  }
  return list.split(",").map((untrimmed) => {
    const part = trim(untrimmed);
    if (part === "") throw new ZeusdError("bad_request", `${parameter} contains an empty ${kind} index`);
    const id = parseId(part);
    if (id !== undefined) return id;
    if (device === "gpu" && isGpuName(part)) return part;
    throw new ZeusdError("bad_request", `Invalid ${kind} index: ${excerpt(part)}`);
  });
}

/** Takes off white space as Unicode defines it; JavaScript's own trim knows a byte order mark more and a next line less. */
function trim(text: string): string {
  const white = /\p{White_Space}/u;
  let start = 0;
  let end = text.length;
  while (start < end && white.test(text.charAt(start))) start += 1;
  while (end > start && white.test(text.charAt(end - 1))) end -= 1;
  return text.slice(start, end);
}

/** An unsigned 64-bit integer; as text where a number cannot hold it exactly. */
export function parseId(text: string): number | string | undefined {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  if (!/^\+?\d+$/.test(text)) return undefined;
  const id = BigInt(text.replace("+", ""));
  if (id > largestId) return undefined;
  return id <= Number.MAX_SAFE_INTEGER ? Number(id) : String(id);
}
