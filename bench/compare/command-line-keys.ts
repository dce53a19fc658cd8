// Signing keys, and tokens that are issued.
import type { CommandCase } from "./command-line.ts";
import { get, words } from "./requests.ts";
import { key } from "./tokens.ts";

const serve = ["serve", "--socket-path", "s"];

const issue = (expires: string, more: readonly string[] = []): readonly string[] => [
  ...["token", "issue", "--signing-key-path", "key", "--user", "anna", `--expires=${expires}`],
  ...more,
];
const durations = [
  ...words(
    "never NEVER Never 0 0s 1h 1H 1M 1h30m 1.5h 2days 1ns 60nsec 60nanos 60000000us 60000000µs 60000000usec 30000ms",
  ),
  ...words(
    "30000msec 30000millis 30s 30sec 30secs 30second 30seconds 1m 1min 1mins 1minute 1minutes 1hr 1hrs 1hour 1hours",
  ),
  ...words(
    "1d 1day 1w 1wk 1wks 1week 1weeks 1month 1months 1y 1yr 1yrs 1year 1years 0.5d 1h1h 30m1h 01h 00 0.0h 1.h .5h",
  ),
  ...words("1 -1h +1h 1x 1hx h 1h,30m 1h+30m 1,5h 1e3s ٣h 1h- -- 1M1 nevery 0h 00s 1µ 1.5.5h 1..5h 1_0h 0x1h 1Y 1h30"),
  ...[
    "",
    " ",
    " 1h ",
    " never ",
    "2 days",
    "1 h 30 m",
    "1h  30m",
    "1h\t30m",
    "1\u{a0}h",
    "1h\n",
    "5 seconds ago",
    "1 .5h",
  ],
];

export const keyCases: readonly CommandCase[] = [
  {
    name: "a key",
    args: [...serve, "--signing-key-path", "key"],
    files: { key: String(key) },
    asks: get("/auth/whoami"),
  },
  {
    name: "no key",
    args: [...serve, "--signing-key-path", "key"],
    says: /Failed to read signing key from 'key': No such file or directory \(os error 2\)/,
  },
  {
    name: "an empty key",
    args: [...serve, "--signing-key-path", "key"],
    files: { key: "" },
    says: /Signing key file 'key' is empty/,
  },
  { name: "a short key", args: [...serve, "--signing-key-path", "key"], files: { key: "short" } },
  {
    name: "a directory for a key",
    args: [...serve, "--signing-key-path", "key"],
    files: { key: "directory" },
    says: /Failed to read signing key from 'key': Is a directory \(os error 21\)/,
  },
  {
    name: "a key of someone else",
    args: [...serve, "--enable=gpu-read", "--signing-key-path", "key"],
    files: { key: `mode 600 ${key}` },
    uid: 65534,
    says: /Failed to read signing key from 'key': Permission denied \(os error 13\)/,
  },
  ...durations.map((text) => ({
    name: `token for ${JSON.stringify(text)}`,
    args: issue(text),
    files: { key: String(key) },
    says: /^ey|Invalid duration '[^]*'\. Use e\.g\. '1h', '7d', '30d', or 'never'\./,
  })),
  ...[
    ["--scope=gpu-read"],
    ["--scope", "cpu-read,gpu-read,cpu-read"],
    ["--scope=gpu-read", "--scope=gpu-control"],
    ["--user="],
  ].map((more) => ({
    args: issue("never", more).filter((word) => !(more[0] === "--user=" && /^(--user|anna)$/.test(word))),
    files: { key: String(key) },
  })),
  {
    name: "an odd user",
    args: [
      ...["token", "issue", "--signing-key-path", "key", "--expires", "never"],
      '--user=a"b\\c\u{e9}\u{1f600}\u{7f}\n/',
    ],
    files: { key: String(key) },
  },
  { name: "token, no key", args: issue("1h"), says: /Failed to read signing key from 'key'/ },
  { name: "token, no key and no duration", args: issue("x") },
  { name: "token, an empty key", args: issue("1h"), files: { key: "" }, says: /Signing key file 'key' is empty/ },
  { name: "token, a short key", args: issue("never"), files: { key: "short" } },
  { name: "a token for ever so long", args: issue("99999999999999999y"), files: { key: String(key) } },
  { name: "a token for 2000 years", args: issue("2000y"), files: { key: String(key) } },
];
