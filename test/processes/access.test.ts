// The truth table of access: every route on every wire × everyone who may ask × with and without a policy and a signing key.
// Clients of several users ask one real daemon, and what its driver was asked tells whether a refused write was made after all.
import { createHash, createHmac } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { allOperations, type Row } from "../../src/contract/operations.ts";
import { actAs, self, type Identity, type User, type UserAnswer, type UserRequest } from "./as-user.ts";
import { start, type Driven } from "./driven.ts";
import { createFolder } from "../folder.ts";
import { isRoot } from "./ordinary-user.ts";

// WHO ASKS ----------------------------------------------------------------------------------------------------------------

const local = ["root", "operator", "member", "stranger"] as const;
/** Over TCP nobody can be told who they are, whoever they are. */
const everyone = [...local, "nobody"] as const;
type Who = (typeof everyone)[number];

const teamGid = 34_500;

const identities: Readonly<Record<Who, Identity>> = {
  root: { uid: 0, gid: 0, groups: [] },
  operator: { uid: 34_001, gid: 34_001, groups: [] },
  /** The policy names neither its uid nor its gid, but its second supplementary group. */
  member: { uid: 34_002, gid: 34_002, groups: [34_400, teamGid] },
  stranger: { uid: 34_003, gid: 34_003, groups: [34_400] },
  /** It is the operator's process that asks over TCP, and gains nothing by it. */
  nobody: { uid: 34_001, gid: 34_001, groups: [] },
};

/** What the policy of this test says. The operator is somebody by uid, the team by group; root is nobody special to it. */
const policyFor = (uid: number, gid: number): string => `
[[rule]]
name = "the operator's"
uids = [${uid}]
allow = ["gpu-control", "gpu-read", "cpu-read"]

[[rule]]
name = "the team's"
gids = [${gid}]
allow = ["gpu-read", "set_power_limit"]

[[rule]]
name = "root's"
uids = [0]
allow = ["gpu-read"]

[[rule]]
name = "the services'"
tokens = ["svc-*"]
allow = ["gpu-control", "gpu-read", "cpu-read"]
`;

// WITH WHAT ---------------------------------------------------------------------------------------------------------------

const key = "k".repeat(32);
const now = Math.floor(Date.now() / 1000);
const all = ["gpu-control", "gpu-read", "cpu-read"];

function sign(claims: object, signedWith = key, header: object = { typ: "JWT", alg: "HS256" }): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part(header)}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", signedWith).update(signed).digest("base64url")}`;
}

const digested = sign({ sub: "svc-1", scopes: all, exp: now + 8888 });

const tokens = {
  nothing: undefined,
  "a service's": `Bearer ${sign({ sub: "svc-1", scopes: all, exp: now + 3600 })}`,
  "a guest's": `Bearer ${sign({ sub: "guest", scopes: all })}`,
  "a CPU one": `Bearer ${sign({ sub: "guest", scopes: ["cpu-read", "admin"] })}`,
  "a limit one": `Bearer ${sign({ sub: "guest", scopes: ["set_power_limit"] })}`,
  expired: `Bearer ${sign({ sub: "svc-1", scopes: all, exp: now - 3600 })}`,
  "of another key": `Bearer ${sign({ sub: "svc-1", scopes: all }, "x".repeat(32))}`,
  unsigned: `Bearer ${sign({ sub: "svc-1", scopes: all }, key, { typ: "JWT", alg: "none" })}`,
  "revoked by its id": `Bearer ${sign({ sub: "svc-1", scopes: all, iat: now, jti: "lost" })}`,
  "revoked by its digest": `Bearer ${digested}`,
  "of a revoked user": `Bearer ${sign({ sub: "svc-left", scopes: all, iat: now })}`,
  "of another scheme": `Basic ${Buffer.from("root:root").toString("base64")}`,
  "in small letters": `bearer ${sign({ sub: "svc-1", scopes: all })}`,
} as const;
type With = keyof typeof tokens;

const revocations = `jti lost
sha256 ${createHash("sha256").update(digested).digest("hex")}
sub svc-left
`;

// WHAT FOR ----------------------------------------------------------------------------------------------------------------

/** The columns of the table. Those with a question mark are paths that do not exist, by the prefix that they have. */
const columns = "open self root limit write lease ended gpu cpu ?open ?control ?gpu ?cpu ?auth ?else".split(" ");

