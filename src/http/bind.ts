// Binds a server, with an error that says what was tried and what to do.
import type { Server } from "node:http";
import { StartError } from "../contract/errors.ts";
import { osErrorText } from "../contract/os-error.ts";

/** Settles when `bind` has had its effect on `address`. Throws a StartError that ends with `remedy`. */
export function bound(server: Server, bind: () => void, address: string, remedy: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      reject(new StartError(`Cannot listen on ${address}: ${osErrorText(error)}; ${remedy}`, { cause: error }));
    };
    server.once("error", fail);
    server.once("listening", () => {
      server.off("error", fail);
      resolve();
    });
    bind();
  });
}
