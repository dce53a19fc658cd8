// Asks a daemon one thing, over its Unix socket.
import { request } from "node:http";

export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** How long a daemon may take, in ms. */
const patienceMs = 10_000;

/** Rejects with the system's error if nobody answers. */
export function ask(socketPath: string, target: string, token?: string): Promise<Answer> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path: target, headers, agent: false, timeout: patienceMs }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (part: string) => (body += part));
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body }));
      response.once("error", reject);
    });
    sent.once("timeout", () => sent.destroy(new Error(`no answer within ${patienceMs / 1000} s`)));
    sent.once("error", reject).end();
  });
}
