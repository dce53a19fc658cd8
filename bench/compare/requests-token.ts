// Tokens, scopes and API groups.
import type { Exchange } from "./exchange.ts";
import { get, post, raw, words } from "./requests.ts";
import { base64url, everything, header, key, sign, signParts, soon } from "./tokens.ts";

const user = { sub: "anna", scopes: everything };
const now = Math.floor(Date.now() / 1000);
const full = sign(user);
const [head = "", claims = "", signature = ""] = full.split(".");

const bearer = (token: string): readonly string[] => [`Authorization: Bearer ${token}`];
const whoami = (name: string, token: string): Exchange => get("/auth/whoami", { name, headers: bearer(token) });
const limit = (path: string): string => `${path}?gpu_ids=0&power_limit_mw=200000&block=true`;

/** Claims by what is odd about them. */
const odd: Readonly<Record<string, unknown>> = {
  "all scopes": user,
  "no scopes": { ...user, scopes: [] },
  "the same scope twice": { ...user, scopes: ["gpu-read", "gpu-read"] },
  "an empty sub": { ...user, sub: "" },
  "an odd sub": { ...user, sub: "a'b\"\u{e9}\u{1f600}\n" },
  "an exp ahead": { ...user, exp: soon() },
  "an exp just over": { ...user, exp: now - 20 },
  "an exp over by more than the leeway": { ...user, exp: now - 100 },
  "exp null": { ...user, exp: null },
  "exp 0": { ...user, exp: 0 },
  "exp negative": { ...user, exp: -1 },
  "exp float": { ...user, exp: soon() + 0.5 },
  "exp a whole float": `{"sub":"anna","scopes":[],"exp":${soon()}.0}`,
  "exp with an exponent": '{"sub":"anna","scopes":[],"exp":2e9}',
  "exp text": { ...user, exp: String(soon()) },
  "exp true": { ...user, exp: true },
  "exp of 64 bits": '{"sub":"anna","scopes":[],"exp":18446744073709551615}',
  "exp beyond 2^53": '{"sub":"anna","scopes":[],"exp":9007199254740993}',
  "exp beyond 64 bits": '{"sub":"anna","scopes":[],"exp":18446744073709551616}',
  "exp twice": `{"sub":"anna","scopes":[],"exp":${soon()},"exp":${soon()}}`,
  "sub twice": '{"sub":"anna","sub":"berta","scopes":[]}',
  "scopes twice": '{"sub":"anna","scopes":[],"scopes":["gpu-read"]}',
  "an unknown claim twice": '{"sub":"anna","scopes":[],"x":1,"x":2}',
  "aud text": { ...user, aud: "zeusd" },
  "aud list": { ...user, aud: ["a", "b"] },
  "aud empty": { ...user, aud: "" },
  "aud an empty list": { ...user, aud: [] },
  "aud null": { ...user, aud: null },
  "aud number": { ...user, aud: 1 },
  "aud object": { ...user, aud: {} },
  "nbf ahead": { ...user, nbf: soon() },
  "nbf text": { ...user, nbf: "x" },
  iss: { ...user, iss: "x" },
  "iss number": { ...user, iss: 1 },
  iat: { ...user, iat: now - 100 },
  "iat ahead": { ...user, iat: soon() },
  "iat float": { ...user, iat: now + 0.5 },
  "iat text": { ...user, iat: "x" },
  "iat null": { ...user, iat: null },
  jti: { ...user, jti: "0123456789abcdef" },
  "jti number": { ...user, jti: 1 },
  "iat and jti and an exp": { ...user, exp: soon(), iat: now, jti: "0123456789abcdef" },
  "unknown claims": { ...user, x: { y: [1] } },
  "an unknown scope": { ...user, scopes: ["gpu-read", "gpu-own"] },
  "a scope of one operation": { ...user, scopes: ["gpu-read", "set_power_limit"] },
  "a scope in upper case": { ...user, scopes: ["GPU-READ"] },
  "a scope that is no text": { ...user, scopes: [1] },
  "scopes null": { ...user, scopes: null },
  "scopes text": { ...user, scopes: "gpu-read" },
  "no scopes key": { sub: "anna" },
  "no sub": { scopes: [] },
  "sub number": { ...user, sub: 1 },
  "sub null": { ...user, sub: null },
  "claims in another order": `{"exp":${soon()},"scopes":["cpu-read"],"sub":"anna"}`,
  "claims that are a list": '["anna",["gpu-read"]]',
  "claims that are null": "null",
  "claims that are no JSON": "{",
  "claims that are empty": "",
  "claims with blanks": ' { "sub" : "anna" , "scopes" : [ ] } ',
  "claims with a tail": '{"sub":"anna","scopes":[]}x',
};
const heads: Readonly<Record<string, unknown>> = {
  "alg none": { typ: "JWT", alg: "none" },
  "alg RS256": { typ: "JWT", alg: "RS256" },
  "alg HS384": { typ: "JWT", alg: "HS384" },
  "alg unknown": { typ: "JWT", alg: "x" },
  "alg in lower case": { alg: "hs256" },
  "no alg": { typ: "JWT" },
  "alg null": { alg: null },
  "no typ": { alg: "HS256" },
  "another typ": { typ: "x", alg: "HS256" },
  "typ number": { typ: 1, alg: "HS256" },
  kid: { ...header, kid: "x" },
  crit: { ...header, crit: ["x"] },
  "crit known": { ...header, crit: ["b64"], b64: true },
  "b64 false": { ...header, b64: false, crit: ["b64"] },
  "an unknown header": { ...header, x: 1 },
  jku: { ...header, jku: "http://x/" },
  "a header that is no JSON": "{",
  "a header that is a list": "[]",
  "a header with alg twice": '{"alg":"none","alg":"HS256"}',
};
/** Tokens as text. */
const texts: Readonly<Record<string, string>> = {
  "an empty token": "",
  "one part": "x",
  "two parts": `${head}.${claims}`,
  "four parts": `${full}.x`,
  "only dots": "..",
  "three dots": "...",
  "no signature": `${head}.${claims}.`,
  "no claims": `${head}..${signature}`,
  "no header": `.${claims}.${signature}`,
  "alg none without a signature": `${base64url({ alg: "none" })}.${claims}.`,
  "a wrong signature": `${head}.${claims}.${base64url("x".repeat(32))}`,
  "a short signature": `${head}.${claims}.${signature.slice(0, 20)}`,
  "a signature with padding": `${full}=`,
  "claims with padding": signParts(head, `${base64url("{}  ")}==`),
  "a header with padding": signParts(`${base64url("{} ")}=`, claims),
  "a signature in base64": full.replace(/[^.]+$/, Buffer.from(signature, "base64url").toString("base64")),
  "a signature with a bad letter": `${head}.${claims}.!${signature.slice(1)}`,
  "claims with a bad letter": signParts(head, `!${claims.slice(1)}`),
  "a header with a bad letter": signParts(`!${head.slice(1)}`, claims),
  "claims of a bad length": signParts(head, claims.slice(0, claims.length - (claims.length % 4) + 1)),
  "claims with loose last bits": signParts(head, `${base64url("{}")}`.replace(/.$/, "R")),
  "claims that are no UTF-8": signParts(head, Buffer.from([0x22, 0xff, 0x22]).toString("base64url")),
  "another key": sign(user, { by: Buffer.from("another key") }),
  "the key without its line end": sign(user, { by: key.subarray(0, -1) }),
  "another hash": sign(user, { hash: "sha512" }),
  "a blank before": ` ${full}`,
  "a blank after": `${full} `,
  "a blank within": `${head}. ${claims}.${signature}`,
  quotes: `"${full}"`,
};
const schemes: Readonly<Record<string, string>> = {
  "lower case": `bearer ${full}`,
  "upper case": `BEARER ${full}`,
  "a tab": `Bearer\t${full}`,
  "two blanks": `Bearer  ${full}`,
  "no blank": `Bearer${full}`,
  "no token": "Bearer",
  "a blank only": "Bearer ",
  Basic: "Basic YTpi",
  "the token only": full,
  "two tokens": `Bearer ${full}, Bearer ${full}`,
  parameters: `Bearer ${full}; a=b`,
  "another script": "Bearer \u{e9}",
};

