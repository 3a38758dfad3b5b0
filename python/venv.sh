#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds the wheel and installs it into the virtual environment VENV, which is made if there is none.
# Usage: venv.sh VENV [REQUIREMENTS]
set -eu
venv=$1 requirements=${2-}
cd "$(dirname "$0")"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
pip wheel --no-deps --wheel-dir "$wheels" .
pip install --force-reinstall --no-deps "$wheels"/*.whl
[ -z "$requirements" ] || pip install --requirement "$requirements"
