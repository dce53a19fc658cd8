// What a machine's name means: `8xh100` is eight of the card that the catalogue calls h100.
import { StartError } from "../../contract/errors.ts";
import { cards, type Card } from "./catalogue.ts";

const mostGpus = 16;

/** Throws a StartError that names what is allowed. */
export function parseMachine(name: string): { readonly count: number; readonly card: Card } {
  const [, digits, model] = /^([1-9]\d?)x(.+)$/.exec(name) ?? [];
  const count = Number(digits);
  const card = model === undefined ? undefined : cards.get(model);
  if (card === undefined || count > mostGpus) {
    throw new StartError(
      `There is no simulated machine "${name}": give a count of 1 to ${mostGpus}, an "x" and one of ` +
        `${[...cards.keys()].join(", ")}; for example 8xh100.`,
    );
  }
  return { count, card };
}
