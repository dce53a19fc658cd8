// What clients decide by: the code of an acquisition that needs a time to live, and what a policy hides of GPUs that were never there.
import { expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { createHolder, gistOf, json, limit } from "./holder.ts";
import { peer, startSubject } from "./subject.ts";

it("a lease that only time could end is refused with a code of its own without ttl_s", async () => {
  const zeusd = await startSubject("in process");
  expect(gistOf(await zeusd.ask("POST /lease/acquire"))).toMatchObject([400, "ttl_required", expect.anything()]);
  const hidden = createHolder(1, { hidden: true });
  expect(gistOf(await zeusd.ask("POST /lease/acquire", { peer: hidden.peer }))[1]).toBe("ttl_required");
});

it("a GPU that was never there keeps nobody from the state of the others, unless it is asked for", async () => {
  const policy = `[[rule]]\nname = "r"\nuids = [1000]\nallow = ["gpu-read"]`;
  const away = [{ id: 1, away: new ZeusdError("driver_error", "NVML error: sick") }];
  const zeusd = await startSubject("in process", { policy, away });
  const answer = await zeusd.ask("GET /gpu/get_state", { peer: peer(1000) });
  expect([answer.status, json(answer)]).toMatchObject([200, { gpus: { 0: { stale: null }, 1: {} } }]);
  expect((await zeusd.ask("GET /gpu/get_state?gpu_ids=1", { peer: peer(1000) })).status).toBe(503);
  expect((await zeusd.ask("GET /gpu/get_state", { peer: peer(1001) })).status).toBe(403);
});

it("a dry run by somebody whose end cannot be noticed says no where the write would", async () => {
  const policy = `[[rule]]\nname = "r"\nanyone = true\nallow = ["gpu-control"]\nlease = "required"\nrestore_on_exit = true`;
  const zeusd = await startSubject("in process", { policy });
  const hidden = createHolder(1, { hidden: true });
  expect((await zeusd.ask(limit(200_000), { peer: hidden.peer })).status).toBe(403);
  expect((await zeusd.ask(limit(200_000, { more: "&dry_run=true" }), { peer: hidden.peer })).status).toBe(403);
});

it("root ends a lease by force although no rule of the policy is for root", async () => {
  const policy = `[[rule]]\nname = "r"\nuids = [1000]\nallow = ["gpu-control"]`;
  const zeusd = await startSubject("in process", { policy });
  const holder = createHolder(1, { uid: 1000 });
  const { lease } = json(await zeusd.ask("POST /lease/acquire", { peer: holder.peer })) as { lease: number };
  expect((await zeusd.ask(`POST /lease/release?lease=${lease}`, { peer: peer(0) })).status).toBe(403);
  expect((await zeusd.ask(`POST /lease/release?lease=${lease}&force=true`, { peer: peer(0) })).status).toBe(200);
});
