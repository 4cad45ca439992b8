#!/usr/bin/env bash
# Measures Penstock against its peers, on this machine.
#
#   infra/bench/run.sh push  [--rows N] [--rounds N] [--cases TEXT] [--contenders penstock,dlt,drt]
#   infra/bench/run.sh diff  [--rows N] [--rounds N] [--compression zstd|snappy] [--contenders penstock,duckdb_kept_hashes,…]
#   infra/bench/run.sh scale [--rows N,N,N]
#
# Builds the release binaries, and puts the peers (requirements.txt) under ~/.cache/penstock (or XDG_CACHE_HOME). Prints
# a Markdown table, and what is under way to standard error. README.md says what is measured and how.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/penstock
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}

usage() {
  echo "usage: infra/bench/run.sh push|diff|scale [--rows N] [--rounds N] [--help]" >&2
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

# diff.py or scale.py. PENSTOCK_BENCH_PROFILE=dev builds without optimisation: quick, to try the benchmark itself.
engine() {
  local python script=$1 profile=${PENSTOCK_BENCH_PROFILE:-release} folder
  shift
  python=$(peers)
  folder=$profile
  [ "$profile" = dev ] && folder=debug
  cargo build --profile "$profile" --locked --quiet --bin penstock-bench-engine >&2
  "$python/bin/python" -B "$here/$script" "$@" --python "$python/bin/python" \
    --engine "$CARGO_TARGET_DIR/$folder/penstock-bench-engine"
}

case ${1:-} in
  push)
    shift
    push "$@"
    ;;
  diff | scale)
    script=$1.py
    shift
    engine "$script" "$@"
    ;;
  *) usage ;;
esac
