// Who may: every route on every wire for every kind of caller, and the way around the guard that the original left open.
import { beforeAll, describe, expect, it } from "vitest";
import { allOperations, apiGroups, type ApiGroup } from "../../src/contract/operations.ts";
import { parametersFor } from "../parameters.ts";
import { bearer, keyFile, startSubject, transports, type Subject } from "./subject.ts";

const now = Math.floor(Date.now() / 1000);
const unauthenticated = "Authentication required. Provide an Authorization: Bearer <token> header.";

/** Callers, with what they are told where a scope is needed: nothing if they have it. */
const callers: readonly (readonly [
  who: string,
  headers: Readonly<Record<string, string>>,
  scopes: readonly ApiGroup[],
  refusal: string,
])[] = [
  ["every scope", bearer({ sub: "alice", scopes: apiGroups }), apiGroups, ""],
  ["every scope, expired within the leeway", bearer({ sub: "alice", scopes: apiGroups, exp: now - 30 }), apiGroups, ""],
  [
    "read scopes",
    bearer({ sub: "bob", scopes: ["gpu-read", "cpu-read"], exp: now + 60 }),
    ["gpu-read", "cpu-read"],
    "",
  ],
  ["no scope", bearer({ sub: "eve", scopes: [] }), [], ""],
  ["a scope of another program", bearer({ sub: "eve", scopes: ["admin"] }), [], ""],
  ["no token", {}, [], unauthenticated],
  [
    "another scheme",
    { authorization: bearer({ sub: "eve", scopes: apiGroups }).authorization.replace("B", "b") },
    [],
    unauthenticated,
  ],
  ["an expired token", bearer({ sub: "eve", scopes: apiGroups, exp: now - 3600 }), [], "Token has expired."],
  ["a wrong key", bearer({ sub: "eve", scopes: apiGroups }, "x".repeat(32)), [], "Invalid token: InvalidSignature"],
  ["an audience", bearer({ sub: "eve", scopes: apiGroups, aud: "x" }), [], "Invalid token: InvalidAudience"],
  ["two parts", { authorization: "Bearer a.b" }, [], "Invalid token: InvalidToken"],
];

interface Asking {
  readonly line: string;
  readonly group: ApiGroup;
  readonly isStream: boolean;
  readonly body: string;
  /** Whether it is refused in text. */
  readonly asText: boolean;
  /** What it is told when the guard lets it through. */
  readonly through: number;
}

/** The daemon's own routes for a group, each whole. */
const ownRequests: readonly Asking[] = [
  ownRequest("POST /lease/acquire?gpu_ids=0&ttl_s=60", "gpu-control"),
  ownRequest(`POST /lease/renew?lease_id=${"0".repeat(32)}`, "gpu-control", { through: 409 }),
  ownRequest("POST /lease/release?lease=4711", "gpu-control", { through: 409 }),
  ownRequest("GET /lease/list", "gpu-read"),
  ownRequest("GET /gpu/get_state?gpu_ids=0", "gpu-read"),
  ownRequest("GET /events", "gpu-read", { isStream: true }),
];

function ownRequest(line: string, group: ApiGroup, more: Partial<Asking> = {}): Asking {
  return { line, group, body: "", asText: false, isStream: false, through: 200, ...more };
}

/** A request for every row on every wire, whole, so that only the guard can say no. */
const rowRequests = allOperations.flatMap((row): readonly Asking[] => {
  const shared = { group: row.group, isStream: row.kind === "stream", through: 200 };
  const fields = { ...parametersFor(row), ...(row.kind === "write" ? { block: true } : {}) };
  const query = new URLSearchParams({ [`${row.device}_ids`]: "0", ...mapValues(fields) });
  const method = row.kind === "write" ? "POST" : "GET";
  const body = JSON.stringify(fields);
  const onQuery = {
    line: `${method} /${row.device}/${row.name}?${query.toString()}`,
    ...shared,
    body: "",
    asText: false,
  };
  const onPath = (row.json?.paths ?? []).map((path) => ({
    line: `${row.json?.method} /${row.device}/0/${path}`,
    ...shared,
    body: row.json?.method === "POST" ? body : "",
    asText: true,
  }));
  return [...(row.query ? [onQuery] : []), ...onPath];
});

function mapValues(fields: Readonly<Record<string, boolean | number>>): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, String(value)]));
}

/** What follows a stream that was left may still see its last reading: streams of power come last. */
const requests = [...ownRequests, ...rowRequests];

