#!/bin/sh
# Fuzzes the daemon and what reads its policy: test/fuzz/run.sh [--seed TEXT] [--seconds N] [--part http|access] [--case N]
# Exit code 1 says that something was found; it is printed with its seed, its case and its bytes.
set -eu
cd "$(dirname "$0")/../.."
# A build for this run alone, so that others meanwhile do no harm; node finds the packages from there as well.
mkdir -p node_modules/.cache
build=$(mktemp -d "$PWD/node_modules/.cache/zeusd-fuzz-XXXXXX")
trap 'rm -rf "$build"' EXIT
mkdir -p "$build/test/stub"
cp package.json "$build/"
cp test/stub/nvml.c "$build/test/stub/"
npx tsc -p tsconfig.build.json --outDir "$build/dist"
npx tsc -p tsconfig.fuzz.json --outDir "$build"
node "$build/test/fuzz/fuzz.js" "$@"