interface Question extends UserRequest {
  readonly method: "GET" | "POST";
  readonly column: string;
  /** Whether the JSON wire answers. */
  readonly asText: boolean;
  /** How many calls of the driver's setters it takes. */
  readonly sets: number;
}

const values: Readonly<Record<string, boolean | number>> = {
  enabled: true,
  power_limit_mw: 200_000,
  min_clock_mhz: 500,
  max_clock_mhz: 1000,
  cpu: true,
  dram: true,
  block: true,
};

function columnOf({ group, name }: Row): string {
  if (group !== "gpu-control") return group === "gpu-read" ? "gpu" : "cpu";
  return name === "set_power_limit" ? "limit" : "write";
}

/** A whole request for a row on every wire that carries it. */
function questionsFor(row: Row): readonly Question[] {
  const { device, name, kind, json } = row;
  const names = [...Object.keys(row.parameters), ...(kind === "write" ? ["block"] : [])];
  const fields = Object.fromEntries(names.map((field) => [field, values[field] ?? ""]));
  const query = [`${device}_ids=0`, ...names.map((field) => `${field}=${values[field]}`)].join("&");
  const shared = { column: columnOf(row), sets: row.settings?.length ?? 0 };
  const method = kind === "write" ? "POST" : "GET";
  const onQuery = { ...shared, method, target: `/${device}/${name}?${query}`, asText: false } as const;
  const body = json?.method === "POST" ? JSON.stringify(fields) : "";
  const headers = { "content-type": "application/json" };
  const onPath = (json?.paths ?? []).map((path): Question => {
    return { ...shared, method: json?.method ?? "GET", target: `/${device}/0/${path}`, body, headers, asText: true };
  });
  // The state of the settings is asked for as an operation of the query wire is.
  return row.query || row.by === "settings" ? [onQuery, ...onPath] : onPath;
}

/** What is not in the table of operations, as `METHOD target`, by column. */
const others: Readonly<Record<string, readonly string[]>> = {
  open: ["GET /discover", "GET /time", "GET /healthz", "GET /%74ime?x=1"],
  self: ["GET /auth/whoami"],
  root: ["GET /policy/explain?operation=set_power_limit&power_limit_mw=200000&gpu_ids=0&uid=1"],
  /** Whoever gets one keeps it until its process ends. Nobody but who writes within it notices. */
  lease: ["POST /lease/acquire?gpu_ids=0&ttl_s=3600&reason=a+table"],
  /** Leases that there are not. */
  ended: [`POST /lease/renew?lease_id=${"0".repeat(32)}`, "POST /lease/release?lease=4711"],
  gpu: ["GET /lease/list", "GET /events"],
  "?open": ["POST /discover", "POST /time"],
  "?control": ["POST /gpu/set_nothing", "GET /gpu/set_power_limit", "POST /gpu/reset_", "GET /gpu/set_power_limit/"],
  "?gpu": [
    ...["GET /gpu/", "GET /gpu/nothing", "POST /gpu/get_power", "POST /gpu/get_state"],
    ...["GET /gpu/0/set_power_limit", "GET /gpu/0/get_state", "GET /gpu/0/1/2"],
  ],
  "?cpu": ["GET /cpu/", "GET /cpu/nothing", "POST /cpu/get_power", "POST /cpu/0/supports_dram_energy"],
  "?auth": ["GET /auth/nothing", "POST /auth/whoami"],
  "?else": [
    ...["GET /", "GET /nothing", "GET /gpu", "POST /policy/explain", "GET /policy/nothing"],
    ...["GET /lease/acquire", "POST /lease/list", "POST /lease", "POST /events"],
  ],
};

const questions: readonly Question[] = [
  ...allOperations.flatMap((row) => questionsFor(row)),
  ...Object.entries(others).flatMap(([column, lines]) =>
    lines.map((line): Question => {
      const [method, target = ""] = line.split(" ");
      return { column, method: method === "POST" ? "POST" : "GET", target, asText: false, sets: 0 };
    }),
  ),
];

// WHAT THEY ARE TOLD ------------------------------------------------------------------------------------------------------

const refusedTokens = [
  "nothing",
  "expired",
  "of another key",
  "revoked by its id",
  "unsigned",
  "revoked by its digest",
  "of a revoked user",
  "of another scheme",
  "in small letters",
] as const satisfies readonly With[];
const goodTokens = ["a service's", "a guest's", "a CPU one", "a limit one"] as const satisfies readonly With[];

