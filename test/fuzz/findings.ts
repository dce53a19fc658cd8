// What a fuzz run has found, each thing once, with what is needed to see it again.

export interface Finding {
  /** What went wrong; findings that differ only in numbers, or after a colon, count as one. */
  readonly what: string;
  readonly seed: string;
  /** For example `http 4711`. */
  readonly where: string;
  /** The exact bytes, each a character, as far as it comes from bytes. */
  readonly bytes: string;
  /** What else a repetition needs to know. */
  readonly note?: string;
}

export class Findings {
  readonly #known = new Map<string, Finding>();

  get all(): readonly Finding[] {
    return [...this.#known.values()];
  }

  isNew(what: string): boolean {
    return !this.#known.has(kindOf(what));
  }

  add(finding: Finding): void {
    if (this.isNew(finding.what)) this.#known.set(kindOf(finding.what), finding);
  }
}

/** What comes after a colon, and numbers, are of the one case. */
function kindOf(what: string): string {
  const [kind = ""] = what.split(": ");
  return kind.replaceAll(/[\d.]+/g, "#").slice(0, 80);
}

export function describeFinding({ what, seed, where, bytes, note }: Finding): string {
  const parts = [`FOUND ${what}`, `  seed ${seed}, case ${where}`, ...(note === undefined ? [] : [`  ${note}`])];
  return [...parts, `  bytes (latin1): ${shown(bytes)}`].join("\n");
}

/** As a JavaScript literal that can be pasted into a test. */
export function shown(bytes: string): string {
  const literal = JSON.stringify(bytes).replaceAll(
    /[\u007f-\uffff]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return literal.length > 6_000 ? `${literal.slice(0, 6_000)}… (${bytes.length} bytes in all)` : literal;
}

/**
 * Leaves out of the bytes whatever can be left out so that they still fail, in at most so many attempts and
 * 10 s. Pieces of halving size are tried, as in delta debugging.
 */
export async function shrink(
  bytes: string,
  fails: (bytes: string) => boolean | Promise<boolean>,
  attempts = 300,
): Promise<string> {
  const untilMs = performance.now() + 10_000;
  let [small, left] = [bytes, attempts];
  for (let size = Math.ceil(small.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < small.length && left > 0 && performance.now() < untilMs;) {
      const shorter = small.slice(0, at) + small.slice(at + size);
      left -= 1;
      if (await fails(shorter)) small = shorter;
      else at += size;
    }
  }
  return small;
}
