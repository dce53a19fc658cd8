// Request ids: a random prefix for each run of the daemon, then a count; they tie replies to log lines.
import { randomBytes } from "node:crypto";

export type NextRequestId = () => string;

export function createRequestIds(): NextRequestId {
  const prefix = randomBytes(4).toString("hex");
  let count = 0;
  return () => `${prefix}-${(count += 1).toString(36)}`;
}