interface Scene {
  readonly name: string;
  readonly policy: boolean;
  readonly key: boolean;
  /** Who, with what (`anyone` and `anything` for all; `no good token` for those that are refused), and the status by column. */
  readonly table: string;
}

const scenes: readonly Scene[] = [
  {
    name: "without a policy and without a key",
    policy: false,
    key: false,
    table: `
                              | open self root | limit write lease ended gpu cpu | ?open ?control ?gpu ?cpu ?auth ?else
      root     | anything     | 200  404  404  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      operator | anything     | 200  404  403  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      member   | anything     | 200  404  403  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      stranger | anything     | 200  404  403  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      nobody   | anything     | 200  404  403  | 200   200   200   409   200 200 | 404   404      404  404  404   404`,
  },
  {
    name: "with a policy alone",
    policy: true,
    key: false,
    table: `
                              | open self root | limit write lease ended gpu cpu | ?open ?control ?gpu ?cpu ?auth ?else
      root     | anything     | 200  200  200  | 403   403   403   403   200 403 | 404   404      404  404  404   404
      operator | anything     | 200  200  403  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      member   | anything     | 200  200  403  | 200   403   200   409   200 403 | 404   404      404  404  404   404
      stranger | anything     | 200  200  403  | 403   403   403   403   403 403 | 404   404      404  404  404   404
      nobody   | anything     | 200  404  403  | 403   403   403   403   403 403 | 404   404      404  404  404   404`,
  },
  {
    name: "with a key alone",
    policy: false,
    key: true,
    table: `
                              | open self root | limit write lease ended gpu cpu | ?open ?control ?gpu ?cpu ?auth ?else
      anyone   | no good token| 200  401  401  | 401   401   401   401   401 401 | 404   401      401  401  401   401
      root     | a service's  | 200  200  404  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      root     | a guest's    | 200  200  404  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      root     | a CPU one    | 200  200  404  | 403   403   403   403   403 200 | 404   403      403  404  404   404
      root     | a limit one  | 200  200  404  | 200   403   403   403   403 403 | 404   403      403  403  404   404
      others   | a service's  | 200  200  403  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      others   | a guest's    | 200  200  403  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      others   | a CPU one    | 200  200  403  | 403   403   403   403   403 200 | 404   403      403  404  404   404
      others   | a limit one  | 200  200  403  | 200   403   403   403   403 403 | 404   403      403  403  404   404`,
  },
  {
    name: "with a policy and a key, which must both say yes",
    policy: true,
    key: true,
    table: `
                              | open self root | limit write lease ended gpu cpu | ?open ?control ?gpu ?cpu ?auth ?else
      anyone   | no good token| 200  401  401  | 401   401   401   401   401 401 | 404   401      401  401  401   401
      root     | a service's  | 200  200  200  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      others   | a service's  | 200  200  403  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      root     | a guest's    | 200  200  200  | 403   403   403   403   200 403 | 404   404      404  404  404   404
      operator | a guest's    | 200  200  403  | 200   200   200   409   200 200 | 404   404      404  404  404   404
      member   | a guest's    | 200  200  403  | 200   403   200   409   200 403 | 404   404      404  404  404   404
      stranger | a guest's    | 200  200  403  | 403   403   403   403   403 403 | 404   404      404  404  404   404
      nobody   | a guest's    | 200  200  403  | 403   403   403   403   403 403 | 404   404      404  404  404   404
      root     | a CPU one    | 200  200  200  | 403   403   403   403   403 403 | 404   403      403  404  404   404
      operator | a CPU one    | 200  200  403  | 403   403   403   403   403 200 | 404   403      403  404  404   404
      member   | a CPU one    | 200  200  403  | 403   403   403   403   403 403 | 404   403      403  404  404   404
      stranger | a CPU one    | 200  200  403  | 403   403   403   403   403 403 | 404   403      403  404  404   404
      nobody   | a CPU one    | 200  200  403  | 403   403   403   403   403 403 | 404   403      403  404  404   404
      root     | a limit one  | 200  200  200  | 403   403   403   403   403 403 | 404   403      403  403  404   404
      operator | a limit one  | 200  200  403  | 200   403   403   403   403 403 | 404   403      403  403  404   404
      member   | a limit one  | 200  200  403  | 200   403   403   403   403 403 | 404   403      403  403  404   404
      stranger | a limit one  | 200  200  403  | 403   403   403   403   403 403 | 404   403      403  403  404   404
      nobody   | a limit one  | 200  200  403  | 403   403   403   403   403 403 | 404   403      403  403  404   404`,
  },
];