const open = words("/discover /time /discover/ /time/ /%74ime /%64iscover /discover?x /time?x /Time");
const closed = words(`
  /x / /gpu /gpu/ /gpu/x /gpu/set_x /gpu/reset_x /cpu /cpu/x /healthz /policy/explain /policy/x
  /auth /auth/ /auth/x /auth/whoami /auth/whoami/ /gpu/get_power
  /gpu/stream_power /cpu/get_power /gpu/get_power_limit?x=1 /auth/whoami?x=1 /AUTH/whoami /GPU/get_power /gpu/SET_x //gpu/x`);
const scoped = { "gpu-read": ["gpu-read"], "gpu-control": ["gpu-control"], "cpu-read": ["cpu-read"], no: [] };

const guarded = [...open, ...closed].flatMap((path) => [
  get(path),
  get(path, { headers: bearer("x") }),
  ...Object.entries(scoped).map(([scope, scopes]) =>
    get(path, { name: `GET ${path} with ${scope} scope`, headers: bearer(sign({ sub: "anna", scopes })), events: 1 }),
  ),
]);
const writes = Object.entries(scoped).flatMap(([scope, scopes]) =>
  words("/gpu/set_power_limit /gpu/reset_x /gpu/%73et_power_limit /%67pu/set_power_limit /gpu/0/set_power_limit").map(
    (path) =>
      post(limit(path), { name: `POST ${path} with ${scope} scope`, headers: bearer(sign({ sub: "anna", scopes })) }),
  ),
);

