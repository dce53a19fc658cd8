// What is said of a lease: who, since when and why, and never its id.
import { describe, expect, it } from "vitest";
import type { Lease } from "../../src/contract/lease.ts";
import { describeLease, factsOf, heldText } from "../../src/settings/lease-words.ts";

const lease: Lease = {
  number: 3,
  id: "0123456789abcdef0123456789abcdef",
  implicit: false,
  exclusive: true,
  reason: "night run",
  sinceMs: Date.UTC(2026, 0, 31, 12, 0, 0, 250),
  ttlS: 60,
  expiresMs: Date.UTC(2026, 0, 31, 12, 1, 0, 250),
  owner: { uid: 1000, program: "python", sub: "me" },
  holder: { pid: 4711, started: 99 },
  gpus: ["b", "gone", "a"],
};
const bare: Lease = { ...lease, reason: undefined, expiresMs: undefined, owner: {}, holder: undefined };
const ids: Readonly<Record<string, number>> = { a: 0, b: 1 };

describe("a lease in words", () => {
  it("names its number, its user and its process", () => {
    expect(describeLease({ ...lease, owner: { uid: 1000, program: "python" } })).toBe(
      "Lease 3 of uid 1000 (python, pid 4711)",
    );
    expect(describeLease({ ...lease, implicit: true, owner: { uid: 0 } })).toBe("Implicit lease 3 of uid 0 (pid 4711)");
  });

  it("names the subject of a token, beside the user or alone", () => {
    expect(describeLease(lease)).toBe("Lease 3 of uid 1000 with token subject 'me' (python, pid 4711)");
    expect(describeLease({ ...bare, owner: { sub: "me" } })).toBe("Lease 3 of token subject 'me'");
    expect(describeLease(bare)).toBe("Lease 3 of a client without identity");
  });

  it("says since when and why", () => {
    const who = "lease 3 of uid 1000 with token subject 'me' (python, pid 4711)";
    expect(heldText(lease)).toBe(`${who} since 2026-01-31T12:00:00Z (reason: "night run")`);
    expect(heldText({ ...lease, reason: 'a "quote"' })).toContain(String.raw`(reason: "a \"quote\"")`);
    expect(heldText(bare)).toBe("lease 3 of a client without identity since 2026-01-31T12:00:00Z");
  });

  it("never tells its id", () => {
    expect(describeLease(lease) + heldText(lease) + JSON.stringify(factsOf(lease, () => 0))).not.toContain(lease.id);
  });
});

describe("the facts of a lease", () => {
  it("name its GPUs by their ids, in order, without those that are not there", () => {
    expect(factsOf(lease, (key) => ids[key])).toEqual({
      lease: 3,
      gpu_ids: [0, 1],
      exclusive: true,
      implicit: false,
      reason: "night run",
      since_ms: lease.sinceMs,
      expires_ms: lease.expiresMs,
      holder: { uid: 1000, pid: 4711, program: "python", sub: "me" },
    });
  });

  it("say null for what nobody knows", () => {
    expect(factsOf(bare, () => undefined)).toMatchObject({
      gpu_ids: [],
      reason: null,
      expires_ms: null,
      holder: { uid: null, pid: null, program: null, sub: null },
    });
  });
});
