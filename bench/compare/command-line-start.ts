// How the daemon starts and ends: sockets, addresses, users, devices, signals.
import type { CommandCase } from "./command-line.ts";
import { get, post, words } from "./requests.ts";
import { key } from "./tokens.ts";

const serve = ["serve", "--socket-path", "s"];
const plain = ["--socket-path", "s"];
const discover = get("/discover");

const permissions = [
  ...words("600 0660 777 000 0 7777 0o660 999 66a 10666 +600 -1 77777777777 177777777777 40000000000"),
  "",
  " 600",
];
const addresses =
  words(`127.0.0.1:0 localhost:0 [::1]:0 127.0.0.1 127.0.0.1: 127.0.0.1:x 127.0.0.1:65536 127.0.0.1:-1 :0 x ::1:0
  127.0.0.1:0:0 [::1] [::1 127.1:0 127.0.0.1:+1 127.0.0.1:00000 127.0.0.1:0/ [127.0.0.1]:0`);

const starts: readonly CommandCase[] = [
  ...permissions.map((mode) => ({
    args: [...serve, `--socket-permissions=${mode}`],
    says: /Listening on|socket permissions/,
  })),
  ...addresses.map((address) => ({ args: ["serve", "--mode", "tcp", "--tcp-bind-address", address] })),
  {
    args: ["serve", "--mode=tcp", "--tcp-bind-address=127.0.0.1:PORT"],
    says: /Address already in use \(os error 98\)/,
  },
  {
    args: ["serve", "--mode", "tcp", "--tcp-bind-address=192.0.2.1:1", "--signing-key-path", "key"],
    files: { key: String(key) },
  },
  { args: [...serve, "--socket-uid", "1", "--socket-gid", "2"] },
  { args: [...serve, "--socket-uid", "+1"] },
  { args: [...serve, "--socket-gid=4294967294"] },
  { args: [...serve, "--num-workers", "2", "--gpu-power-poll-hz", "0", "--cpu-power-poll-hz=1"] },
  { args: [...serve, "--num-workers", "0"] },
  { args: [...serve, "--enable", "gpu-read", "--enable", "gpu-read,cpu-read"], asks: discover },
  { args: ["serve", "--socket-path", "a/b/s"] },
  { args: ["serve", "--socket-path", "x".repeat(120)], says: /path must be shorter than SUN_LEN/ },
  { args: ["serve", "--socket-path", "x".repeat(107)] },
  { args: ["serve", "--socket-path", "x".repeat(108)], says: /path must be shorter than SUN_LEN/ },
  { args: ["serve", "--socket-path", ""] },
  { args: ["serve", "--socket-path", "a/s"], files: { a: "text" } },
  { args: ["serve", "--socket-path", "/proc/x/s"] },
  { name: "the path is a file", args: serve, files: { s: "text" } },
  { name: "the path is a directory", args: serve, files: { s: "directory" } },
  { name: "the path is listened on", args: serve, files: { s: "socket" } },
  { name: "the path is a stale socket", args: serve, files: { s: "stale" } },
  { name: "no /run/zeusd", args: ["serve"], mounts: "run" },
  { name: "no words", args: [], mounts: "run" },
  { name: "the plain form", args: plain },
];

const waiting = { ...post("/gpu/set_power_limit?gpu_ids=0&power_limit_mw=200000&block=true"), patience: 5_000 };
const slow = { NVML_STUB_FAULTS: "nvmlDeviceSetPowerManagementLimit=delay:1500" };
const stream = { ...get("/gpu/stream_power"), events: 1000, patience: 9_000 };
const endings = words(
  "SIGTERM SIGINT SIGQUIT SIGHUP SIGUSR1 SIGUSR2 SIGPIPE SIGALRM SIGKILL SIGABRT",
) as NodeJS.Signals[];

const zone = (id: string, name: string): Record<string, string> => ({
  [`class/powercap/intel-rapl/${id}/name`]: `${name}\n`,
  [`class/powercap/intel-rapl/${id}/energy_uj`]: "1000\n",
  [`class/powercap/intel-rapl/${id}/max_energy_range_uj`]: "262143328850\n",
});