/** The line of a table that is for somebody with something: a status for each column. There must be one, and only one. */
function lineFor({ table }: Scene, who: Who, what: With): ReadonlyMap<string, number> {
  const meant: readonly string[][] = [
    ["anyone", who, ...(who === "root" ? [] : ["others"])],
    ["anything", what, ...(refusedTokens.some((token) => token === what) ? ["no good token"] : [])],
  ];
  const lines = table.split("\n").map((line) => line.split("|").map((cell) => cell.trim()));
  const [line, ...more] = lines.filter((cells) => meant.every((names, place) => names.includes(cells[place] ?? "")));
  if (!line || more.length > 0)
    throw new Error(`the table has ${more.length + (line ? 1 : 0)} lines for ${who}, ${what}`);
  const cells = line.slice(2).flatMap((part) => part.split(/ +/).map(Number));
  expect(cells).toHaveLength(columns.length);
  return new Map(columns.map((column, index) => [column, cells[index] ?? 0]));
}

// THE DAEMON --------------------------------------------------------------------------------------------------------------

/** One CPU package with memory. */
function createPowercap(): string {
  const root = createFolder();
  const zones = { "intel-rapl:0": "package-0", "intel-rapl:0/intel-rapl:0:0": "dram" };
  for (const [zone, name] of Object.entries(zones)) {
    mkdirSync(join(root, zone));
    const files = { name, energy_uj: "123456", max_energy_range_uj: "262143328850" };
    for (const [file, text] of Object.entries(files)) writeFileSync(join(root, zone, file), `${text}\n`);
  }
  return root;
}

/** A daemon with a real driver's stand-in. Only root can be several users: of anybody else the policy says what it says of `who`. */
async function startScene(scene: Scene, transport: "uds" | "tcp", who: Who): Promise<Driven> {
  const folder = createFolder();
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const uid = !isRoot && who === "operator" ? self.uid : identities.operator.uid;
  const gid = !isRoot && who === "member" ? (self.groups.at(-1) ?? self.gid) : teamGid;
  const keyed = ["--signing-key-path", write("key", key), "--revoked-tokens", write("revoked", revocations)];
  return start({
    args: [
      ...["--powercap-root", createPowercap(), "--gpu-power-poll-hz", "500", "--cpu-power-poll-hz", "500"],
      ...(transport === "tcp" ? ["--mode", "tcp", "--tcp-bind-address", "127.0.0.1:0"] : []),
      ...(scene.policy ? ["--policy", write("policy.toml", policyFor(uid, gid))] : []),
      ...(scene.key ? keyed : []),
    ],
  });
}

/** Somebody with something, and what they may expect. */
interface Caller {
  readonly who: Who;
  readonly what: With;
  readonly user: User;
  readonly line: ReadonlyMap<string, number>;
}

interface Case extends Caller {
  readonly question: Question;
  readonly expected: number;
}

function casesOf(caller: Caller): readonly Case[] {
  return questions.map((question) => ({ ...caller, question, expected: caller.line.get(question.column) ?? 0 }));
}

async function callersOf(scene: Scene, whos: readonly Who[]): Promise<readonly Caller[]> {
  const callers = whos.map(async (who) => {
    const user = await actAs(isRoot ? identities[who] : self, who);
    // Where no token is needed none is looked at; and a token that is none is not one for whoever has most of all rights.
    const bad = who === whos[0] ? refusedTokens : refusedTokens.slice(0, 4);
    const brought = scene.key ? [...bad, ...goodTokens] : (["nothing", "a service's", "unsigned"] as const);
    return brought.map((what) => ({ who, what, user, line: lineFor(scene, who, what) }));
  });
  return (await Promise.all(callers)).flat();
}

/** Asks everything; each user on one connection and in order, all users at the same time. */
async function askAll(address: string, cases: readonly Case[]): Promise<readonly (readonly [Case, UserAnswer])[]> {
  const users = [...new Set(cases.map(({ user }) => user))];
  const asked = users.map(async (user) => {
    const own = cases.filter((each) => each.user === user);
    const requests = own.map(({ what, question: { method, target, headers, body = "" } }) => {
      const token = tokens[what];
      return { method, target, body, headers: { ...headers, ...(token ? { authorization: token } : {}) } };
    });
    const answers = await user.askAll(address, requests);
    return own.flatMap((each, index) => {
      const answer = answers[index];
      return answer ? [[each, answer] as const] : [];
    });
  });
  return (await Promise.all(asked)).flat();
}

