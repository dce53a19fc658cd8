#!/bin/sh
# Compares zeusd with the original: ./run.sh [--original FOLDER] [--verbose] [PART OF A SUITE'S NAME...]
# FOLDER holds 0.5.0/bin/zeusd, 0.2.0/bin/zeusd and 0.1.0/bin/zeusd; without one they are built with cargo.
set -eu
cd "$(dirname "$0")/../.."
cache=node_modules/.cache/zeusd-compare
original=$PWD/$cache/original
if [ "${1:-}" = --original ]; then
  original=$2
  shift 2
fi
for version in 0.5.0 0.2.0 0.1.0; do
  [ -x "$original/$version/bin/zeusd" ] || cargo install zeusd --version "$version" --locked --root "$original/$version"
done
[ -f dist/zeusd.cjs ] || npm run build

# A copy, so that a build meanwhile does no harm; node finds the packages from there as well.
mkdir -p "$cache/test/stub"
rm -rf "$cache/dist" "$cache/bench"
cp -r dist package.json "$cache/"
cp test/stub/nvml.c "$cache/test/stub/"
npx tsc -p bench/compare
exec node "$cache/bench/compare/compare.js" "$original" "$PWD/$cache/dist/zeusd.cjs" "$@"
