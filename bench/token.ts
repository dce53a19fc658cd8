// What a known token costs a request: the guard with and without tokens, in alternating rounds of the same run.
import { randomBytes } from "node:crypto";
import { Gate } from "../src/access/gate.ts";
import { authorize, type Access } from "../src/access/guard.ts";
import { createTokenVerifier, issueToken } from "../src/access/token.ts";
import { systemClock } from "../src/contract/clock.ts";
import type { LeaseBook } from "../src/contract/lease.ts";
import { apiGroups } from "../src/contract/operations.ts";
import { median } from "./statistics.ts";

const rounds = 21;
const requests = 20_000;

const key = randomBytes(32);
const tokens = createTokenVerifier(key, systemClock);
const authorization = `Bearer ${await issueToken(key, { sub: "bench", scopes: apiGroups })}`;

/** Mean time of one check, in microseconds. */
async function measure(access: Access): Promise<number> {
  const began = performance.now();
  for (let request = 0; request < requests; request += 1)
    await authorize(access, { guard: "gpu-control" }, { header: () => authorization });
  return ((performance.now() - began) * 1000) / requests;
}

/** Where nobody has a lease. */
const leases: LeaseBook = { isEmpty: true, claim: () => undefined, implicit: () => undefined };
const gate = new Gate({ clock: systemClock, leases, restoreOnExit: false });
const differences: number[] = [];
for (let round = 0; round < rounds; round += 1) {
  const without = await measure({ enabledGroups: apiGroups, gate });
  const known = await measure({ enabledGroups: apiGroups, gate, tokens });
  differences.push(known - without);
}
console.log(
  `a known token costs ${median(differences).toFixed(2)} µs a request (median of ${rounds} paired rounds of ${requests})`,
);
