// The JSON wire of 0.1.0 and 0.2.0.
import type { Exchange } from "./exchange.ts";
import { get, post, postJson, raw, request, words } from "./requests.ts";

const limit = (value: string, block = "true"): string => `{"power_limit_mw":${value},"block":${block}}`;
const ok = limit("200000");
const to = "/gpu/0/set_power_limit";

const ids = words(`
  0 1 01 +1 %31 %2B1 abc -1 1.0 18446744073709551615 18446744073709551616 99999999999999999999999 2 9 %20 %201 1%20 %22 %5C
  %FF %C3%A9 0x1 1e0 %00 a%20b a%2Fb %D9%A1 - + %2B %2B%2B1 1; null [0] 0,1 GPU-0 9007199254740993 %F0%9F%98%80 a'b a%0Ab .. .`);

/** What stands where a number should. */
const numbers = [
  ...words(`-1 "200000" 1.5 200000.0 2e5 2E5 1e400 -1e400 4294967295 4294967296 18446744073709551615 18446744073709551616
  -9223372036854775808 -9223372036854775809 99999999999999999999999 null true false [] {} [1] {"a":1} -0 -0.0 0 00 0200000
  +1 .5 5. 0x10 NaN Infinity -Infinity 1e5 1e-5 100000e0 1.0e5 "" "a\\"b" "\\u00e9" '1' 1_0 1e22 1e16 123456789012345680.5
  1e21 0.1 1e-7 -1.5 -1e2 5e-324 1.7976931348623157e308 "200000 nul tru truex nullx 1x 1-1 1.e1 1e 1e+ - undefined`),
  '"a b"',
  '"\u{e9}"',
  '"\\ud800"',
  '"\\x"',
  '"a\nb"',
  '"long text of more than thirty-two characters, to see whether it is shortened"',
];
const booleans = words(`1 0 "true" null True TRUE [] {} 1.0 -1 tru truex "" yes [true] 1.5 "a\\u0000b"`);

const bodies = [
  ...["", " ", "\n", "{", "}", "[", "]", "{}", "[]", "null", "true", "1", "1.5", '"x"', '"', "{{", "[[", ",", ":", "x"],
  ...['{"power_limit_mw"', '{"power_limit_mw":', '{"power_limit_mw":2', '{"power_limit_mw":200000', "{,}", "[,]", "-"],
  ...['{"power_limit_mw":200000,', '{"power_limit_mw":200000,}', `${ok},`, `${ok} `, `${ok}\n`, `${ok}x`, `${ok}${ok}`],
  ...[
    `\u{feff}${ok}`,
    `\u{a0}${ok}`,
    `\u{b}${ok}`,
    `\t\r\n ${ok}`,
    `/**/${ok}`,
    `'${ok}'`,
    "[200000,true]",
    "[200000]",
  ],
  ...[
    "[200000,true,1]",
    "[200000,true,]",
    "[true,200000]",
    "[200000 ,\n true ]",
    "[]x",
    "[200000,true]x",
    '["200000",true]',
  ],
  ...['{"power_limit_mw":200000}', '{"block":true}', '{"power_limit_mw":200000,"block":true,"x":1}'],
  ...['{"x":{"power_limit_mw":[1,{"y":2}]},"power_limit_mw":200000,"block":true}', '{"x":[[[[]]]],"block":true}'],
  ...[
    '{"power_limit_mw":1,"power_limit_mw":200000,"block":true}',
    '{"block":true,"block":true,"power_limit_mw":200000}',
  ],
  ...['{"x":1,"x":2,"power_limit_mw":200000,"block":true}', '{"power_limit_mw":x,"power_limit_mw":1}'],
  ...[
    '{"power_limit\\u005fmw":200000,"block":true}',
    '{"Power_Limit_Mw":200000,"block":true}',
    "{1:2}",
    "{x:1}",
    '{"x"}',
  ],
  ...['{"x" 1}', '{"x":1 "y":2}', '{"x":1;"y":2}', "{'x':1}", '{"":1}', '{"x":1,"block":true,"power_limit_mw":200000}'],
  ...['{"power_limit_mw":"a","block":1}', '{"block":1,"power_limit_mw":"a"}', '{"power_limit_mw":"a","x":}', '{"x":"'],
  ...[
    '{"x":1,"y":"\\q","power_limit_mw":200000,"block":true}',
    '{"x":tru,"block":true}',
    '{"x":"\t"}',
    '{"x":01}',
    "[1,2",
  ],
  ...[`${"[".repeat(120)}${"]".repeat(120)}`, `${"[".repeat(130)}`, `{"x":${"[".repeat(200)}${"]".repeat(200)}}`],
  ...['{"__proto__":1,"power_limit_mw":200000,"block":true}', '{"constructor":1,"power_limit_mw":200000,"block":true}'],
  ...[
    '{"power_limit_mw":200000,"block":true,"power_limit_mw":"x"}',
    '{"a":1}]',
    '{"a":[1,2}',
    '{"a":[1 2]}',
    '["a":1]',
  ],
];

