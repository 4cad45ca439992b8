#!/usr/bin/env bash
# Puts Python tools under ~/.cache/penstock (or XDG_CACHE_HOME), once for these versions, and prints where.
#
#   infra/aws/tools.sh build|emulator
#
# Two environments: what the two need clashes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

case ${1:-} in
  build | emulator) requirements=$here/$1.txt ;;
  *)
    echo "usage: infra/aws/tools.sh build|emulator" >&2
    exit 2
    ;;
esac
folder=${XDG_CACHE_HOME:-$HOME/.cache}/penstock/$1-$(cksum "$requirements" | cut -d ' ' -f 1)
if [ ! -e "$folder/.complete" ]; then
  rm -rf "$folder"
  mkdir -p "$folder"
  python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2
  touch "$folder/.complete"
fi
echo "$folder"