export const tokenRequests: readonly Exchange[] = [
  ...Object.entries(odd).map(([name, value]) => whoami(`claims: ${name}`, sign(value))),
  ...Object.entries(heads).map(([name, value]) => whoami(`head: ${name}`, sign(user, { head: value }))),
  ...Object.entries(texts).map(([name, token]) => whoami(`token: ${name}`, token)),
  ...Object.entries(schemes).map(([name, value]) =>
    get("/auth/whoami", { name: `scheme: ${name}`, headers: [`Authorization: ${value}`] }),
  ),
  get("/auth/whoami", { name: "two headers", headers: [...bearer(full), ...bearer("x")] }),
  get("/auth/whoami", { name: "two headers, the first wrong", headers: [...bearer("x"), ...bearer(full)] }),
  raw("header name in lower case", `GET /auth/whoami HTTP/1.1\r\nauthorization: Bearer ${full}\r\n\r\n`),
  get(`/auth/whoami?access_token=${full}`, { name: "a token in the query" }),
  post("/auth/whoami", { name: "POST /auth/whoami", headers: bearer(full) }),
  get("/gpu/get_power?gpu_ids=", { name: "a bad query", headers: bearer(full) }),
];

/** Who may do what, with which scope. */
export const guardRequests: readonly Exchange[] = [
  ...guarded,
  ...writes,
  ...["set_power_limit", "set_persistence_mode"].map((scope) =>
    post(limit("/gpu/set_power_limit"), {
      name: `POST /gpu/set_power_limit with ${scope} scope`,
      headers: bearer(sign({ sub: "anna", scopes: [scope] })),
    }),
  ),
];

/** Some groups are off; the rest goes on. */
export const groupRequests: readonly Exchange[] = [
  ...[...open, ...closed].map((path) => ({ ...get(path), events: 1 })),
  ...words("/gpu/set_power_limit /gpu/reset_x /gpu/%73et_power_limit /%67pu/set_power_limit").map((path) =>
    post(limit(path)),
  ),
  ...words("/%63pu/get_power /gpu/%67et_power /%67pu/get_power").map((path) => get(path)),
];
