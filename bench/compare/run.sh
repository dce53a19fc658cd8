#!/bin/sh
# Compares zeusd with the original: ./run.sh [--original FOLDER] [--verbose] [PART OF A SUITE'S NAME...]
# FOLDER holds 0.5.0/bin/zeusd, 0.2.0/bin/zeusd and 0.1.0/bin/zeusd; without one they are built with cargo.
set -eu
cd "$(dirname "$0")/../.."
original=$PWD/node_modules/.cache/zeusd-original
if [ "${1:-}" = --original ]; then
  original=$2
  shift 2
fi
for version in 0.5.0 0.2.0 0.1.0; do
  [ -x "$original/$version/bin/zeusd" ] || cargo install zeusd --version "$version" --locked --root "$original/$version"
done

# A build for this run alone, so that others meanwhile do no harm; node finds the packages from there as well.
mkdir -p node_modules/.cache
build=$(mktemp -d "$PWD/node_modules/.cache/zeusd-compare-XXXXXX")
chmod 755 "$build" # some of the cases are not run as root
trap 'rm -rf "$build"' EXIT
mkdir -p "$build/test/stub"
cp package.json "$build/"
cp test/stub/nvml.c "$build/test/stub/"
npx tsc -p tsconfig.build.json --outDir "$build/dist"
npx tsc -p bench/compare --noEmit false --outDir "$build"
node "$build/bench/compare/compare.js" "$original" "$build/dist/zeusd.cjs" "$@"
