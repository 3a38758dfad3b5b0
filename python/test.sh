#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The tests of the Python package: lints of its crate, then the wheel in a fresh virtual environment: its types, its stub file,
# and pytest with the arguments that are given.
set -u
cd "$(dirname "$0")"
venv=$(cd .. && pwd)/build/python-test-venv
passed=0 failed=0
check() { # NAME COMMAND...
	local name=$1
	shift
	if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $name"; fi
}

rm -rf "$venv"
check "rustfmt" cargo fmt --check
check "clippy" cargo clippy --locked -q --all-targets -- -D warnings
check "the wheel" sh venv.sh "$venv" tests/requirements.txt
# Away from the sources: only what is installed can be what is tested.
cd tests || exit 1
python=$venv/bin/python
check "types" "$python" -m mypy --config-file ../pyproject.toml --no-incremental ../pysrc/mmu_notifier .
check "stubs" "$python" -m mypy.stubtest --mypy-config-file ../pyproject.toml --ignore-disjoint-bases mmu_notifier
pytest() { "$python" -m pytest -c ../pyproject.toml --rootdir .. -W error -p no:cacheprovider -rs "$@"; }
check "pytest" pytest . "$@"
# Each test once more, in four threads at a time.
check "pytest in threads" pytest --parallel-threads=4 test_contract.py test_drivers.py
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