const users: readonly CommandCase[] = [
  {
    name: "not root",
    args: serve,
    uid: 65534,
    says: /API group 'gpu-control' requires root but Zeusd is not running as root/,
  },
  {
    name: "not root, cpu-read first",
    args: [...serve, "--enable=cpu-read,gpu-control"],
    uid: 65534,
    says: /API group 'cpu-read' requires root/,
  },
  { name: "not root, gpu-read only", args: [...serve, "--enable=gpu-read"], uid: 65534 },
  {
    name: "not root, another owner",
    args: [...serve, "--enable=gpu-read", "--socket-uid=0"],
    uid: 65534,
    says: /Operation not permitted \(os error 1\)/,
  },
  {
    name: "not root, a path of root's",
    args: ["serve", "--socket-path", "/etc/s", "--enable=gpu-read"],
    uid: 65534,
    says: /Permission denied \(os error 13\)/,
  },
  { name: "0.2.0 not root", version: "0.2.0", args: plain, uid: 65534, says: /Zeusd must be run as root/ },
  { name: "0.2.0 not root, allowed", version: "0.2.0", args: [...plain, "--allow-unprivileged"], uid: 65534 },
];

const devices: readonly CommandCase[] = [
  { name: "no driver library", args: serve, env: { LD_LIBRARY_PATH: "/nothing" }, asks: discover },
  {
    name: "no driver",
    args: serve,
    env: { NVML_STUB_FAULTS: "nvmlInit_v2=code:9;nvmlInitWithFlags=code:9" },
    asks: discover,
    says: /NVIDIA driver is not loaded/,
  },
  { name: "no count", args: serve, env: { NVML_STUB_FAULTS: "nvmlDeviceGetCount_v2=code:999" }, asks: discover },
  {
    name: "one GPU without a handle",
    args: serve,
    env: { NVML_STUB_FAULTS: "nvmlDeviceGetHandleByIndex_v2@1=code:15" },
    asks: discover,
  },
  {
    name: "one GPU without a name",
    args: serve,
    env: { NVML_STUB_FAULTS: "nvmlDeviceGetName@0=code:999" },
    asks: discover,
  },
  {
    name: "one GPU without energy",
    args: serve,
    env: { NVML_STUB_FAULTS: "nvmlDeviceGetTotalEnergyConsumption@0=code:3" },
    asks: discover,
  },
  { name: "0.1.0 no driver library", version: "0.1.0", args: plain, env: { LD_LIBRARY_PATH: "/nothing" } },
  { name: "0.2.0 no driver library", version: "0.2.0", args: plain, env: { LD_LIBRARY_PATH: "/nothing" } },
  { name: "one CPU", args: serve, mounts: "class", files: zone("intel-rapl:0", "package-0"), asks: discover },
  {
    name: "a gap between CPUs",
    args: serve,
    mounts: "class",
    files: { ...zone("intel-rapl:0", "package-0"), ...zone("intel-rapl:2", "package-2") },
    asks: discover,
  },
  {
    name: "a zone psys",
    args: serve,
    mounts: "class",
    files: { ...zone("intel-rapl:0", "package-0"), ...zone("intel-rapl:1", "psys") },
    asks: discover,
  },
  {
    name: "a zone without files",
    args: serve,
    mounts: "class",
    files: { ...zone("intel-rapl:0", "package-0"), "class/powercap/intel-rapl/intel-rapl:1/x": "" },
    asks: discover,
  },
  {
    name: "a broken sub-zone",
    args: serve,
    mounts: "class",
    files: { ...zone("intel-rapl:0", "package-0"), "class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0/x": "" },
    asks: discover,
  },
  {
    name: "an mmio zone",
    args: serve,
    mounts: "class",
    files: { ...zone("intel-rapl:0", "package-0"), ...zone("intel-rapl-mmio:0", "package-0") },
    asks: discover,
  },
  {
    name: "no zones",
    args: serve,
    mounts: "class",
    files: { "class/powercap/intel-rapl/enabled": "1\n" },
    asks: discover,
  },
  { name: "no powercap", args: serve, mounts: "class", files: { "class/x": "" }, asks: discover },
];

const ends: readonly CommandCase[] = [
  ...endings.map((end) => ({ name: `ended by ${end}`, args: serve, end })),
  ...endings.slice(0, 3).map((end) => ({
    name: `ended by ${end} on TCP`,
    args: ["serve", "--mode=tcp", "--tcp-bind-address=127.0.0.1:0"],
    end,
  })),
  ...endings
    .slice(0, 4)
    .map((end) => ({ name: `ended by ${end} during a write`, args: serve, env: slow, asks: waiting, end })),
  ...endings.slice(0, 3).map((end) => ({ name: `ended by ${end} during a stream`, args: serve, asks: stream, end })),
  ...(["original", "ours"] as const).flatMap((program) =>
    (["SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL", "stay"] as const).map((end) => ({
      name: `after ${program} ended by ${end}`,
      args: serve,
      before: { program, end },
    })),
  ),
];

export const startCases: readonly CommandCase[] = [...starts, ...users, ...devices, ...ends];
