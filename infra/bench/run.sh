#!/usr/bin/env bash
# Measures Penstock against its peers, on this machine.
#
#   infra/bench/run.sh push [--rows N] [--rounds N] [--cases TEXT] [--contenders penstock,dlt,drt]
#
# Builds the release binaries, and puts the peers (requirements.txt) under ~/.cache/penstock (or XDG_CACHE_HOME). Prints
# a Markdown table, and what is under way to standard error. README.md says what is measured and how.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/penstock
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}

usage() {
  echo "usage: infra/bench/run.sh push [--rows N] [--rounds N] [--cases TEXT] [--contenders penstock,dlt,drt]" >&2
  exit 2
}

# The peers' Python environment, made once for these versions.
peers() {
  local folder
  folder=$cache/bench-$(cksum "$here/requirements.txt" | cut -d ' ' -f 1)
  if [ ! -e "$folder/.complete" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
    touch "$folder/.complete"
  fi
  echo "$folder"
}

push() {
  local python
  python=$(peers)
  cargo build --release --locked --quiet --bin penstock --bin penstock-bench-sink >&2
  "$python/bin/python" -B "$here/push.py" "$@" --python "$python" \
    --penstock "$CARGO_TARGET_DIR/release/penstock" --sink "$CARGO_TARGET_DIR/release/penstock-bench-sink"
}

case ${1:-} in
  push)
    shift
    push "$@"
    ;;
  *) usage ;;
esac
