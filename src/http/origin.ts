// Pages in a browser: which may use the daemon (Origin), and under which names (Host). Programs send no Origin.
import { StartError, ZeusdError } from "../contract/errors.ts";
import { normalHost, readAuthority, readOrigin, readPlace, type Place } from "../contract/place.ts";
import { isLoopback } from "./listen.ts";
import { excerpt } from "./wire/excerpt.ts";

export interface OriginRules {
  /** Whether only programs of this machine can connect. Absent on a Unix socket. */
  readonly loopback?: boolean;
  /** What this machine calls itself. */
  readonly hostName: string;
  /** From --allow-origin: origins (`https://node7:8443`) or hosts (`node7`, `node7:8443`), in lower case. */
  readonly allowed: readonly string[];
}

/** What a request says about where it comes from. */
interface From {
  readonly host?: string | undefined;
  readonly origin?: string | undefined;
  /** `Sec-Fetch-Site` and `Sec-Fetch-Dest`: what a browser says of a request that has no `Origin`. */
  readonly site?: string | undefined;
  readonly destination?: string | undefined;
  /** The address at which the connection arrived. Absent on a Unix socket. */
  readonly localAddress?: string | undefined;
}

/**
 * Why a request is refused (`origin_refused`): undefined if it is not. Throws a StartError for an entry of `allowed` that is
 * neither an origin nor a host.
 *
 * A page of any website can send requests to addresses that its visitor's machine reaches, loopback included, and the
 * browser says in `Origin` which site it is. The site can also have its own name resolve to 127.0.0.1: then the browser takes
 * the daemon for a part of it, and lets it read the answers to requests that carry no `Origin`; `Host` gives it away. Only on
 * loopback are the names known that a program may use; elsewhere clients name machines as they like.
 */
export function createOriginGuard(rules: OriginRules): (from: From) => ZeusdError | undefined {
  const allowed = rules.allowed.map(readAllowed);
  const hostName = normalHost(rules.hostName);
  // A name without a dot is nobody's on the internet.
  const [firstLabel] = hostName.split(".");

  /**
   * Not every address passes as a host: a page that is served from http://6.6.6.6 has one too, and could otherwise post to
   * loopback. The one that the connection arrived at is this machine's own.
   */
  function isOwn(host: string, localAddress: string | undefined): boolean {
    if (isLoopback(host) || host === "localhost" || host.endsWith(".localhost")) return true;
    return (
      host === hostName || host === firstLabel || (localAddress !== undefined && host === normalHost(localAddress))
    );
  }

  function refuseOrigin(origin: string, localAddress: string | undefined): ZeusdError | undefined {
    const page = readOrigin(origin);
    if (!page) return refusedOrigin(origin);
    if (isOwn(page.host, localAddress) || allowed.some((one) => covers(one, page))) return undefined;
    return refused(
      `Pages from '${excerpt(origin)}' may not use this daemon; --allow-origin ${excerpt(origin)} lets them in.`,
    );
  }

  function refuseHost(text: string, localAddress: string | undefined): ZeusdError | undefined {
    const host = readAuthority(text)?.host;
    if (host === undefined)
      return refused(
        `Host '${excerpt(text)}' is not a name or an address; a name that --allow-origin NAME gives is let in.`,
      );
    if (isOwn(host, localAddress) || allowed.some((one) => one.host === host)) return undefined;
    return refused(
      `Host '${excerpt(text)}' is not a name of this machine; --allow-origin ${written(host)} lets it in.`,
    );
  }

  return ({ host, origin, site, destination, localAddress }) => {
    const refusal = origin === undefined ? refuseSite(site, destination) : refuseOrigin(origin, localAddress);
    if (refusal || !rules.loopback || !host) return refusal;
    return refuseHost(host, localAddress);
  };
}

/** What a foreign page embeds, an image for example, comes without `Origin`. Whoever follows a link to here wants to be here. */
function refuseSite(site: string | undefined, destination: string | undefined): ZeusdError | undefined {
  if (site !== "cross-site" || destination === "document") return undefined;
  return refused("What pages from elsewhere embed is not served; open it by itself.");
}

/** An entry with a scheme is a whole origin; one without is a host, with any scheme, and any port unless it has one. */
function covers(entry: Place, page: Place): boolean {
  if (entry.host !== page.host || (entry.scheme !== undefined && entry.scheme !== page.scheme)) return false;
  return entry.port === undefined || entry.port === page.port;
}

function readAllowed(text: string): Place {
  const place = readPlace(text);
  if (place) return place;
  throw new StartError(`--allow-origin '${text}' is neither an origin such as https://node7:8443 nor a host name`);
}

/** A host as --allow-origin takes it. */
function written(host: string): string {
  return host.includes(":") ? `[${host}]` : excerpt(host);
}

/** There is nothing to name in `null`, which stands for files, sandboxed frames and whatever else has no site. */
function refusedOrigin(origin: string): ZeusdError {
  if (origin === "null")
    return refused(
      "Pages without an origin ('null'), such as files, may not use this daemon; serve the page from a host that --allow-origin NAME lets in.",
    );
  return refused(
    `Origin '${excerpt(origin)}' is not one scheme, host and port, such as https://node7:8443, which --allow-origin NAME could let in.`,
  );
}

function refused(message: string): ZeusdError {
  return new ZeusdError("origin_refused", message);
}
