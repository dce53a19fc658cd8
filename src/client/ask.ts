// Asks a daemon one thing, on a connection of its own.
import { request } from "node:http";

/** Where a daemon listens. */
export type Place = { readonly socketPath: string } | { readonly host: string; readonly port: number };

export interface Answer {
  readonly status: number;
  readonly body: string;
}

export interface Question {
  readonly method?: "GET" | "POST";
  readonly target: string;
  readonly token?: string | undefined;
  /** How long the daemon may be silent, in ms. */
  readonly patienceMs?: number | undefined;
}

/** Longer than a daemon with its usual time limit takes for anything. */
const usualPatienceMs = 10_000;

/** Rejects with the system's error if nobody answers. */
export function ask(place: Place, question: Question): Promise<Answer> {
  const { method = "GET", target, token, patienceMs = usualPatienceMs } = question;
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return new Promise((resolve, reject) => {
    const options = { ...place, method, path: target, headers, agent: false, timeout: patienceMs };
    const sent = request(options, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (part: string) => (body += part));
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body }));
      response.once("error", reject);
    });
    sent.once("timeout", () => sent.destroy(new Error(`no answer within ${patienceMs / 1000} s`)));
    sent.once("error", reject).end();
  });
}
