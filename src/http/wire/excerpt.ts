// What a client sent, as a refusal repeats it: not more of it than a person reads.

const longest = 200;

/** The text itself, or its beginning. */
export function excerpt(text: string): string {
  return text.length > longest ? `${text.slice(0, longest)}…` : text;
}
