// What a policy means to those who ask a real daemon: rates, dry runs, and what it tells them of themselves.
import { describe, expect, it } from "vitest";
import { allOperations } from "../../src/contract/operations.ts";
import { actAs } from "./as-user.ts";
import { writeTarget } from "./driven.ts";
import { alice, bob, rule, uids, everything, forAlice, startWith, codeOf, changes } from "./governed.ts";
import { isRoot } from "./ordinary-user.ts";

it("who writes too often gets 429 with Retry-After on both wires, and nothing is written; others have their own share", async () => {
  const rate = "rate = { writes_per_second = 0.05, burst = 2 }";
  const limitedRule = rule("slowly", uids(alice, bob), ["set_power_limit", "gpu-read"], rate);
  const { address, driver } = await startWith(limitedRule);
  const [a, b] = [await actAs(alice), await actAs(bob)];
  const onPath = {
    method: "POST",
    target: "/gpu/0/set_power_limit",
    headers: { "content-type": "application/json" },
    body: '{"power_limit_mw":150000,"block":true}',
  };
  const onQuery = { method: "POST", target: writeTarget() };
  const dry = { method: "POST", target: `${writeTarget()}&dry_run=true` };
  expect(await a.askAll(address, [dry, dry, onPath, dry, onQuery])).toMatchObject(
    [200, 200, 200, 200, 200].map((status) => ({ status })),
  );
  const before = changes(driver);
  expect(before).toHaveLength(2);
  // A client of the same user on another connection, and another process, share its share.
  const [text, json, again] = [
    await a.ask(address, onPath),
    await a.ask(address, onQuery),
    await (await actAs(alice)).ask(address, onQuery),
  ];
  for (const { status, headers } of [text, json, again]) {
    expect(status).toBe(429);
    const seconds = Number(headers["retry-after"]);
    expect(Number.isInteger(seconds) && seconds >= 1 && seconds <= 20).toBe(true);
  }
  expect([text.headers["content-type"], text.body]).toEqual([
    "text/plain; charset=utf-8",
    expect.stringMatching(
      /^uid \d+ writes too often: rule "slowly" allows 0.05 writes a second, 2 at once; try again in /,
    ),
  ]);
  expect(codeOf(json)).toBe("rate_limited");
  const three = { method: "POST", target: writeTarget({ ids: "0,1,0" }) };
  expect((await a.ask(address, three)).status).toBe(429);
  expect((await a.ask(address, { target: "/gpu/get_power" })).status).toBe(200);
  expect(changes(driver)).toEqual(before);
  const other = await b.askAll(address, [onQuery, onPath, onQuery]);
  expect(other.map(({ status }) => status)).toEqual(isRoot ? [200, 200, 429] : [429, 429, 429]);
});

const writes = allOperations.filter(({ kind }) => kind === "write");
const wireValues: Readonly<Record<string, boolean | number>> = {
  enabled: true,
  power_limit_mw: 200_000,
  min_clock_mhz: 500,
  max_clock_mhz: 1000,
};

