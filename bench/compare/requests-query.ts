// The query wire of 0.5.0: endpoints, decoding and refusals.
import type { Exchange } from "./exchange.ts";
import { get, post, raw, words } from "./requests.ts";

const reads = words("get_power get_cumulative_energy get_power_limit get_power_limit_constraints get_persistence_mode");
const readQueries = words(
  "? ?gpu_ids=0 ?gpu_ids=1,0 ?gpu_ids=2 ?gpu_ids= ?foo=1 ?block=true ?dry_run=true ?gpu_ids=0&gpu_ids=1",
);
const writes = words(`
  set_persistence_mode?enabled=true set_persistence_mode?enabled=false
  set_power_limit?power_limit_mw=200000 set_power_limit?power_limit_mw=5 set_power_limit?power_limit_mw=0
  set_power_limit?power_limit_mw=4294967295
  set_gpu_locked_clocks?min_clock_mhz=210&max_clock_mhz=1410 set_gpu_locked_clocks?min_clock_mhz=0&max_clock_mhz=0
  set_mem_locked_clocks?min_clock_mhz=2619&max_clock_mhz=2619 set_mem_locked_clocks?min_clock_mhz=0&max_clock_mhz=5
  reset_gpu_locked_clocks? reset_mem_locked_clocks?`);

const ids = [
  "",
  ...words("0 1 0,1 1,0,1 0%2C1 00 01 %2B1 +1 %201%20 1+ 0%09,1 %C2%A01 %E2%80%831 %EF%BB%BF1 %C2%851 0%0B %E2%80%8B1"),
  ...words("+ , 0, ,0 0,,1 0,%20 -1 1.0 abc 0;1 0x1 1e0 1_0 %EF%BC%91 0%00 %D9%A1 +-1 --1 %2B %2B%2B1 %2B0%2B"),
  ...words("2 5 0,7,9 9,7 2,1 18446744073709551615 18446744073709551616 99999999999999999999999 4294967296"),
  ...words("9007199254740993 9007199254740993,9007199254740992 000000000000000000000000000001 10,9 1e400"),
  ...words("%FF 0,%FF % %3 %zz all true GPU 0,abc,, abc, ,abc 5,abc abc,5 %22 %5C %E2%82 %C3%28 %F0%9F%98%80 0%0A"),
];
const numbers = [
  "",
  ...words("-1 +200000 %2B200000 0200000 200000.0 2e5 0x10 %20200000 200000%20 abc null 4294967295 4294967296 %2B%2B1"),
  ...words("99999999999999999999 -0 %2B - %2B-1 200_000 %D9%A1 % 200000%00 1e400 %32%30%30%30%30%30 00000000000200000"),
];
const booleans = ["", ...words("1 0 True TRUE yes %20true true%20 tru%65 null false, on +true %22true%22 t")];

/** Query strings of set_power_limit. */
const queries = [
  "",
  ...words(`
  gpu_ids=0 gpu_ids=0&power_limit_mw=200000 power_limit_mw=200000&block=true block=true gpu_ids=0&block=true
  block=true&power_limit_mw=200000&gpu_ids=0 &&gpu_ids=0&&power_limit_mw=200000&block=true&
  gpu_ids=0&power_limit_mw=200000&block=true&x=1 x=1&gpu_ids=0 x = =1&gpu_ids=0 x=1&gpu_ids=0&gpu_ids=1
  gpu_ids=0&gpu_ids=1&x=1 gpu_ids=0&gpu_ids=1&power_limit_mw=200000&block=true block=true&block=true
  gpu_ids=0&power_limit_mw=abc&power_limit_mw=1 gpu_ids=0&power_limit_mw=1&power_limit_mw=abc
  GPU_IDS=0 gpu_id=0 gpu%5Fids=0&power_limit_mw=200000&block=true gpu_ids[]=0 gpu_ids=0;power_limit_mw=1
  gpu_ids=0&power_limit_mw=200000;block=true gpu_ids&power_limit_mw=200000&block=true
  gpu_ids=0&power_limit_mw&block=true gpu_ids=0&power_limit_mw=200000&block gpu_ids=0&power_limit_mw=x&block=y
  gpu_ids=0&block=y&power_limit_mw=x gpu_ids=abc&power_limit_mw=x&block=true gpu_ids=abc&power_limit_mw=1
  gpu_ids=9&power_limit_mw=200000&block=maybe gpu_ids=0?&power_limit_mw=200000&block=true %FF=1 %C3%A9=1 a+b=1
  gpu_ids=0=1&power_limit_mw=200000&block=true gpu_ids==0&power_limit_mw=200000&block=true \`=1 x%60y=1 x%0Ay=1
  gpu_ids=0&power_limit_mw=200000&block=true&enabled=true ?gpu_ids=0&power_limit_mw=200000&block=true
  gpu_ids=0&power_limit_mw=200000&block=true&= %67pu_ids=0&power_limit_mw=200000&block=true
  gpu_ids=0&power_limit_mw=200000&block=true#x gpu_ids=0&power_limit_mw=200000&block=true%23x #gpu_ids=0
  gpu_ids=0&power_limit_mw=200000&block=true&dry_run=true gpu_ids=0&power_limit_mw=200000&block=true&dry_run=false
  gpu_ids=0&power_limit_mw=200000&block=true&dry_run=1 dry_run=true gpu_ids=0&power_limit_mw=200000&block=true&lock=1 __proto__=1 constructor=1 gpu_ids=0&__proto__=1 toString=1
  +gpu_ids=0 gpu_ids+=0 power_limit_mw=1&power_limit_mw=2&gpu_ids=0 gpu_ids=&power_limit_mw=&block=
  gpu_ids=&power_limit_mw=1&block=true&x=1 gpu_ids=%26&power_limit_mw=1&block=true gpu_ids=0%3D1`),
];
const clocks = words(`
  min_clock_mhz=1&max_clock_mhz=2 gpu_ids=0&max_clock_mhz=2&block=true gpu_ids=0&min_clock_mhz=2&block=true
  gpu_ids=0&min_clock_mhz=1410&max_clock_mhz=210&block=true gpu_ids=0&min_clock_mhz=1410&max_clock_mhz=210&block=false
  gpu_ids=9&min_clock_mhz=1410&max_clock_mhz=210&block=true gpu_ids=0&max_clock_mhz=1410&min_clock_mhz=210&block=true
  gpu_ids=0&min_clock_mhz=1&max_clock_mhz=2&block=true&power_limit_mw=1 gpu_ids=0&min_clock_mhz=x&max_clock_mhz=y`);
