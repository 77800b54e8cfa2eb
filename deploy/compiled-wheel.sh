#!/bin/bash
# A wheel of Weir whose hot path is compiled from the same source (mypyc): less CPU a request.
#   deploy/compiled-wheel.sh [DIR]    writes it into DIR (default: dist), for this Python and this kind of machine
# Needs gcc and Python's headers (Debian: gcc libc6-dev python3-dev). $PYTHON chooses the Python (python3).
# It is made in a copy of the checkout: compiled modules beside the source would hide later changes to it.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "${1:-dist}"
into=$(cd "${1:-dist}" && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
(cd "$repository" && cp -r LICENSE README.md pyproject.toml balancer benchmarks broker protocol s3stream "$copy")
find "$copy" -name '*.so' -delete
HATCH_BUILD_HOOK_ENABLE_MYPYC=1 "${PYTHON:-python3}" -m pip wheel -q --no-deps -w "$into" "$copy"
