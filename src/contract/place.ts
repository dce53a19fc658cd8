// Places: where a page in a browser comes from, or what name a request was sent to.

export interface Place {
  readonly scheme?: string | undefined;
  /** Never empty, in lower case, without a dot at the end; an address in its shortest form, without brackets. */
  readonly host: string;
  readonly port?: number | undefined;
}

/** An origin such as `https://node7:8443`, or a host with or without a port; undefined for anything else. */
export function readPlace(text: string): Place | undefined {
  // `Host` may end so; who writes a colon here has forgotten the port.
  if (text.endsWith(":")) return undefined;
  return text.includes("://") ? readOrigin(text) : readAuthority(text);
}

/** The longest name, with scheme and port around it, is shorter; in characters. */
const longest = 300;
const defaultPorts: ReadonlyMap<string, number> = new Map([
  ["http", 80],
  ["https", 443],
]);

/** A page's origin: one scheme, host and port, and nothing else. */
export function readOrigin(text: string): Place | undefined {
  const mark = text.indexOf("://");
  const scheme = text.slice(0, Math.max(mark, 0)).toLowerCase();
  const defaultPort = defaultPorts.get(scheme);
  const place = readAuthority(text.slice(mark + 3));
  if (defaultPort === undefined || !place) return undefined;
  return { scheme, host: place.host, port: place.port ?? defaultPort };
}

/** A host with or without a port: no user, no path, nothing that a browser would write otherwise. */
export function readAuthority(text: string): Place | undefined {
  if (text.length > longest) return undefined;
  const [, host, port] = /^(\[[\da-f:.]+\]|[\w.-]+)(?::(\d{0,5}))?$/i.exec(text) ?? [];
  if (host === undefined || Number(port ?? 0) > 65_535) return undefined;
  if (host.startsWith("[") && !isIPv6(host.slice(1, -1))) return undefined;
  const name = normalHost(host);
  return name === "" ? undefined : { host: name, port: port ? Number(port) : undefined };
}

/** One spelling of a name or an address. */
export function normalHost(host: string): string {
  const bare = host.replace(/^\[|\]$|%.*$|\.$/g, "").toLowerCase();
  if (!isIPv6(bare)) return bare;
  const { hostname } = new URL(`http://[${bare}]`);
  const [, high, low] = /^\[::ffff:([\da-f]{1,4}):([\da-f]{1,4})\]$/.exec(hostname) ?? [];
  if (high === undefined || low === undefined) return hostname.slice(1, -1);
  const bits = Number.parseInt(high, 16) * 0x1_00_00 + Number.parseInt(low, 16);
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 0xff).join(".");
}

function isIPv6(text: string): boolean {
  return text.includes(":") && URL.canParse(`http://[${text}]`);
}