const short = ["", ...words("gpu_ids=0 block=true gpu_ids=0&block=true&x=1 x=1 enabled=true gpu_ids=0&enabled=true")];

const cpuIds = ["", ...words("0 1 1,0 0,0 0, , abc 2 0,7,9 -1 %2B1 + %201 1.0 18446744073709551616")];
const cpuQueries = [
  "",
  ...words(`? ?cpu=true ?dram=true ?cpu=true&dram=true ?cpu=false&dram=true ?cpu=true&dram=false ?cpu=false&dram=false
  ?cpu=1&dram=true ?cpu=true&dram=true&x=1 ?cpu_ids=0&cpu_ids=1 ?cpu=true&cpu=true ?gpu_ids=0 ?block=true ?cpu=&dram=
  ?cpu_ids=abc&cpu=true ?cpu_ids=0 ?dram=true&cpu=true&cpu_ids=1`),
];

const limit = "/gpu/set_power_limit?gpu_ids=0&power_limit_mw=200000&block=true";
const withBody = (name: string, head: string, body: string): Exchange =>
  raw(`a write with ${name}`, `POST ${limit} HTTP/1.1\r\nHost: localhost\r\n${head}\r\n${body}`);
const write = (path: string, list: string): string =>
  `/gpu/${path.replace("?", `?gpu_ids=${list}&`)}`.replace(/&$/, "");

export const queryRequests: readonly Exchange[] = [
  ...words("/discover /discover?x=1 /time /time?x=%FF /auth/whoami /auth/whoami?x=1 /auth/x /auth").map((to) =>
    get(to),
  ),
  ...reads.flatMap((read) => ["", ...readQueries].map((query) => get(`/gpu/${read}${query}`))),
  ...reads.map((read) => post(`/gpu/${read}`)),
  ...writes.flatMap((path) => ["true", "false"].map((block) => post(`${write(path, "0,1")}&block=${block}`))),
  ...writes.map((path) => get(`${write(path, "0")}&block=true`)),
  ...writes.flatMap((path) => [post(`/gpu/${path}`), post(`/gpu/${path}&x=1`)]),
  ...ids.flatMap((list) => [get(`/gpu/get_power?gpu_ids=${list}`), get(`/gpu/get_power_limit?gpu_ids=${list}`)]),
  ...ids.flatMap((list) =>
    ["true", "false"].map((block) => post(`/gpu/set_power_limit?gpu_ids=${list}&power_limit_mw=200000&block=${block}`)),
  ),
  ...["", "9", "abc", "0,"].map((list) => post(`/gpu/reset_gpu_locked_clocks?gpu_ids=${list}&block=true`)),
  ...numbers.map((value) => post(`/gpu/set_power_limit?gpu_ids=0&power_limit_mw=${value}&block=true`)),
  ...numbers.map((value) =>
    post(`/gpu/set_gpu_locked_clocks?gpu_ids=0&min_clock_mhz=${value}&max_clock_mhz=1410&block=true`),
  ),
  ...booleans.map((value) => post(`/gpu/set_power_limit?gpu_ids=0&power_limit_mw=200000&block=${value}`)),
  ...booleans.map((value) => post(`/gpu/set_persistence_mode?gpu_ids=0&enabled=${value}&block=true`)),
  ...queries.map((query) => post(`/gpu/set_power_limit?${query}`)),
  ...queries.map((query) => get(`/gpu/get_power?${query}`)),
  ...clocks.flatMap((query) => [
    post(`/gpu/set_gpu_locked_clocks?${query}`),
    post(`/gpu/set_mem_locked_clocks?${query}`),
  ]),
  ...short.flatMap((query) => [
    post(`/gpu/reset_mem_locked_clocks?${query}`),
    post(`/gpu/set_persistence_mode?${query}`),
  ]),
  withBody("no content length", "", ""),
  withBody("a JSON body", "Content-Type: application/json\r\nContent-Length: 15\r\n", '{"block":false}'),
  withBody("a chunked body", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
  withBody("a strange content type", "Content-Type: ///\r\nContent-Length: 1\r\n", "x"),
  withBody("a body that never comes", "Content-Length: 5\r\n", "x"),
  withBody("a large body", "Content-Length: 3000000\r\n", "x".repeat(3_000_000)),
  ...cpuQueries.map((query) => get(`/cpu/get_cumulative_energy${query}`)),
  ...cpuIds.map((list) => get(`/cpu/get_cumulative_energy?cpu_ids=${list}&cpu=true&dram=true`)),
  ...cpuIds.map((list) => get(`/cpu/get_power?cpu_ids=${list}`)),
  ...["", "?x=1", "?gpu_ids=0", "?cpu=true"].map((query) => get(`/cpu/get_power${query}`)),
  post("/cpu/get_cumulative_energy?cpu=true&dram=true"),
  post("/cpu/get_power"),
];