describe("a dry run", () => {
  it("of any write answers what would be done and by which rule, and the driver hears nothing", async () => {
    const bounds = "[[rule.bounds]]\npower_limit_mw = { max = 250000 }";
    const { address, driver } = await startWith(rule("bounded", uids(alice), ["gpu-control"], bounds));
    const a = await actAs(alice);
    const before = driver.calls();
    for (const { name, parameters } of writes) {
      const asked = Object.keys(parameters).map((field) => [field, wireValues[field]] as const);
      for (const block of [true, false]) {
        const query = [...asked, ["block", block]].map(([field, value]) => `${field}=${value}`).join("&");
        const answer = await a.ask(address, {
          method: "POST",
          target: `/gpu/${name}?gpu_ids=0,1&${query}&dry_run=true`,
        });
        expect([name, answer.status, JSON.parse(answer.body)]).toEqual([
          name,
          200,
          {
            dry_run: true,
            would: expect.stringMatching(new RegExp(`^${name}.* on GPU 0, GPU 1$`)),
            operation: name,
            asked: Object.fromEntries(asked),
            gpus: { 0: { rule: "bounded", lease: null }, 1: { rule: "bounded", lease: null } },
          },
        ]);
      }
    }
    const over = `${writeTarget({ mw: 250_001 })}&dry_run=true`;
    const refused = await a.ask(address, { method: "POST", target: over });
    expect([refused.status, codeOf(refused)]).toEqual([403, "forbidden"]);
    expect(await a.ask(address, { method: "POST", target: `${writeTarget({ ids: "7" })}&dry_run=true` })).toMatchObject(
      {
        status: 400,
      },
    );
    expect(driver.calls()).toEqual(before);
  });

  it("in a JSON body, which has never known it, is a 400 and no write", async () => {
    const { address, driver } = await startWith(forAlice);
    const a = await actAs(alice);
    const before = driver.calls();
    for (const { parameters, json } of writes) {
      const asked = Object.fromEntries(Object.keys(parameters).map((field) => [field, wireValues[field]]));
      for (const path of json?.paths ?? []) {
        for (const dry_run of [true, false, null]) {
          const answer = await a.ask(address, {
            method: "POST",
            target: `/gpu/0/${path}?dry_run=true`,
            headers: { "content-type": "application/json" },
            body: JSON.stringify({ ...asked, block: true, dry_run }),
          });
          expect([path, answer.status, answer.headers["content-type"]]).toEqual([
            path,
            400,
            "text/plain; charset=utf-8",
          ]);
          expect(answer.body).toContain("dry_run");
        }
      }
    }
    expect(driver.calls()).toEqual(before);
  });
});

describe("who asks about themselves", () => {
  it("is told who they are and which rules are theirs, and no others", async () => {
    const ofGroup = rule("of a group", `gids = [${alice.groups[0] ?? alice.gid}]`, ["gpu-read"]);
    const { address } = await startWith(forAlice + ofGroup + rule("of others", "uids = [34009]", everything));
    const a = await actAs(alice);
    const { status, body } = await a.ask(address, { target: "/auth/whoami" });
    expect(status).toBe(200);
    expect(JSON.parse(body)).toMatchObject({
      uid: alice.uid,
      gid: alice.gid,
      groups: expect.arrayContaining([alice.gid]),
      pid: a.pid,
      you: `uid ${alice.uid}`,
      rules: [
        { rule: "for alice", allow: everything, gpus: "all" },
        { rule: "of a group", allow: ["gpu-read"], gpus: "all" },
      ],
    });
    expect(body).not.toContain("of others");
  });

  it("may ask what the policy says of others as root alone", async () => {
    const { address } = await startWith(forAlice + rule("more", uids(alice), ["gpu-read"]));
    const query = `operation=set_power_limit&power_limit_mw=200000&gpu_ids=0,1&uid=${alice.uid}`;
    const target = `/policy/explain?${query}`;
    const asOther = await (await actAs(alice)).ask(address, { target });
    expect([asOther.status, codeOf(asOther)]).toEqual([403, "forbidden"]);
    const asSelf = await (await actAs()).ask(address, { target });
    expect(asSelf.status).toBe(isRoot ? 200 : 403);
    if (!isRoot) return;
    const { operation, gpus } = JSON.parse(asSelf.body) as { operation: string; gpus: Record<string, unknown> };
    expect([operation, Object.keys(gpus)]).toEqual(["set_power_limit", ["0", "1"]]);
    expect(gpus["1"]).toEqual({
      allowed: true,
      rule: "for alice",
      rules: [
        { rule: "for alice", line: 1, because: "it decides" },
        { rule: "more", line: expect.any(Number), because: "not looked at any more" },
      ],
    });
    const [stranger] = [await (await actAs()).ask(address, { target: target.replace(/uid=\d+/, "uid=34009") })];
    expect(JSON.parse(stranger.body)).toMatchObject({ gpus: { 0: { allowed: false, refusal: expect.any(String) } } });
  });
});
