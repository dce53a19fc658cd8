// What `zeusd run` starts: it ties itself to the life of `zeusd run`, then becomes the program. Node cannot do the first for a child.
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import { become, endWithParent } from "./native/exec.ts";

/** As env(1), timeout(1) and shells have them. */
const exitCodes = { notFound: 127, notExecutable: 126, signal: 128 } as const;

const [parent, ...words] = process.argv.slice(2);
// Nobody would put back what the lease has changed at the end of a program that is started now.
if (!endWithParent(Number(parent))) process.exit(exitCodes.signal + constants.signals.SIGTERM);
const errno = become(words);
const [, reason] = getSystemErrorMap().get(-errno) ?? ["", `error ${errno}`];
process.stderr.write(`zeusd run: cannot run '${words[0]}': ${reason}\n`);
process.exitCode = errno === constants.errno.ENOENT ? exitCodes.notFound : exitCodes.notExecutable;
