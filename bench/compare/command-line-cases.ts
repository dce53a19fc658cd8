// Words, files and signals for both programs.
import type { CommandCase } from "./command-line.ts";
import { keyCases } from "./command-line-keys.ts";
import { startCases } from "./command-line-start.ts";

const plain = ["--socket-path", "s"];
const long = "x".repeat(120);
const split = (line: string): readonly string[] => line.split(" ").map((word) => (word === "''" ? "" : word));

/** Both say something and end. */
const talk = `
--version|-V|--help|-h|serve --help|serve -h|token --help|token issue --help|token issue -h|help|help serve|help token
help token issue|token help|token help issue|token|token issue|help nothing|token help nothing|nothing|serve nothing
--nothing|serve --nothing|serve -x|serve -- x|serve --version|serve -V|token --version|--version serve|-hV
serve --mode|serve --mode x|serve --mode UDS|serve --mode named-pipe|serve --mode=|serve --mode uds --mode uds|serve --mod uds
serve --socket-path|serve --socket-path s --socket-path s|serve --socket-path -s|serve --socket-uid x|serve --socket-uid -1
serve --socket-uid=-1|serve --socket-uid 4294967296|serve --socket-uid ''|serve --socket-gid 1.5|serve --socket-gid=
serve --num-workers x|serve --num-workers -1|serve --num-workers=-1|serve --num-workers 1.5|serve --num-workers
serve --gpu-power-poll-hz x|serve --gpu-power-poll-hz 4294967296|serve --cpu-power-poll-hz -1|serve --cpu-power-poll-hz 1.5
serve --enable|serve --enable=|serve --enable ''|serve --enable x|serve --enable gpu-read,|serve --enable gpu-read,x
serve --enable GPU-READ|serve --enable gpu-read, cpu-read|serve --enable ,gpu-read|serve --allow-unprivileged
serve --signing-key-path|serve --tcp-bind-address|serve --help --nothing|serve --nothing --help|-v|-x|serve --mode=uds=x
serve --socket-permissions|serve --gpu-power-poll-hz 0x10|serve --gpu-power-poll-hz +|serve --socket-uid 1_0|Serve|SERVE
token issue --user anna|token issue --signing-key-path key --user anna|token issue --signing-key-path key --expires 1h
token issue --signing-key-path key --user anna --expires 1h --scope x|token issue --signing-key-path key --user anna --expires
token issue --signing-key-path key --user anna --expires 1h --scope|token issue --signing-key-path key --user anna --expires 1h x
token issue --signing-key-path key --user anna --expires 1h --user anna|token nothing|token issue nothing|serve token`;

const older = ["0.2.0", "0.1.0"] as const;
const olderTalk =
  "--version|-V|--help|-h|--nothing|nothing|--mode x|--mode=TCP|--num-workers x|--socket-uid -1|--tcp-bind-address|-x|--mode uds --mode uds";

export const commandCases: readonly CommandCase[] = [
  ...talk
    .trim()
    .split(/[|\n]/)
    .map((line) => ({ args: split(line) })),
  ...startCases,
  ...keyCases,
  ...older.flatMap((version): readonly CommandCase[] => [
    ...olderTalk.split("|").map((line) => ({ version, args: split(line) })),
    { name: "no words", version, args: [], mounts: "run" },
    { version, args: plain },
    {
      version,
      args: [...plain, "--socket-permissions=600", "--socket-uid", "1", "--socket-gid=2", "--num-workers", "2"],
    },
    { version, args: [...plain, "--socket-permissions=8"], says: /Failed to parse socket permissions/ },
    { version, args: ["--mode", "tcp", "--tcp-bind-address", "127.0.0.1:0"] },
    { version, args: ["--mode=tcp", "--tcp-bind-address=127.0.0.1:PORT"], says: /Address already in use/ },
    { version, args: ["--socket-path", "a/s"] },
    { version, args: ["--socket-path", long], says: /path must be shorter than SUN_LEN/ },
    { name: "the path is a file", version, args: plain, files: { s: "text" } },
    { name: "the path is a stale socket", version, args: plain, files: { s: "stale" } },
    ...(["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"] as const).map((end) => ({
      name: `ended by ${end}`,
      version,
      args: plain,
      end,
    })),
  ]),
];
