// The differences of the command line, of files, signals and what is found at the start, that are meant.
import type { Intended } from "./difference.ts";

export const commandLine: readonly Intended[] = [
  {
    name: /^(token )?help nothing$/,
    ours: /^exit 2 /,
    only: ["stderr"],
    reason: "the parser prints the help instead of an error",
  },
  {
    name: /^(-hV|serve --nothing --help)$/,
    reason: "of two flags that end the program the parser takes another one first",
  },
  {
    name: /--socket-permissions=(10666|\+600)$/,
    ours: /^exit 1 /,
    reason: "a mode that is none is refused instead of cut off",
  },
  {
    name: /--socket-permissions=7777$/,
    only: ["during"],
    reason: "without an owner to set the owner is not set, which would clear the upper bits",
  },
  {
    name: /--tcp-bind-address (127\.0\.0\.1:\+1|\[127\.0\.0\.1\]:0)$/,
    reason: "a port has no sign, and brackets around an address do no harm",
  },
  {
    name: /ended by SIGHUP/,
    reason: "SIGHUP is about reading files again, and no reason to end",
  },
  {
    name: "ended by SIGUSR1",
    reason: "Node would open a debugger's port, so the signal is ignored",
  },
  {
    name: 'token for "1 .5h"',
    ours: /^exit 1 /,
    reason: "a number has a digit before its point",
  },
  {
    name: "ended by SIGTERM during a write",
    ours: /^exit 0 .*\| 200 /,
    only: ["replies"],
    sometimes: true,
    reason: "a request in flight is answered; the original sometimes drops it (13.2 #3)",
  },
  {
    name: "ended by SIGTERM during a stream",
    ours: /^exit 0 .*\| 200 +\| false/,
    sometimes: true,
    reason: "streams end at once; the original sometimes waits for 30 s (13.2 #3)",
  },
  {
    suite: /^command line 0\.5/,
    name: /^(no words|the plain form)$/,
    original: /^exit 2 /,
    ours: /^exit 0 /,
    reason: "without a subcommand it serves, as 0.1 to 0.3 did",
  },
  {
    name: /^(the path is a stale socket|after \w+ ended by SIGKILL)$/,
    original: /^exit 1 /,
    ours: /^exit 0 /,
    reason: "a socket that nobody listens on is removed, as after 0.5.0",
  },
  {
    name: "not root, another owner",
    only: ["after"],
    reason: "a socket that cannot be given away is removed again (13.2 #10)",
  },
  {
    suite: /^command line 0\.[12]/,
    name: "--socket-path a/s",
    ours: /^exit 0 \| a\/s /,
    reason: "missing directories are created, as from 0.5.0 on",
  },
  {
    name: /a short key$/,
    ours: /^exit 1 /,
    reason: "a key that can be guessed needs --allow-short-signing-key",
  },
  {
    name: /--num-workers 0$/,
    original: /^exit 101 /,
    ours: /^exit 2 /,
    reason: "no threads at all is a usage error, and leaves no socket behind (13.2 #22)",
  },
  {
    original: /\| nothing \| eyJ/,
    ours: /\| how to revoke it \| eyJ/,
    only: ["stderr"],
    reason: "whoever issues a token is told how to revoke it, on stderr; on stdout is the token alone",
  },
  {
    name: "a token for 2000 years",
    ours: /^exit 1 /,
    reason: "a token that long is a mistake; there is never for it (13.2 #22)",
  },
  {
    name: /^(no driver|no count|one GPU without a \w+|0\.1\.0 no driver library)$/,
    original: /^exit 1 /,
    ours: /^exit 0 \| s /,
    reason: "the daemon starts with what works, and looks for the rest again (13.2 #16)",
  },
  {
    name: /^(a gap between CPUs|a zone psys|a zone without files|a broken sub-zone|an mmio zone)$/,
    ours: /^exit 0 \| s .*"cpus":\[{"id":0/,
    reason: "zones that are no package, or broken, are passed over (13.2 #15)",
  },
];
