// Tokens that were good but for one thing: who brought them is written down, and none is good any longer than it is.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import { createFakeClock } from "../fake-clock.ts";
import { createFolder } from "../folder.ts";
import { openBare } from "./bare-connection.ts";
import { createFakeMachine } from "./fake-machine.ts";
import { startOnSocket } from "./socket-daemon.ts";
import { bearer, createFile, keyFile, startSubject, transports } from "./subject.ts";

const setLimit = "POST /gpu/set_power_limit?gpu_ids=0&power_limit_mw=200000&block=true";
const nowS = Math.floor(systemClock.epochMs() / 1000);
const all = ["gpu-control", "gpu-read"];

/** Each with what is asked for with it, and the code of the refusal. */
const refused = {
  "has expired": [bearer({ sub: "anna", scopes: all, jti: "1", exp: nowS - 3600 }), setLimit, "unauthenticated"],
  "is revoked": [bearer({ sub: "anna", scopes: all, jti: "lost" }), setLimit, "unauthenticated"],
  "lacks the scope": [bearer({ sub: "anna", scopes: ["gpu-read"], jti: "1" }), setLimit, "scope_missing"],
  "is not root's": [
    bearer({ sub: "anna", scopes: all, jti: "1" }),
    "GET /policy/explain?operation=gpu/get_power&uid=1",
    "forbidden",
  ],
} as const;

it.each(transports)(
  "a refusal says in the audit who brought a token that was good otherwise, %s",
  async (transport) => {
    const auditLog = join(createFolder(), "audit");
    const revokedTokensPath = createFile("revoked", "jti lost\n");
    const policy = '[[rule]]\nname = "all"\nanyone = true\nallow = ["gpu-read"]\n';
    const config = { ...keyFile(), revokedTokensPath, auditLog };
    const zeusd = await startSubject(transport, { config, policy });
    const isRoot = transport === "over a Unix socket" && process.getuid?.() === 0;
    const cases = Object.entries(refused).filter(([why]) => !(isRoot && why === "is not root's"));
    for (const [, [headers, line]] of cases) expect((await zeusd.ask(line, { headers })).status).toBeOneOf([401, 403]);
    const forged = bearer({ sub: "anna", scopes: all, jti: "1" }, "x".repeat(32));
    expect((await zeusd.ask(setLimit, { headers: forged })).status).toBe(401);
    const lines = (): readonly unknown[] =>
      readFileSync(auditLog, "utf8")
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown);
    await expect.poll(() => lines().length).toBe(cases.length + 1);
    expect(lines().slice(0, -1)).toMatchObject(
      cases.map(([why, [, , outcome]]) => ({ sub: "anna", jti: why === "is revoked" ? "lost" : "1", outcome })),
    );
    for (const key of ["sub", "jti"]) expect(lines().at(-1)).not.toHaveProperty(key);
    expect(zeusd.calls).toEqual([]);
  },
);

const body = '{"power_limit_mw":200000,"block":true}';
const typed = { "content-type": "application/json" };

it("a token that expires while its JSON body is on the way is refused with 401, and nothing is written", async () => {
  const clock = createFakeClock();
  const zeusd = await startSubject("in process", { clock, config: keyFile() });
  let send = (_body: string): void => {};
  const late = new Promise<string>((resolve) => (send = resolve));
  const expiring = bearer({ sub: "anna", scopes: all, exp: Math.floor(clock.epochMs() / 1000) + 10 });
  const answer = zeusd.ask("POST /gpu/0/set_power_limit", { headers: { ...expiring, ...typed }, late });
  const soon = zeusd.ask("POST /gpu/0/set_power_limit", { headers: { ...expiring, ...typed }, body });
  expect((await soon).status).toBe(200);
  // Its leeway is a minute.
  await clock.advance(72_000);
  send(body);
  expect(await answer).toMatchObject({ status: 401, body: "Token has expired." });
  expect(zeusd.calls).toHaveLength(1);
});

it("a token that is revoked while its JSON body is on the way is refused with 401, and nothing is written", async () => {
  const revokedTokensPath = createFile("revoked", "");
  const machine = createFakeMachine();
  const { daemon, path } = await startOnSocket(machine, { ...keyFile(), revokedTokensPath });
  const { authorization } = bearer({ sub: "anna", scopes: all, jti: "lost" });
  const head = (target: string, length: number): string =>
    `POST ${target} HTTP/1.1\r\nauthorization: ${authorization}\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`;
  const slow = openBare(path, head("/gpu/0/set_power_limit", body.length) + body.slice(0, 5));
  const other = openBare(path, head("/gpu/0/set_power_limit", body.length) + body);
  await expect.poll(other.text).toMatch(/^HTTP\/1\.1 200 /);
  writeFileSync(revokedTokensPath, "jti lost\n");
  await daemon.reload();
  slow.socket.write(body.slice(5));
  await expect.poll(slow.text).toMatch(/^HTTP\/1\.1 401 [^]*Token has been revoked\.$/);
  expect(machine.calls).toHaveLength(1);
});