const nameOf = ({ who, what, question: { method, target } }: Case): string => `${who}, ${what}: ${method} ${target}`;

/** Refusals look as the wire has them, and say which kind they are. */
function checkRefusal({ question, expected, who, what }: Case, { headers, body }: UserAnswer, scene: Scene): void {
  const type = headers["content-type"];
  expect(headers["www-authenticate"]).toBe(expected === 401 ? 'Bearer realm="zeusd"' : undefined);
  if (question.column.startsWith("?") && body === "") {
    expect(expected).toBe(404);
    return;
  }
  if (question.asText) {
    expect([type, body]).toEqual(["text/plain; charset=utf-8", expect.stringMatching(/^[^{\n]+$/)]);
  } else {
    const { error, code } = JSON.parse(body) as { readonly error?: unknown; readonly code?: unknown };
    expect([type, typeof error]).toEqual(["application/json", "string"]);
    const scoped = scene.key && (what === "a CPU one" || what === "a limit one") && question.column !== "root";
    const lacking = scene.policy ? ["scope_missing", "forbidden"] : ["scope_missing"];
    const codes = {
      409: ["no_such_lease"],
      401: ["unauthenticated"],
      403: scoped ? lacking : ["forbidden"],
      404: ["auth_disabled", "not_found"],
    };
    expect(codes[expected as keyof typeof codes]).toContain(code);
  }
  // A rule is nobody's business but theirs whom it is for.
  if (who === "stranger" || who === "nobody") expect(body).not.toMatch(/operator's|team's|root's|services'/);
}

const isSetter = (call: string): boolean => /^nvmlDevice(Set|Reset)/.test(call);

async function check(scene: Scene, transport: "uds" | "tcp", whos: readonly Who[]): Promise<void> {
  const { daemon, driver } = await startScene(scene, transport, whos[0] ?? "nobody");
  const address = await daemon.listening();
  const cases = (await callersOf(scene, whos)).flatMap(casesOf);

  // First what is refused, alone: the driver hears nothing of it at all.
  const before = driver.calls();
  const refused = await askAll(
    address,
    cases.filter(({ expected, question: { column } }) => expected !== 200 && column !== "open"),
  );
  expect(driver.calls()).toEqual(before);

  // Then all the rest, and writes of those who may not among it: neither a connection nor a token that was good is any good to
  // others.
  const mixed = await askAll(
    address,
    cases.filter(({ expected, question }) => expected === 200 || question.column === "open" || question.sets > 0),
  );
  const told = [...refused, ...mixed];
  expect(told.map(([each, { status }]) => `${nameOf(each)} ${status}`)).toEqual(
    told.map(([each]) => `${nameOf(each)} ${each.expected}`),
  );
  const sets = mixed.map(([{ expected, question }]) => (expected === 200 ? question.sets : 0));
  const calls = driver.calls().filter(isSetter);
  expect(calls).toHaveLength(sets.reduce((sum, count) => sum + count, 0));

  for (const [each, answer] of told) {
    expect(answer.headers["x-request-id"]).toMatch(/./);
    if (each.expected !== 200) checkRefusal(each, answer, scene);
  }
  // All of it came over connections that were open already, but for the streams that clients left.
  expect(mixed.filter(([, { reused }]) => reused).length).toBeGreaterThan(mixed.length / 2);
}

describe.each(scenes)("$name", (scene) => {
  it("everyone at the Unix socket gets what the table says, and no refused write reaches the driver", async () => {
    if (isRoot) await check(scene, "uds", local);
    else for (const who of local.filter((each) => each !== "root")) await check(scene, "uds", [who]);
  });

  it("over TCP only a token tells who somebody is, and no refused write reaches the driver", async () => {
    await check(scene, "tcp", ["nobody"]);
  });
});

it("the table of routes has every operation on every wire, and every kind of answer on both wires", () => {
  for (const row of allOperations) {
    const wires = (row.query || row.by === "settings" ? 1 : 0) + (row.json?.paths.length ?? 0);
    expect(questionsFor(row)).toHaveLength(wires);
    expect(wires).toBeGreaterThan(0);
  }
  expect(new Set(questions.map(({ column }) => column))).toEqual(new Set(columns));
  for (const asText of [true, false]) {
    const own = questions.filter((question) => question.asText === asText);
    expect(own.some(({ column }) => column === "write")).toBe(true);
  }
});
