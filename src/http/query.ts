// The query of a route of the daemon's own: which parameters it takes, each of them once.
import { parse } from "node:querystring";
import { ZeusdError } from "../contract/errors.ts";
import { excerpt } from "./wire/excerpt.ts";

export type Query<Name extends string> = Partial<Readonly<Record<Name, string>>>;

/** Throws `bad_request` for a parameter that is not one of `names`, and for one that is given twice. */
export function readQuery<Name extends string>(query: string, names: readonly Name[]): Query<Name> {
  const given = parse(query, "&", "=", { maxKeys: 0 });
  const read: Partial<Record<Name, string>> = {};
  for (const [key, value] of Object.entries(given)) {
    const name = names.find((one) => one === key);
    if (name === undefined) {
      const known = names.length === 0 ? "this takes none" : `there are ${names.join(", ")}`;
      throw bad(`unknown parameter ${JSON.stringify(excerpt(key))}; ${known}`);
    }
    if (typeof value !== "string") throw bad(`${name} is given twice`);
    read[name] = value;
  }
  return read;
}

/** Throws `bad_request` for anything but `true` and `false`. */
export function readFlag(name: string, text: string | undefined, otherwise: boolean): boolean {
  if (text === undefined) return otherwise;
  if (text === "true" || text === "false") return text === "true";
  throw bad(`${name} is ${JSON.stringify(excerpt(text))} and must be true or false`);
}

/** Throws `bad_request` for anything but a whole number from 1 to `most`. */
export function readCount(name: string, text: string | undefined, most: number): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= 1 && value <= most) return value;
  throw bad(`${name} is ${JSON.stringify(excerpt(text))} and must be a whole number from 1 to ${most}`);
}

export function bad(text: string): ZeusdError {
  return new ZeusdError("bad_request", text);
}
