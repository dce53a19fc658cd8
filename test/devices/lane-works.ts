// What lanes are given to run in tests: calls that are over at once, or when the test says so.
import { ZeusdError } from "../../src/contract/errors.ts";
import type { Values } from "../../src/contract/field.ts";
import type { Work } from "../../src/devices/lane.ts";

interface Held extends Work {
  end(): void;
  fail(error: unknown): void;
}

export interface Works {
  /** What the driver was asked, in the order in which it began. */
  readonly begun: string[];
  /** A call that is over at once. */
  quick(name: string, more?: Partial<Work>): Work;
  /** A call that ends when the test says so. */
  held(name: string): Held;
}

export function createWorks(): Works {
  const begun: string[] = [];
  return {
    begun,
    quick: (name, more = {}) => ({
      name,
      async call() {
        begun.push(name);
        return {};
      },
      ...more,
    }),
    held(name) {
      let end = (): void => {};
      let fail = (_error: unknown): void => {};
      const values = new Promise<Values>((resolve, reject) => {
        end = () => resolve({});
        fail = reject;
      });
      return {
        name,
        call() {
          begun.push(name);
          return values;
        },
        end: () => end(),
        fail: (error) => fail(error),
      };
    },
  };
}

/** How something ends: `done`, or the code of its error. Settles in any case, so that it may be awaited late. */
export function outcome(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "done",
    (error: unknown) => (error instanceof ZeusdError ? error.code : String(error)),
  );
}
