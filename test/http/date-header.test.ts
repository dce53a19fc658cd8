// The date header: right at every second, and made once for each.
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { createDateHeader } from "../../src/http/date-header.ts";

it("is the date of the second, in the form that HTTP asks for", () => {
  let now = 0;
  const date = createDateHeader({ epochMs: () => now });
  const steps = fc.array(fc.tuple(fc.nat(4_000_000_000), fc.nat(999)), { maxLength: 20 });
  fc.assert(
    fc.property(steps, (times) => {
      for (const [second, ms] of times) {
        now = 1_000 * second;
        expect(date()).toBe(new Date(now).toUTCString());
        now += ms;
        expect(date()).toBe(new Date(now).toUTCString());
      }
    }),
  );
});

it("stays within a second, and changes with it, also when the clock is set back", () => {
  let now = 1_795_521_600_000;
  const date = createDateHeader({ epochMs: () => now });
  expect(date()).toBe("Tue, 24 Nov 2026 12:00:00 GMT");
  now += 999;
  expect(date()).toBe("Tue, 24 Nov 2026 12:00:00 GMT");
  now += 1;
  expect(date()).toBe("Tue, 24 Nov 2026 12:00:01 GMT");
  now -= 86_400_000;
  expect(date()).toBe("Mon, 23 Nov 2026 12:00:01 GMT");
});
