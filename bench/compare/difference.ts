// Tells where two answers differ in what a client, a test or an operator could notice.
import { eventsOf, type Answer, type Reply } from "./exchange.ts";

export interface Outcome extends Answer {
  /** What the driver was asked, sorted. */
  readonly calls: readonly string[];
}

export interface Difference {
  readonly what: string;
  readonly original: string;
  readonly ours: string;
}

/** A difference that is meant: what is asked, what both answer, and why. What is absent matches all. */
export interface Intended {
  readonly suite?: RegExp;
  /** The exchange's name, or what it must match. */
  readonly name?: string | RegExp;
  /** What the original's answer, as one line, must match. */
  readonly original?: RegExp;
  /** What ours, as one line, must match. */
  readonly ours?: RegExp;
  /** What alone may differ: status, headers, body, calls, closed and so on. */
  readonly only?: readonly string[];
  /** The original does so now and then. */
  readonly sometimes?: true;
  readonly reason: string;
}

/** What was compared, and what differs. */
export interface Compared {
  readonly suite: string;
  readonly name: string;
  /** Both answers in one line. */
  readonly original: string;
  readonly ours: string;
  readonly found: readonly Difference[];
}

/** Headers that ours adds to every reply, and those that say nothing. */
const ignored = new Set(["x-request-id", "date", "content-length", "retry-after"]);

/** Keys that ours adds: clients read by key and ignore the rest. */
const added = {
  error: ["code", "available", "results"],
  discover: ["gpu_ids", "cpu_ids", "dram_available", "version"],
  gpu: ["pci_address", "cumulative_energy_available", "uuid", "supported"],
  cpuEvent: ["power_mw"],
};

export function differences(original: Outcome, ours: Outcome): readonly Difference[] {
  const found: Difference[] = [];
  const compare = (what: string, left: unknown, right: unknown): void => {
    if (show(left) !== show(right)) found.push({ what, original: show(left), ours: show(right) });
  };
  compare("replies", original.replies.length, ours.replies.length);
  for (const [index, left] of original.replies.entries()) {
    const right = ours.replies[index];
    if (!right) break;
    compare("status", left.status, right.status);
    compare("http version", left.version, right.version);
    compare("headers", headersOf(left), headersOf(right));
    compare("body", bodyOf(left), bodyOf(right));
    compare("complete", left.complete, right.complete);
    if ([left, right].every(({ headers }) => headers.get("transfer-encoding") === "chunked")) {
      compare("whole events per chunk", wholeEvents(left), wholeEvents(right));
      compare("one event per chunk", oneEventEach(left), oneEventEach(right));
    }
  }
  compare("closed", original.closed, ours.closed);
  compare("calls", original.calls, ours.calls);
  return found;
}

/** In one line, for a person and for the rules of what is intended. */
export function summary({ replies, closed, calls }: Outcome): string {
  const texts = replies.map(({ status, headers, body }) =>
    [status, headers.get("content-type"), body.length > 300 ? `${body.slice(0, 300)}…` : body]
      .filter(Boolean)
      .join(" "),
  );
  const rest = [closed ? "closed" : "", calls.length > 0 ? `[${calls.join("; ")}]` : ""];
  return [texts.join(" + ") || "no reply", ...rest].filter(Boolean).join(" ").replaceAll("\n", "\\n");
}

export const show = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

function headersOf({ headers }: Reply): readonly string[] {
  const shown = [...headers].filter(([name]) => !ignored.has(name)).map(([name, value]) => `${name}: ${value}`);
  const length = headers.get("content-length");
  return [...shown, ...(length === "0" ? ["content-length: 0"] : [])].toSorted();
}

/** What of a body counts. */
export function bodyOf(reply: Reply): unknown {
  const type = reply.headers.get("content-type");
  if (type === "application/json") return tidy(JSON.parse(reply.body));
  if (type === "text/event-stream") return [...new Set(eventsOf(reply).map(tidyEvent))].toSorted();
  return stable(reply.body);
}

/** What a library said may change with its version, so only what kind of error it is counts. */
const stable = (text: string): string =>
  text.replace(/ at line \d+ column \d+$/, "").replace(/^(Invalid token: (?:JSON|Base64) error: ).*/s, "$1…");

const wholeEvents = ({ chunks }: Reply): boolean => chunks.every((chunk) => /^((data: |:)[^\n]*\n\n)+$/.test(chunk));

const oneEventEach = ({ chunks }: Reply): boolean => chunks.every((chunk) => /^(data: |:)[^\n]*\n\n$/.test(chunk));

function tidyEvent(event: string): string {
  if (!event.startsWith("data: ")) return event;
  return `data: ${JSON.stringify(tidy(JSON.parse(event.slice(6))))}`;
}

/** Without what differs by nature, and without what ours adds on purpose. */
function tidy(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const whole = { ...value } as Record<string, unknown>;
  if (Number.isInteger(whole["timestamp_ms"])) whole["timestamp_ms"] = "now";
  if (typeof whole["error"] === "string") whole["error"] = stable(whole["error"]);
  if ("error" in whole || "errors" in whole) drop(whole, added.error);
  if ("enabled_api_groups" in whole) drop(whole, added.discover);
  if ("cpu_id" in whole) drop(whole, added.cpuEvent);
  if (Array.isArray(whole["gpus"])) {
    whole["gpus"] = whole["gpus"].map((gpu: Record<string, unknown>) => drop({ ...gpu }, added.gpu));
  }
  return whole;
}

function drop(from: Record<string, unknown>, keys: readonly string[]): Record<string, unknown> {
  for (const key of keys) delete from[key];
  return from;
}
