// Text that others chose, for a terminal or a line: controls, and what would break a line or turn it around.

const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
const each = new RegExp(unprintable, "gu");

export function isPrintable(text: string): boolean {
  return !unprintable.test(text);
}

/** The same with each of them shown as unknown, or as `replace` says. */
export function printable(text: string, replace: (character: string) => string = () => "\u{fffd}"): string {
  return text.replace(each, replace);
}