describe.each(transports)("with a signing key, %s", (transport) => {
  const start = (): Promise<Subject> => startSubject(transport, { config: keyFile() });

  it.each(callers)("a caller with %s may do just what its scopes say", async (_, headers, scopes, refusal) => {
    const zeusd = await start();
    for (const { line, group, isStream, body: sent, asText, through } of requests) {
      const asked = { headers: { ...headers, "content-type": "application/json" }, body: sent };
      const may = scopes.includes(group);
      const before = zeusd.calls.length;
      const answer = await (isStream && may ? zeusd.follow(line, () => true, asked) : zeusd.ask(line, asked));
      if (may) {
        expect([line, answer.status]).toEqual([line, through]);
        continue;
      }
      expect([line, answer.status, zeusd.calls.length]).toEqual([line, refusal ? 401 : 403, before]);
      expect(answer.headers["www-authenticate"]).toBe(refusal ? 'Bearer realm="zeusd"' : undefined);
      const said = asText ? answer.body : String(JSON.parse(answer.body).error);
      expect(said).toMatch(refusal || /^Token for user '\w+' lacks required scope '[a-z-]+'\. Token scopes: \[.*\]$/);
    }
  });

  it("leaves /discover and /time open, and says who a token is for", async () => {
    const zeusd = await start();
    expect(JSON.parse((await zeusd.ask("GET /discover")).body)).toMatchObject({ auth_required: true });
    expect((await zeusd.ask("GET /time", { headers: { authorization: "Bearer nonsense" } })).status).toBe(200);
    expect((await zeusd.ask("GET /auth/whoami")).status).toBe(401);
    const limited = await zeusd.ask("GET /auth/whoami", {
      headers: bearer({ sub: "a", scopes: ["gpu-read"], exp: now + 9 }),
    });
    expect(limited.body).toBe(`{"sub":"a","scopes":["gpu-read"],"exp":${now + 9}}`);
    const endless = await zeusd.ask("GET /auth/whoami", { headers: bearer({ sub: "a", scopes: [] }) });
    expect(endless.body).toBe('{"sub":"a","scopes":[]}');
  });

  it("has no lease begin for whoever may not have one", async () => {
    const zeusd = await start();
    for (const [who, headers, scopes] of callers) {
      const line = "POST /lease/acquire?gpu_ids=0&exclusive=true&ttl_s=60";
      if (!scopes.includes("gpu-control"))
        expect([who, (await zeusd.ask(line, { headers })).status]).toEqual([who, expect.toBeOneOf([401, 403])]);
    }
    const headers = bearer({ sub: "alice", scopes: apiGroups });
    expect((await zeusd.ask("GET /lease/list", { headers })).body).toBe('{"leases":[]}');
  });

  it("asks for a token before it says that a path does not exist", async () => {
    const zeusd = await start();
    const headers = bearer({ sub: "a", scopes: ["gpu-read"] });
    expect((await zeusd.ask("GET /nothing")).status).toBe(401);
    expect(await zeusd.ask("GET /nothing", { headers })).toMatchObject({ status: 404, body: "" });
    expect((await zeusd.ask("GET /gpu/nothing", { headers })).status).toBe(404);
    expect((await zeusd.ask("POST /gpu/set_nothing", { headers })).status).toBe(403);
    expect((await zeusd.ask("POST /discover")).status).toBe(404);
    for (const line of ["GET /lease/acquire", "POST /lease/list", "POST /events", "GET /lease/nothing"]) {
      expect([line, (await zeusd.ask(line)).status]).toEqual([line, 401]);
      expect(await zeusd.ask(line, { headers })).toMatchObject({ status: 404, body: "" });
    }
  });

  it.each([
    "POST /gpu/%73et_power_limit?gpu_ids=0&power_limit_mw=200000&block=true",
    "POST /%67pu/set_power_limit?gpu_ids=0&power_limit_mw=200000&block=true",
    "POST /gpu/%73%65%74_power_limit?gpu_ids=0&power_limit_mw=200000&block=true",
    "POST /gpu/0/%73et_power_limit",
    "POST /%67pu/%30/set_power_limit",
    "POST http://x/gpu/%73et_power_limit?gpu_ids=0&power_limit_mw=200000&block=true",
  ])("guards %s by the row that it reaches (13.2 #1)", async (line) => {
    const zeusd = await start();
    for (const scopes of [["gpu-read", "cpu-read"], []]) {
      const asked = {
        headers: { ...bearer({ sub: "eve", scopes }), "content-type": "application/json" },
        body: "[200000,true]",
      };
      expect((await zeusd.ask(line, asked)).status).toBe(403);
    }
    expect(zeusd.calls).toEqual([]);
    const allowed = {
      headers: { ...bearer({ sub: "a", scopes: ["gpu-control"] }), "content-type": "application/json" },
      body: "[200000,true]",
    };
    expect((await zeusd.ask(line, allowed)).status).toBe(200);
  });
});

describe("without a signing key", () => {
  let zeusd: Subject;
  beforeAll(async () => {
    zeusd = await startSubject("in process", { config: { enabledGroups: ["gpu-read"] } });
  });

  it("says of /auth that it is off", async () => {
    for (const path of ["/auth/whoami", "/auth/other"]) {
      const { status, body } = await zeusd.ask(`GET ${path}`);
      expect({ status, ...JSON.parse(body) }).toEqual({
        status: 404,
        error: "Authentication is not enabled on this server.",
        code: "auth_disabled",
      });
    }
  });

  it("says of a group that is off that it is off, also where there is no such path", async () => {
    for (const line of [
      "GET /cpu/get_power",
      "GET /cpu/nothing",
      "POST /gpu/set_nothing",
      "POST /gpu/reset_locked_clocks",
      "POST /lease/acquire?gpu_ids=0&ttl_s=60",
      "POST /lease/renew",
      "POST /lease/release",
    ]) {
      const { status, body } = await zeusd.ask(line);
      expect({ line, status, body }).toMatchObject({
        status: 404,
        body: expect.stringMatching(/^\{"error":"API group '[a-z-]+' is not enabled on this server\."/),
      });
    }
    const onPath = await zeusd.ask("POST /gpu/0/set_power_limit");
    expect(onPath).toMatchObject({
      status: 404,
      type: "text/plain; charset=utf-8",
      body: "API group 'gpu-control' is not enabled on this server.",
    });
    expect(zeusd.calls).toEqual([]);
  });

  it("lets nobody read leases, states and events where gpu-read is off", async () => {
    const other = await startSubject("in process", { config: { enabledGroups: ["gpu-control"] } });
    for (const line of ["GET /lease/list", "GET /gpu/get_state", "GET /events"]) {
      const { status, body } = await other.ask(line);
      expect([line, status, body]).toEqual([line, 404, expect.stringContaining("API group 'gpu-read' is not enabled")]);
    }
    expect(other.calls).toEqual([]);
  });
});
