// Makes tokens by hand, so that they can be wrong in every way.
import { createHmac } from "node:crypto";

/** The line end is part of the key. */
export const key = Buffer.from("a signing key of more than thirty-two bytes\n");

const base64url = (value: unknown): string =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

export const header = { typ: "JWT", alg: "HS256" };
export const soon = (): number => Math.floor(Date.now() / 1000) + 3600;
export const everything = ["gpu-control", "gpu-read", "cpu-read"];

/** Objects become JSON; texts are taken as they are. */
export function sign(claims: unknown, { head = header as unknown, by = key, hash = "sha256" } = {}): string {
  return signParts(base64url(head), base64url(claims), by, hash);
}

export function signParts(head: string, claims: string, by: Buffer = key, hash = "sha256"): string {
  const signature = createHmac(hash, by).update(`${head}.${claims}`).digest("base64url");
  return `${head}.${claims}.${signature}`;
}

export { base64url };
