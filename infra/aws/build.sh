#!/usr/bin/env bash
# Builds what `sam deploy` deploys: a zip's worth of `bootstrap` for each function, under .aws-sam/build.
#
#   infra/aws/build.sh [x86_64|arm64] [FUNCTION...]
#
# SAM, cargo-lambda and zig are put under ~/.cache/penstock. For another processor than this machine's cargo-lambda adds a
# Rust target by itself.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

architecture=${1:-arm64}
[ $# -eq 0 ] || shift
case $architecture in
  x86_64 | arm64) ;;
  *)
    echo "usage: infra/aws/build.sh [x86_64|arm64] [FUNCTION...]" >&2
    exit 2
    ;;
esac
tools=$("$here/tools.sh" build)
export PATH=$tools/bin:$PATH SAM_CLI_TELEMETRY=0
sam build "$@" --beta-features --parameter-overrides "ParameterKey=Architecture,ParameterValue=$architecture"
"$tools/bin/python" -B "$here/measure.py" .aws-sam/build
printf '\nTo deploy: %s/bin/sam deploy --guided --capabilities CAPABILITY_IAM --parameter-overrides Architecture=%s\n' \
  "$tools" "$architecture"
