// A temporary folder that goes away with its test.
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** Whoever the daemon runs as may write to it. */
export function createFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "zeusd-"));
  // Like /tmp: where everyone could rename everything, nothing is kept.
  chmodSync(folder, 0o1777);
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
