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

/** Headers that ours adds to every reply, and those that say nothing. */
const ignored = new Set(["x-request-id", "date", "content-length", "retry-after"]);

/** Keys that ours adds (extensions.md section 1, protocol 1.4): clients read by key and ignore the rest. */
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
  }
  compare("closed", original.closed, ours.closed);
  compare("calls", original.calls, ours.calls);
  return found;
}

/** In one line, for a person. */
export function summary({ replies, closed, calls }: Outcome): string {
  const texts = replies.map(({ status, headers, body }) =>
    [status, headers.get("content-type"), body.length > 200 ? `${body.slice(0, 200)}…` : body].filter(Boolean).join(" "),
  );
  const rest = [closed ? "closed" : "", calls.length > 0 ? `[${calls.join("; ")}]` : ""];
  return [texts.join(" + ") || "no reply", ...rest].filter(Boolean).join(" ");
}

const show = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

function headersOf({ headers }: Reply): readonly string[] {
  const shown = [...headers].filter(([name]) => !ignored.has(name)).map(([name, value]) => `${name}: ${value}`);
  const length = headers.get("content-length");
  return [...shown, ...(length === "0" ? ["content-length: 0"] : [])].toSorted();
}

function bodyOf(reply: Reply): unknown {
  const type = reply.headers.get("content-type");
  if (type === "application/json") return tidy(JSON.parse(reply.body));
  if (type === "text/event-stream") return [...new Set(eventsOf(reply).map(tidyEvent))].toSorted();
  return reply.body.replace(/ at line \d+ column \d+$/, "");
}

function tidyEvent(event: string): string {
  if (!event.startsWith("data: ")) return event;
  return `data: ${JSON.stringify(tidy(JSON.parse(event.slice(6))))}`;
}

/** Without what differs by nature, and without what ours adds on purpose. */
function tidy(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const whole = { ...value } as Record<string, unknown>;
  if (Number.isInteger(whole["timestamp_ms"])) whole["timestamp_ms"] = "now";
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
