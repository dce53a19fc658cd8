// Lanes: one call at a time, in order.
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { Lane } from "../../src/devices/lane.ts";

it("runs calls one at a time and in order, whether they succeed or fail", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.record({ turns: fc.nat(3), fails: fc.boolean() })), async (works) => {
      const lane = new Lane();
      const ran: number[] = [];
      let running = 0;
      const outcomes = works.map(({ turns, fails }, index) =>
        lane.run(async () => {
          ran.push(index);
          running += 1;
          expect(running).toBe(1);
          for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
          running -= 1;
          if (fails) throw new Error(String(index));
          return index;
        }),
      );
      const settled = await Promise.allSettled(outcomes);
      expect(ran).toEqual(works.map((_, index) => index));
      expect(settled.map(({ status }) => status === "rejected")).toEqual(works.map(({ fails }) => fails));
      await lane.idle();
    }),
  );
});

it("is idle when nothing runs and nothing waits", async () => {
  const lane = new Lane();
  await lane.idle();
  let end = (): void => {};
  const first = lane.run(() => new Promise<void>((resolve) => (end = resolve)));
  const second = lane.run(async () => {});
  let idle = false;
  const waiting = lane.idle().then(() => (idle = true));
  await Promise.resolve();
  expect(idle).toBe(false);
  end();
  await Promise.all([first, second, waiting]);
  expect(idle).toBe(true);
});
