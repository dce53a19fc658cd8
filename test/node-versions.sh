#!/usr/bin/env bash
# Runs the whole suite on other versions of Node, each from the npm package `node`: test/node-versions.sh [VERSION...]
set -euo pipefail
cd "$(dirname "$0")/.."

npm run --silent build
[ $# -gt 0 ] || set -- 22 24 26
for version in "$@"; do
  npx --yes --package "node@$version" -- bash -c 'echo "== Node $(node --version)" && node node_modules/vitest/vitest.mjs run'
done
