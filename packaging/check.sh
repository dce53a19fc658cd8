#!/usr/bin/env bash
# Checks what is shipped: the unit is tight enough and leaves the daemon what it needs, and the packed package installs and runs on its own.
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
chmod 711 "$work" # others connect to sockets in it
unit=packaging/systemd/zeusd.service
zeusd=$work/prefix/bin/zeusd
socket=$work/zeusd.sock
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; rm -rf "$work"' EXIT

# The unit's exposure as systemd counts it: 0 is none, 10 is all.
tight_enough() {
  local score
  score=$(systemd-analyze security --offline=true "$unit" | sed -n 's/.*exposure level[^:]*: \([0-9.]*\).*/\1/p')
  echo "exposure $score of at most 3.5"
  awk -v score="$score" 'BEGIN { exit !(score != "" && score <= 3.5) }'
}

only_what_is_needed() {
  local extra
  extra=$(tar -tzf "$work/"zeusd-*.tgz | grep -vE '^package/(dist/.*\.c?js|packaging/.*|package\.json|README\.md|CHANGELOG\.md|LICENSE)$' || true)
  [ -z "$extra" ] || { echo "not needed in the package: $extra"; return 1; }
}

of_unit() { sed -n "s/^$1=//p" "$unit"; } # of_unit KEY: its value in the unit

# systemd wants commands that exist.
is_understood() {
  sed -E "s#=(zeusd|kill) #=/usr/bin/env \\1 #" "$unit" >"$work/zeusd.service"
  systemd-analyze verify --man=no "$work/zeusd.service" >"$work/verify" 2>&1 && [ ! -s "$work/verify" ] || { cat "$work/verify"; return 1; }
}

start() { # start COMMAND...: a daemon
  "$@" >"$work/out" 2>"$work/err" &
  daemon=$!
  for _ in $(seq 100); do
    grep -q '^Listening on ' "$work/out" && return
    sleep 0.1
  done
  cat "$work/err"
  return 1
}

ask() { curl -sS --unix-socket "$socket" "$@"; }
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }

serves() {
  start "$zeusd" serve --sim 1xh100 --socket-path "$socket"
  ask -f http://localhost/discover | grep -q H100
}

ends_cleanly() {
  kill "$daemon"
  wait "$daemon"
  daemon=
  [ ! -e "$socket" ]
}

# Runs the daemon with the unit's rights and what it sees of /proc, and has another user's process acquire a lease that ends with it.
answer_under() { # answer_under PROTECT_PROC
  local rights hide=$1
  rights=$(of_unit CapabilityBoundingSet | sed 's/CAP_/+/g; s/ /,/g' | tr '[:upper:]' '[:lower:]')
  [ "$hide" != default ] || hide=off
  # shellcheck disable=SC2016
  start unshare --mount sh -c 'mount -t proc -o "hidepid=$1" proc /proc && shift && exec setpriv --no-new-privs --inh-caps=-all "$@"' \
    sh "$hide" "--bounding-set=-all,$rights" "$zeusd" serve --sim 1xh100 --socket-path "$socket" || return 1
  as_nobody curl -sS --unix-socket "$socket" -X POST -w ' %{http_code}' http://localhost/lease/acquire >"$work/answer"
  kill "$daemon"
  wait "$daemon"
  daemon=
  cat "$work/answer"
}

knows_others() {
  local answer hidden
  answer=$(answer_under "$(of_unit ProtectProc)")
  # The check itself is checked where it has to fail.
  hidden=$(answer_under ptraceable)
  echo "ProtectProc=$(of_unit ProtectProc): ${answer##* }; ProtectProc=ptraceable: ${hidden##* }"
  [ "${answer##* }" = 200 ] && [ "${hidden##* }" = 400 ]
}

# What systemd does when the daemon is killed: the unit's own command lines, with words split as it splits them.
restores_after_kill() {
  local ZEUSD_ARGS="--sim 2xh100  --socket-path $socket --restore-on-exit" journal=$socket.state/leases.journal
  export ZEUSD_ARGS PATH="$work/prefix/bin:$PATH"
  start sh -c "exec $(of_unit ExecStart)" || return 1
  # It listens to events until the daemon ends, and until then holds what it has set.
  ask -X POST "http://localhost/gpu/set_power_limit?gpu_ids=1&power_limit_mw=300000&block=true" --next \
    -sS --unix-socket "$socket" http://localhost/events >"$work/events" 2>&1 &
  local holder=$!
  for _ in $(seq 100); do
    ! grep -q '"record":"layer"' "$journal" || break
    sleep 0.1
  done
  kill -9 "$daemon"
  wait "$daemon" "$holder" 2>"$work/killed" || true
  daemon=
  sh -c "$(of_unit ExecStopPost)" >"$work/out" 2>"$work/err" || { cat "$work/err"; return 1; }
  grep -q 'power_limit is power_limit_mw=700000 again' "$work/err" || return 1
  [ "$(sh -c "$(of_unit ExecStopPost)" 2>"$work/err")" = "Nothing to put back" ]
}

check "the unit is hardened" tight_enough
check "systemd understands the unit" is_understood
npm pack --silent --pack-destination "$work" >"$work/pack.log"
check "the package holds nothing that is not needed" only_what_is_needed
check "npm install -g installs it from the file" npm install --silent --global --prefix "$work/prefix" "$work/"zeusd-*.tgz
check "zeusd --version answers" test "$("$zeusd" --version)" = "zeusd $(node -p 'require("./package.json").version')"
check "the installed daemon serves" serves
check "it ends with exit code 0 and removes its socket" ends_cleanly
check "with the unit's rights it knows processes of other users" knows_others
check "the unit's stop command puts back what a killed daemon has left" restores_after_kill
echo "$passed passed, 0 failed"
