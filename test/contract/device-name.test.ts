// Names of GPUs: which texts are some, and which of them mean the same.
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { isGpuName, normalGpuName } from "../../src/contract/device-name.ts";

const uuid = "GPU-6f1a0b3c-0000-1111-2222-333344445555";

it.each([
  uuid,
  uuid.toLowerCase(),
  uuid.toUpperCase(),
  "GPU-0",
  "0000:41:00.0",
  "00000000:41:00.0",
  "00000:41:00.0",
  "FFFFFFFF:FF:1F.7",
  "41:00.0",
])("%j is the name of a GPU", (text) => {
  expect(isGpuName(text)).toBe(true);
});

it.each([
  "",
  "0",
  "all",
  "GPU-",
  "GPU-xyz",
  " GPU-0",
  "GPU-0\n",
  "GPU 0",
  "MIG-6f1a0b3c-0000-1111-2222-333344445555",
  `GPU-${"0".repeat(101)}`,
  "41:00",
  "41:00.8",
  "4:00.0",
  "000:41:00.0",
  "000000000:41:00.0",
  ":41:00.0",
  "0000:41:00.0 ",
  "0000:41:00.0\n",
  "0000-41-00.0",
  "g000:41:00.0",
])("%j is the name of no GPU", (text) => {
  expect(isGpuName(text)).toBe(false);
});

const hex = (digits: number): fc.Arbitrary<string> =>
  fc.nat(16 ** digits - 1).map((value) => value.toString(16).padStart(digits, "0"));
const place = fc.tuple(hex(2), hex(2), fc.nat(7)).map(([bus, device, part]) => `${bus}:${device}.${part}`);
const mixed = fc.func(fc.boolean());
const withCase = (text: string, raised: (at: string) => boolean): string =>
  [...text].map((letter, at) => (raised(`${at}`) ? letter.toUpperCase() : letter)).join("");

it("a PCI address is the same with a domain of 4 to 8 digits and in any case, and without one it is in domain 0", () => {
  const holds = fc.property(
    fc.oneof(fc.constant("0000"), hex(4)),
    place,
    fc.integer({ min: 4, max: 8 }),
    mixed,
    (domain, rest, digits, raised) => {
      const normal = normalGpuName(`${domain}:${rest}`);
      const other = withCase(`${domain.padStart(digits, "0")}:${rest}`, raised);
      expect(isGpuName(other)).toBe(true);
      expect(normalGpuName(other)).toBe(normal);
      expect(normalGpuName(withCase(rest, raised)) === normal).toBe(domain === "0000");
    },
  );
  fc.assert(holds);
});

it("different PCI addresses stay different", () => {
  const addresses = fc.tuple(hex(8), place).map(([domain, rest]) => `${domain}:${rest}`);
  const holds = fc.property(addresses, addresses, (one, other) => {
    expect(normalGpuName(one) === normalGpuName(other)).toBe(one === other);
  });
  fc.assert(holds);
});

it("a UUID is the same in any case, and nothing else than itself", () => {
  expect(normalGpuName(uuid)).toBe(normalGpuName(uuid.toUpperCase()));
  expect(normalGpuName(uuid)).not.toBe(normalGpuName(uuid.slice(0, -1)));
  expect(normalGpuName("GPU-41")).not.toBe(normalGpuName("41:00.0"));
});
