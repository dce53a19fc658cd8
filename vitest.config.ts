// How the tests run: every *.test.ts under test/, with room for tests that start the built daemon.
import { defineConfig } from "vitest/config";

// oxlint-disable-next-line import/no-default-export -- vitest asks for it
export default defineConfig({
  test: { include: ["test/**/*.test.ts"], testTimeout: 20_000, hookTimeout: 60_000 },
});
