// Breaks texts: single characters, and pieces that are taken out, doubled, moved, repeated or replaced.
import type { Random } from "./random.ts";

/** Pieces that mean something to one parser or another. */
const oddities: readonly string[] = [
  ..."\0 \t \r \n \r\n \r\n\r\n \x0b \x0c \x1b \x7f \x85 \xa0 \xff \\ \" ' ` # ; , . : = & ? % + - _ / * [ ] { } ( ) < > @ ~ $ | ^ !".split(
    " ",
  ),
  ..."0 1 -1 00 0x 1e9 4294967295 4294967296 18446744073709551616 9007199254740993 1e999 -0 inf nan 0b1 1_0".split(" "),
  ..."%00 %0d%0a %2f %2e%2e %25 %u0041 %ff %c0%af %zz %".split(" "),
  ..."__proto__ constructor prototype toString hasOwnProperty null true false".split(" "),
  "\xef\xbb\xbf",
  "\xc3\xa9",
  "\xf0\x9f\x98\x80",
  "\xed\xa0\x80",
  " ",
  "  ",
];

/** The text with so many changes. Its characters are bytes. */
export function mutate(random: Random, text: string, changes: number): string {
  let result = text;
  for (let change = 0; change < changes; change += 1) result = mutateOnce(random, result);
  return result;
}

function mutateOnce(random: Random, text: string): string {
  const at = random.below(text.length + 1);
  const end = Math.min(
    text.length,
    at +
      random.oneOf(
        () => 1,
        () => random.between(1, 8),
        () => random.between(1, 200),
      ),
  );
  const [before, piece, after] = [text.slice(0, at), text.slice(at, end), text.slice(end)];
  const code = piece.charCodeAt(0) || 0;
  return random.oneOf(
    () => `${before}${String.fromCharCode((code ^ (1 << random.below(8))) & 0xff)}${text.slice(at + 1)}`,
    () => `${before}${String.fromCharCode(random.below(256))}${text.slice(at + 1)}`,
    () => `${before}${String.fromCharCode(random.below(256))}${text.slice(at)}`,
    () => before + after,
    () => before + text.slice(at + 1),
    () => before + piece + piece + after,
    () => before + piece.repeat(random.between(2, 40)) + after,
    () => before + random.pick(oddities) + text.slice(at),
    () => before + random.pick(oddities) + after,
    () => moved(random, before + after, piece),
    () => before + [...piece].toReversed().join("") + after,
    () => before + swappedCase(piece) + after,
  );
}

function moved(random: Random, text: string, piece: string): string {
  const to = random.below(text.length + 1);
  return text.slice(0, to) + piece + text.slice(to);
}

function swappedCase(text: string): string {
  return text === text.toLowerCase() ? text.toUpperCase() : text.toLowerCase();
}

/** The same at the joints of a text: its tokens are swapped, doubled, dropped or put elsewhere. */
export function mutateTokens(random: Random, text: string, token: RegExp, changes: number): string {
  const tokens = text.match(token) ?? [];
  for (let change = 0; change < changes && tokens.length > 0; change += 1) {
    const at = random.below(tokens.length);
    const other = tokens[random.below(tokens.length)] ?? "";
    random.oneOf(
      () => tokens.splice(at, 1),
      () => tokens.splice(at, 0, other),
      () => tokens.splice(at, 1, other),
      () => tokens.splice(at, 1, random.pick(oddities)),
      () => tokens.splice(at, 0, random.pick(oddities)),
      () => tokens.splice(at, 0, ...tokens.slice(at, at + random.between(1, 30))),
    );
  }
  return tokens.join("");
}
