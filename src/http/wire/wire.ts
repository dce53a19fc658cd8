// A wire: one generation of the HTTP shape. Each turns a request into a Command, and its outcome into a reply.
import { ZeusdError, type CommandFailed } from "../../contract/errors.ts";
import type { Command, Results } from "../../contract/command.ts";
import type { Row } from "../../contract/operations.ts";
import type { Headers, Reply, Request } from "../message.ts";

export interface Wire {
  /** `segment` is the device id in the path, where the wire has it there. Throws `bad_request` and the like. */
  decode(row: Row, request: Request, segment: string): Command | Promise<Command>;
  reply(command: Command, results: Results): Reply;
  /** The reply to what was refused or failed; `row` is absent where the path reached none. */
  refuse(error: ZeusdError | CommandFailed, row?: Row): Reply;
}

/** Parameters that ask for less than a whole write. A wire that does not know them must refuse them, not ignore them. */
export const cautions = ["lease_id", "dry_run", "atomic"] as const;

/** The headers that a refusal carries by its code. */
export function refusalHeaders(error: ZeusdError): Headers {
  if (error.code === "unauthenticated") return { "www-authenticate": 'Bearer realm="zeusd"' };
  return error.retryAfterS === undefined ? {} : { "retry-after": String(error.retryAfterS) };
}
