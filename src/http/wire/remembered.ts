// Remembers what a text decoded to: clients ask for the same few things again and again.

/** How many texts, and of which length at most. */
const most = 128;
const longest = 256;

/** The same function, which must depend on its text alone and give what nobody changes. What it throws is not remembered. */
export function remembered<Result>(decode: (text: string) => Result): (text: string) => Result {
  const known = new Map<string, Result>();
  return (text) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    if (text.length > longest) return decode(text);
    const own = copyOf(text);
    const result = decode(own);
    // To begin anew is as good as to find out which was used last, and costs nothing while there is room.
    if (known.size >= most) known.clear();
    known.set(own, result);
    return result;
  };
}

/** A part of a string keeps the whole of it in memory, which may be as long as a head can be. */
function copyOf(text: string): string {
  return Buffer.from(text, "utf8").toString("utf8");
}
