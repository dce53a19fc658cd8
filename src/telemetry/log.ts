// The log: one line per event on stderr, as text or as JSON.
import { pino } from "pino";
import type { LogFormat, LogLevel } from "../contract/config.ts";
import type { Log } from "../contract/log.ts";

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Takes whole lines; stderr in the daemon. */
  readonly write: (line: string) => void;
}

export function createLog({ level, format, write }: LogOptions): Log {
  const line = format === "json" ? write : (json: string) => write(asText(json));
  const options = {
    level,
    base: null,
    messageKey: "text",
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const log = pino(options, { write: line });
  return {
    debug: (text, fields) => log.debug(fields ?? {}, text),
    info: (text, fields) => log.info(fields ?? {}, text),
    warn: (text, fields) => log.warn(fields ?? {}, text),
    error: (text, fields) => log.error(fields ?? {}, text),
  };
}

/** `2026-01-31T12:00:00.000Z  WARN Reading fails request_id=1f-2`: no colours, so that it reads well in any file. */
function asText(json: string): string {
  const { time, level, text, err, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const rest = Object.entries(fields).map(([name, value]) => ` ${name}=${asField(value)}`);
  const stack = typeof err === "object" && err !== null && "stack" in err ? `\n${String(err.stack)}` : "";
  const line = `${String(time)} ${String(level).toUpperCase().padStart(5)} ${String(text)}${rest.join("")}`;
  return `${line.replace(controls, escape)}${stack}\n`;
}

/** What a client sent may stand in a line; it must neither begin another nor move the cursor. */
// oxlint-disable-next-line no-control-regex -- these are what it is about
const controls = /[\u0000-\u001f\u007f-\u009f]/g;

function escape(control: string): string {
  return `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

function asField(value: unknown): string {
  return typeof value === "string" && /^[\w.:/-]+$/.test(value) ? value : JSON.stringify(value);
}