const types = [
  ...[
    "text/json",
    "application/x+json",
    "application/json; charset=utf-8",
    "APPLICATION/JSON",
    "application/json;",
    "json",
  ],
  ...[
    "text/plain",
    "application/xml",
    "application/jsonx",
    "application/x-json",
    "application/x-www-form-urlencoded",
    "*/*",
  ],
  ...[
    "application/json,text/plain",
    "application / json",
    " application/json ",
    "application/json; charset=latin1",
    "/json",
  ],
  ...[
    "application/json; charset",
    'application/json;charset="utf-8"',
    "application/problem+json",
    "application/",
    "x/+json",
  ],
  ...[
    "application/json+x",
    "application/vnd.a.b+json; a=b",
    "application/ json",
    "application/json ;a=b",
    "multipart/json",
  ],
  ...[
    "application/json; =",
    "application/json; a=b; c",
    "application/json;;",
    "application/json charset=utf-8",
    "a/json/b",
  ],
];

const rows = words(`
  set_gpu_locked_clocks|{"min_clock_mhz":210,"max_clock_mhz":1410,"block":true} set_gpu_locked_clocks|[210,1410,true]
  set_gpu_locked_clocks|{"min_clock_mhz":210,"max_clock_mhz":1410,"block":false} set_gpu_locked_clocks|[210,1410]
  set_gpu_locked_clocks|{"min_clock_mhz":0,"max_clock_mhz":0,"block":true} set_gpu_locked_clocks|{"block":true}
  set_gpu_locked_clocks|{"min_clock_mhz":1410,"max_clock_mhz":210,"block":true} set_gpu_locked_clocks|{"min_clock_mhz":210}
  set_gpu_locked_clocks|{"max_clock_mhz":"x","min_clock_mhz":1} set_gpu_locked_clocks|null set_mem_locked_clocks|null
  set_mem_locked_clocks|{"min_clock_mhz":2619,"max_clock_mhz":2619,"block":true} set_mem_locked_clocks|[1,2,3]
  set_mem_locked_clocks|{"min_clock_mhz":0,"max_clock_mhz":1,"block":true} reset_gpu_locked_clocks|{"block":true}
  reset_gpu_locked_clocks|{"block":false} reset_gpu_locked_clocks|{} reset_gpu_locked_clocks|[true] reset_gpu_locked_clocks|[]
  reset_gpu_locked_clocks|null reset_gpu_locked_clocks|{"block":1} reset_mem_locked_clocks|{"block":true}
  reset_mem_locked_clocks|[false] reset_mem_locked_clocks|null reset_gpu_locked_clocks|[true,1] reset_mem_locked_clocks|1`);
const persistence = words(
  '{"enabled":true,"block":true} {"enabled":false,"block":true} [true,true] [true] null {"block":true} {"enabled":1}',
);

