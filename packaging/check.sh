#!/usr/bin/env bash
# Checks what is shipped: the unit is tight enough, and the packed package installs and runs on its own.
set -euo pipefail
cd "$(dirname "$0")/.."

passed=0
check() { # check NAME COMMAND...
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "ok $name"
  else
    echo "FAIL $name"
    echo "$passed passed, 1 failed"
    exit 1
  fi
}

work=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; rm -rf "$work"' EXIT

# The unit's exposure as systemd counts it: 0 is none, 10 is all.
tight_enough() {
  local score
  score=$(systemd-analyze security --offline=true packaging/systemd/zeusd.service | sed -n 's/.*exposure level[^:]*: \([0-9.]*\).*/\1/p')
  echo "exposure $score of at most 3.5"
  awk -v score="$score" 'BEGIN { exit !(score != "" && score <= 3.5) }'
}

only_what_is_needed() {
  local extra
  extra=$(tar -tzf "$work/"zeusd-*.tgz | grep -vE '^package/(dist/.*\.c?js|packaging/.*|package\.json|README\.md|CHANGELOG\.md|LICENSE)$' || true)
  [ -z "$extra" ] || { echo "not needed in the package: $extra"; return 1; }
}

serves() {
  "$work/prefix/bin/zeusd" serve --sim 1xh100 --socket-path "$work/zeusd.sock" >"$work/out" 2>"$work/err" &
  daemon=$!
  for _ in $(seq 100); do
    grep -q '^Listening on ' "$work/out" && break
    sleep 0.1
  done
  curl -fsS --unix-socket "$work/zeusd.sock" http://localhost/discover | grep -q H100
}

ends_cleanly() {
  kill "$daemon"
  wait "$daemon"
  daemon=
  [ ! -e "$work/zeusd.sock" ]
}

check "the unit is hardened" tight_enough
npm pack --silent --pack-destination "$work" >"$work/pack.log"
check "the package holds nothing that is not needed" only_what_is_needed
check "npm install -g installs it from the file" npm install --silent --global --prefix "$work/prefix" "$work/"zeusd-*.tgz
check "zeusd --version answers" test "$("$work/prefix/bin/zeusd" --version)" = "zeusd $(node -p 'require("./package.json").version')"
check "the installed daemon serves" serves
check "it ends with exit code 0 and removes its socket" ends_cleanly
echo "$passed passed, 0 failed"
