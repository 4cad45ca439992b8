#!/usr/bin/env bash
# An emulator of AWS of one's own, for tests: loopback only, a free port, nothing kept.
#
#   infra/aws/emulator.sh start DIR   starts one whose files are in DIR (which must not exist, or be empty) and prints
#                                     its endpoint
#   infra/aws/emulator.sh stop DIR    stops it and removes DIR
#
# It runs the functions as processes of this machine and holds their roles to what they allow. Waits and retries of the
# state machine are shortened by PENSTOCK_WAIT_SCALE (1: not at all).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/penstock

usage() {
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

[ $# -eq 2 ] || usage
dir=$2

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
  if [ -n "$(ls -A "$dir" 2>/dev/null)" ]; then
    echo "$dir is not empty" >&2
    exit 1
  fi
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  local tools port endpoint
  tools=$("$here/tools.sh" emulator)
  # A port found free may be taken the next moment.
  for _ in 1 2 3 4 5; do
    port=$(free_port)
    endpoint=http://127.0.0.1:$port
    # What it makes of the zips lies in the temporary folder, and ends with it.
    mkdir -p "$dir/tmp"
    (
      cd "$dir"
      exec env BIND_HOST=127.0.0.1 MINISTACK_HOST=127.0.0.1 GATEWAY_PORT="$port" AWS_ENDPOINT_URL="$endpoint" AUTH=true \
        AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1 TMPDIR="$dir/tmp" \
        SFN_WAIT_SCALE="${PENSTOCK_WAIT_SCALE:-1}" "$tools/bin/ministack"
    ) >"$dir/emulator.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    for _ in $(seq 100); do
      kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
      if python3 -c "import urllib.request; urllib.request.urlopen('$endpoint/_ministack/health', timeout=1)" 2>/dev/null; then
        echo "$endpoint"
        return
      fi
      sleep 0.1
    done
    stop_process
  done
  cat "$dir/emulator.log" >&2
  exit 1
}

# The emulator and the functions that it has started.
stop_process() {
  local pid
  pid=$(cat "$dir/pid")
  pkill -TERM -P "$pid" 2>/dev/null || true
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 50); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
}

stop() {
  if [ -f "$dir/pid" ]; then
    stop_process
    rm -rf -- "$dir"
  fi
}

case $1 in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac
