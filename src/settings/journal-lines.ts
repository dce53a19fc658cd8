// The lines of the journal: a record each, with its checksum.
import { isUtf8 } from "node:buffer";
import { crc32 } from "node:zlib";

export type Json = Readonly<Record<string, unknown>>;

/** Writes bytes to the end of a file, as `writeSync` of node:fs does. */
export type WriteCall = (descriptor: number, bytes: Uint8Array, offset: number, length: number) => number;

/** The most that a journal may have, in bytes. */
export const mostBytes = 64 * 1024 * 1024;

// A line is 8 hex digits of the checksum of its JSON, a space, the JSON, and a newline.
const jsonStart = 9;
const space = 0x20;
export const newline = 0x0a;
const hexDigits = Buffer.from("0123456789abcdef");

/** The record, or what is wrong with the line. */
export function readLine(line: Buffer): Json | string {
  const json = line.subarray(jsonStart);
  const expected = `${crc32(json).toString(16).padStart(8, "0")} `;
  if (line.toString("latin1", 0, jsonStart) !== expected) return "does not fit its checksum";
  try {
    const record: unknown = isUtf8(json) ? JSON.parse(json.toString()) : undefined;
    if (isObject(record)) return record;
  } catch {
    // As below.
  }
  return "is no JSON object";
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Writes lines. On two cores of a small machine a record of 200 bytes takes 2.8 µs in a buffer that is used again, 3.2 µs as
 * a string, of which JSON takes 0.9, the checksum 0.3 and `write` 1.2 to 1.4.
 */
export class LineWriter {
  readonly #write: WriteCall;
  #line = Buffer.allocUnsafe(16 * 1024);

  constructor(write: WriteCall) {
    this.#write = write;
  }

  /** Writes a record to the end of a file that has `before` bytes; returns how many it has then. Throws when not all of it was written. */
  write(descriptor: number, record: object, before: number): number {
    const length = this.#fill(record);
    const after = before + length;
    // It could not be read again.
    if (after > mostBytes) throw new Error(`there is no room for it: ${mostBytes} bytes are the most`);
    const written = this.#write(descriptor, this.#line, 0, length);
    if (written !== length) throw new Error("there is room for a part of it only");
    return after;
  }

  #fill(record: object): number {
    const json = JSON.stringify(record);
    // An array would be damage when it is read, and so would what JSON has no text for.
    if (json?.[0] !== "{") throw new Error("it is no JSON object");
    // One unit of UTF-16 takes up to three bytes of UTF-8.
    const most = jsonStart + 3 * json.length + 1;
    if (most > this.#line.length) this.#line = Buffer.allocUnsafe(most);
    const line = this.#line;
    const end = jsonStart + line.write(json, jsonStart);
    let sum = crc32(json);
    for (let at = 7; at >= 0; at -= 1) {
      line[at] = hexDigits[sum & 15] ?? 0;
      sum >>>= 4;
    }
    line[jsonStart - 1] = space;
    line[end] = newline;
    return end + 1;
  }
}
