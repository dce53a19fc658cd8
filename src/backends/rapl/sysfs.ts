// Reads small sysfs files, off the event loop; failures are worded as the Rust original words them.
import { readFile } from "node:fs/promises";
import { ZeusdError } from "../../contract/errors.ts";
import { osErrorText } from "../../contract/os-error.ts";

const largestU64 = 2n ** 64n - 1n;

/** The content without white space around it. Throws `io_error`. */
export async function readText(path: string): Promise<string> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    throw new ZeusdError("io_error", `IOError: ${osErrorText(error)}`, { cause: error });
  }
}

/** A whole number of 0 to 2^53 - 1. Throws `io_error`; a larger number is refused, not rounded. */
export async function readCounter(path: string): Promise<number> {
  const text = await readText(path);
  const wrong = (reason: string): ZeusdError =>
    new ZeusdError("io_error", `IOError: ${reason}`, { cause: new Error(`${path} holds ${JSON.stringify(text)}`) });
  if (text === "") throw wrong("cannot parse integer from empty string");
  if (!/^\+?\d+$/.test(text)) throw wrong("invalid digit found in string");
  if (BigInt(text.replace("+", "")) > largestU64) throw wrong("number too large to fit in target type");
  const number = Number(text);
  if (!Number.isSafeInteger(number)) throw wrong("number too large to be held exactly");
  return number;
}
