#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What a callback through Python costs, beside one in C, and how fast a recorded program is replayed. Wants the staged install and
# the package in build/venv (make bench sees to both).
set -eu
cd "$(dirname "$0")/python"
build=$(cd ../.. && pwd)/build
export PKG_CONFIG_PATH=$build/stage/lib/pkgconfig
${CC:-cc} -O2 pair.c -o "$build/pair" $(pkg-config --cflags --libs mmu_notifier) \
	-Wl,-rpath,"$(pkg-config --variable=libdir mmu_notifier)"
echo "== python"
"$build/venv/bin/python" pair.py "$("$build/pair")"
"$build/venv/bin/python" replay.py
