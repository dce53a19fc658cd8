// The request target: splits it into path and query, and decodes the path once, before routing.

export interface Target {
  readonly path: string;
  readonly query: string;
}

/** Takes `/path?query` or the absolute form `http://host/path?query`; a fragment is no part of either. */
export function parseTarget(sent: string): Target {
  const hash = sent.indexOf("#");
  const target = hash < 0 ? sent : sent.slice(0, hash);
  const origin = target.startsWith("/") ? target : target.replace(/^https?:\/\/[^/?#]*/i, "") || "/";
  const mark = origin.indexOf("?");
  const path = mark < 0 ? origin : origin.slice(0, mark);
  return { path: decodePath(path), query: mark < 0 ? "" : origin.slice(mark + 1) };
}

/** A slash, a percent sign or a plus that was escaped stays escaped: decoded, it would change where the path leads. */
const protectedEscapes = /%(2f|25|2b)/gi;

function decodePath(path: string): string {
  if (!path.includes("%")) return path;
  try {
    return decodeURIComponent(path.replace(protectedEscapes, "%25$1"));
  } catch {
    return path;
  }
}
