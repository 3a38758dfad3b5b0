#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Random programs: the library against the model. Builds the conformance runner against `pkg-config mmu_notifier` and
# hands over to compare.py, which has the options: -n COUNT, -s SEED, -p PROFILE, -t SECONDS, -j JOBS (2), -f, -k DIR,
# FILE ... (its first lines explain them). model.py -e ../conformance/*/*.txt tests the model itself.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
read -ra sut <<<"$(pkg-config --cflags --libs mmu_notifier)"
rpath=(); for f in "${sut[@]}"; do case $f in -L*) rpath+=("-Wl,-rpath,$(realpath "${f#-L}")");; esac; done
"${CC:-cc}" -std=gnu11 -O2 -g -DMNRUN_COUNTS "$here/../conformance/mnrun.c" -o "$tmp/mnrun" \
  "${sut[@]}" "${rpath[@]}" -lpthread
PYTHONDONTWRITEBYTECODE=1 python3 "$here/compare.py" "$tmp/mnrun" "$@"
