// What a daemon says when it does not do what it was asked: one sentence, whatever shape its wire gives that.

import { printable } from "../contract/printable.ts";

export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;
  /** The daemon's word for what is wrong, where its answer has one. */
  readonly code: string | undefined;

  constructor(status: number, message: string, code?: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Refusals are `{"error"}`, `{"errors"}` by GPU, or plain text. */
export function sentenceOf(body: string): string {
  const { error, errors } = objectOf(body) ?? {};
  if (typeof error === "string") return printable(error);
  if (typeof errors !== "object" || errors === null) return printable(body.trim());
  const sentences = Object.entries(errors).map(([id, text]) => `GPU ${id}: ${String(text)}`);
  return printable(sentences.join("; "));
}

export function codeOf(body: string): string | undefined {
  const { code } = objectOf(body) ?? {};
  return typeof code === "string" ? code : undefined;
}

/** What a body holds, if it is an object of JSON. */
export function objectOf(body: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
