#!/bin/sh
# Measures zeusd beside the original, and writes bench/RESULTS.md:
#   bench/run.sh [--original FOLDER] [--rounds N] [--quick] [--log-level LEVEL] [--ours-args "FLAGS"] [PART OF A ROW'S NAME...]
# FOLDER holds 0.5.0/bin/zeusd and 0.2.0/bin/zeusd; without one they are built with cargo. With parts of names only those rows
# are measured, and nothing is written unless --write is there. Exit code 0 says that all was measured, not that targets are met.
set -eu
cd "$(dirname "$0")/.."
original=$PWD/node_modules/.cache/zeusd-original
if [ "${1:-}" = --original ]; then
  original=$2
  shift 2
fi
for version in 0.5.0 0.2.0; do
  [ -x "$original/$version/bin/zeusd" ] || cargo install zeusd --version "$version" --locked --root "$original/$version"
done

# A build for this run alone, so that others meanwhile do no harm; node finds the packages from there as well.
mkdir -p node_modules/.cache
build=$(mktemp -d "$PWD/node_modules/.cache/zeusd-bench-XXXXXX")
trap 'rm -rf "$build"' EXIT
mkdir -p "$build/test/stub" "$build/bench"
cp package.json "$build/"
cp test/stub/nvml.c "$build/test/stub/"
cp bench/*.c bench/*.h "$build/bench/"
npx tsc -p tsconfig.build.json --outDir "$build/dist"
npx tsc -p tsconfig.bench.json --outDir "$build"
node "$build/bench/bench.js" "$original" "$build/dist/zeusd.cjs" "$@"