const paths = words(`
  / /gpu /gpu/0 /gpu/0/ /gpu/0/set_power_limit/ /gpu//set_power_limit //gpu/0/set_power_limit /gpu/0/set_Power_limit
  /gpu/0/0/set_power_limit /gpu/0/nothing /GPU/0/set_power_limit /gpu/0/set%5Fpower_limit /%67pu/0/set_power_limit
  /gpu/0/set_power_limit?x=1 /gpu/1/../0/set_power_limit /gpu/0%2Fset_power_limit /gpu/0/set_power_limit%20`);

export const jsonRequests: readonly Exchange[] = [
  ...ids.flatMap((id) => [
    postJson(`/gpu/${id}/set_power_limit`, ok),
    postJson(`/gpu/${id}/set_power_limit`, limit("200000", "false")),
  ]),
  ...numbers.map((value) => postJson(to, limit(value))),
  ...numbers.map((value) => postJson("/gpu/0/set_gpu_locked_clocks", `[210,${value},true]`)),
  ...booleans.flatMap((value) => [postJson(to, limit("200000", value)), postJson(to, limit("5", value))]),
  ...bodies.map((body) => postJson(to, body)),
  ...rows.map((row) => postJson(`/gpu/1/${row.split("|")[0]}`, row.split("|")[1] ?? "")),
  ...types.map((type) => postJson(to, ok, { headers: [`Content-Type: ${type}`] })),
  ...paths.flatMap((path) => [postJson(path, ok), get(path)]),
  ...words("GET PUT DELETE HEAD OPTIONS PATCH").map((method) => request(method, to)),
  postJson(to, ok, { headers: [] }),
  postJson("/gpu/9/set_power_limit", "{"),
  postJson("/gpu/9/set_power_limit", ok, { headers: [] }),
  postJson("/gpu/abc/set_power_limit", "{"),
  postJson(to, limit("5")),
  postJson(to, limit("5", "false")),
  postJson(to, Buffer.from('{"power_limit_mw":200000,"block":true,"x":"\xff"}', "latin1")),
  postJson(to, Buffer.from('{"power_limit_mw":"\xff","block":true}', "latin1")),
  post(to),
  post(to, { headers: ["Content-Type: application/json"] }),
  request("POST", to, { headers: ["Content-Type: application/json"] }),
  raw("no content length", `POST ${to} HTTP/1.1\r\nContent-Type: application/json\r\n\r\n${ok}`),
  raw(
    "two content types",
    `POST ${to} HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Type: application/json\r\nContent-Length: 38\r\n\r\n${ok}`,
  ),
];

/** 0.1.0 calls it otherwise than 0.2.0, and has no CPUs. */
export const persistentRequests: readonly Exchange[] = persistence.map((body) =>
  postJson("/gpu/0/set_persistent_mode", body),
);

const energies = [
  ...words(`{"cpu":true,"dram":true} {"cpu":false,"dram":true} {"cpu":true,"dram":false} {"cpu":false,"dram":false} [true,true]
  {"cpu":true} {"dram":true} {} null {"cpu":1,"dram":true} {"cpu":true,"dram":true,"block":true} [true] [true,true,true] 1
  {"cpu":true,"cpu":true,"dram":true}`),
];

export const secondRequests: readonly Exchange[] = [
  ...persistence.map((body) => postJson("/gpu/0/set_persistence_mode", body)),
  postJson("/gpu/0/set_persistent_mode", persistence[0] ?? ""),
  ...energies.flatMap((body) => [postJson("/cpu/0/get_index_energy", body), postJson("/cpu/1/get_index_energy", body)]),
  ...["2", "abc", "-1", "01", "%31"].map((id) => postJson(`/cpu/${id}/get_index_energy`, '{"cpu":true,"dram":true}')),
  ...["0", "1", "2", "abc", "01", "+1", "-1", "18446744073709551616"].map((id) =>
    get(`/cpu/${id}/supports_dram_energy`),
  ),
  get("/cpu/0/supports_dram_energy?x=1"),
  get("/cpu/0/supports_dram_energy/"),
  post("/cpu/0/supports_dram_energy"),
  get("/cpu/0/get_index_energy"),
  postJson("/cpu/0/set_power_limit", ok),
  postJson("/gpu/0/get_index_energy", '{"cpu":true,"dram":true}'),
];
