#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The ABI, compared with kernels as black boxes (SPEC 1, 2, 8). No text of a kernel gets into the source tree: compilers read
# the header packages in build/cache.
#
# run.sh [--update]    Wants a staged install (pkg-config). --update writes facts.txt, the committed table of facts.
#
# (a) bindgen over the real linux/mmu_notifier.h of 6.1 and 6.12: sizes, alignments, offsets, types, enums and constants
#     against those of src/abi
# (b) our prototypes, for 6.1 and 6.12, re-declared behind the real header
# (c) ctest: structs, constants, enums and exported functions of the installed headers, for each group of kernels, against Rust
# (d) the BTF of the running kernel, and the one that is in the package of 6.12
# (e) c-tests/headers/list.c over the lists of 6.12: they do what it expects of ours
#
# table.txt has the expected differences. For a kernel whose packages cannot be had, facts.txt stands in, and the closing line
# says so. PACKAGES=no: as if none could be had.
set -u
cd "$(dirname "$0")/../.." || exit 1
here=c-tests/abi
out=$PWD/build/abi
mkdir -p "$out"
export CARGO_TARGET_DIR=$out
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH:-$PWD/build/stage/lib/pkgconfig}
passed=0 failed=0 skipped=0

fail() { failed=$((failed + 1)); echo "FAILED: $*"; }
skip() { skipped=$((skipped + 1)); echo "SKIPPED: $*"; }
stop() { fail "$*"; echo "$passed passed, $failed failed, $skipped skipped"; exit 1; }

cflags=$(pkg-config --cflags mmu_notifier) || stop "no staged install: run make stage"
include=$(pkg-config --variable=includedir mmu_notifier)
[ -e "$include/linux/mmu_notifier.h" ] || include=$(sed -E 's/.*-I([^ ]*).*/\1/' <<<"$cflags")

# ------------------------------------------------------------------------------------------------------- what is there

# Sets `amd64` and `common`, the header trees of a kernel.
packages() {
	local dirs
	[ "${PACKAGES:-}" != no ] || { echo "PACKAGES=no" >&2; return 1; }
	dirs=$(bash scripts/fetch.sh --unpack "$1-amd64" "$1-common") || return 1
	amd64=$(echo "$(sed -n 1p <<<"$dirs")"/usr/src/linux-headers-*)
	common=$(echo "$(sed -n 2p <<<"$dirs")"/usr/src/linux-headers-*)
}

# The flags of SPEC 8.2, separated by tabs.
flags() {
	local directory list=(-nostdinc -D__KERNEL__ -std=gnu11 -O2 -w)
	for directory in "$common/arch/x86/include" "$amd64/arch/x86/include/generated" "$common/include" "$amd64/include" \
		"$common/arch/x86/include/uapi" "$amd64/arch/x86/include/generated/uapi" "$common/include/uapi" \
		"$amd64/include/generated/uapi"; do
		list+=("-I$directory")
	done
	list+=(-include "$common/include/linux/kconfig.h" -include "$common/include/linux/compiler_types.h"
		-mcmodel=kernel -mno-red-zone -fno-pie -fshort-wchar)
	(IFS=$'\t'; echo "${list[*]}")
}

libclang() { ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib*/libclang*.so* "${LIBCLANG_PATH:-/none}" \
	2>/dev/null | grep -qv 'cpp'; }
want_libclang() {
	local package
	libclang && return
	[ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
	package=$(apt-cache pkgnames libclang1- | grep -Ex 'libclang1-[0-9]+' | sort -V | tail -n 1)
	[ -n "$package" ] || return 1
	echo "installing: $package"
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >"$out/apt.log" 2>&1 && libclang
}

declare -A kernel_flags trees
kernels=(6.1 6.12)
pattern=([0]='linux-headers-6\.1\.0-[0-9]+' [1]='linux-headers-6\.12\.[0-9]+\+deb[0-9]+')
with_packages=() without=() vmlinux=
for i in "${!kernels[@]}"; do
	if packages "${pattern[i]}" 2>"$out/packages.log"; then
		kernel_flags[${kernels[i]}]=$(flags)
		trees[${kernels[i]}]=$common
		with_packages+=("${kernels[i]}")
		echo "${kernels[i]}: ${amd64##*/}"
		if [ -f "$amd64/vmlinux" ]; then vmlinux=$amd64/vmlinux vmlinux_kernel=${kernels[i]}; fi
	else
		skip "${kernels[i]}: no header packages, facts.txt stands in: $(tail -n 1 "$out/packages.log")"
		without+=("${kernels[i]}")
	fi
done

# --------------------------------------------------------------------------------------------- the facts of either side

# What facts.txt has of what is found.
in_table='^[0-9.]+ (struct|field|enum|const|function (__)?(mmu_|mm_has_))'

# Lines of facts.txt: of a kernel, and of certain kinds.
committed() { grep -E "^${1//./\\.} ($2) " "$here/facts.txt"; }

MMU_NOTIFIER_KERNELS=
bindgen=("${with_packages[@]}")
if [ ${#bindgen[@]} -gt 0 ] && ! want_libclang; then
	skip "bindgen: no libclang; the committed table stands in"
	bindgen=()
fi
for kernel in "${bindgen[@]}"; do
	MMU_NOTIFIER_KERNELS+=$kernel$'\t'${kernel_flags[$kernel]}$'\n'
done
export MMU_NOTIFIER_KERNELS
(cd c-tests/abi/crates && cargo run --locked -q -p facts) >"$out/facts.txt" 2>"$out/facts.log" || {
	tail -n 40 "$out/facts.log"
	stop "c-tests/abi/crates/facts"
}
grep '^core ' "$out/facts.txt" >"$out/ours.txt"
grep -v '^core ' "$out/facts.txt" >"$out/bindgen.txt"

gcc=yes
command -v gcc >/dev/null 2>&1 || { gcc=; skip "(b): no gcc"; }
ours() { [ -z "$gcc" ] || python3 $here/prototypes.py ours "$1" "$include" $cflags >>"$out/ours.txt" || stop "our prototypes for $1"; }
: >"$out/headers.txt"
for kernel in "${kernels[@]}"; do
	ours "$kernel"
	if [ -n "$gcc" ] && [ -n "${kernel_flags[$kernel]:-}" ]; then
		IFS=$'\t' read -ra list <<<"${kernel_flags[$kernel]}"
		python3 $here/prototypes.py kernel "$kernel" "$include" "$out" $cflags -- "${list[@]}" >>"$out/headers.txt" ||
			stop "the functions of $kernel"
	fi
done

: >"$out/btf.txt"
btf=()
if [ -n "$vmlinux" ]; then
	python3 $here/btf.py "$vmlinux" "$vmlinux_kernel" >>"$out/btf.txt" || stop "BTF of $vmlinux"
	btf+=("$vmlinux_kernel (package)")
fi
running=$(uname -r | grep -Eo '^[0-9]+\.[0-9]+')
if [ ! -r /sys/kernel/btf/vmlinux ]; then
	skip "BTF: no /sys/kernel/btf/vmlinux"
elif ! python3 $here/btf.py /sys/kernel/btf/vmlinux "$running" >"$out/running.txt"; then
	stop "BTF of the running kernel"
elif ! grep -q 'struct mmu_notifier ' "$out/running.txt"; then
	skip "BTF: the running kernel, $running, has no MMU notifiers"
else
	[[ " ${kernels[*]} " == *" $running "* ]] || ours "$running"
	btf+=("$running (running)")
fi

if [ "${1:-}" = --update ]; then
	{
		sed '/^#/!d' $here/facts.txt
		cat "$out/bindgen.txt"
		grep -E "$in_table" "$out/headers.txt"
	} >"$out/new" && cp "$out/new" $here/facts.txt
fi

# ----------------------------------------------------------------------------------------------------------- comparing

found=()
for kernel in "${kernels[@]}"; do
	short=$out/committed-$kernel.txt
	: >"$short"
	grep -q "^${kernel//./\\.} " "$out/bindgen.txt" || committed "$kernel" 'struct|field|enum|const' >>"$short"
	grep -q "^${kernel//./\\.} " "$out/headers.txt" || committed "$kernel" function >>"$short"
	[ ! -s "$short" ] || found+=("the committed table=$short")
done
[ ! -s "$out/bindgen.txt" ] || found+=("bindgen=$out/bindgen.txt")
[ ! -s "$out/headers.txt" ] || found+=("headers=$out/headers.txt")
[ ! -s "$out/btf.txt" ] || found+=("BTF=$out/btf.txt")
[[ " ${btf[*]-} " != *running* ]] || found+=("BTF of the running kernel=$out/running.txt")
all=
[ ${#bindgen[@]} -eq ${#kernels[@]} ] && [ -n "$gcc" ] && [ -n "$vmlinux" ] && all=--all
python3 $here/compare.py $all $here/table.txt "$out/ours.txt" "${found[@]}" >"$out/compare.txt"
sed '$d' "$out/compare.txt"
if [[ $(tail -n 1 "$out/compare.txt") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
	passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
else
	fail "compare.py"
fi

# The committed table says what the packages say.
for kernel in "${bindgen[@]}"; do
	[ -n "$gcc" ] || continue
	if diff <(committed "$kernel" '.*' | sort) <(grep "^${kernel//./\\.} " "$out/bindgen.txt" "$out/headers.txt" -h |
		grep -E "$in_table" | sort) >"$out/diff"; then
		passed=$((passed + 1))
	else
		fail "facts.txt is not what the packages of $kernel have (run.sh --update writes it):"
		grep '^[<>]' "$out/diff" | head -n 20
	fi
done

# --------------------------------------------------------------------------------------------------------------- lists

kernel_lists() { # TREE
	# shellcheck disable=SC2086 # a list of flags
	gcc -std=gnu11 -O2 -pthread -w -D_GNU_SOURCE $cflags -iquote "$1" -include $here/lists.h -idirafter "$1/include" \
		-idirafter "$1/include/uapi" c-tests/headers/list.c -o "$out/lists" && "$out/lists"
}
if [ -z "$gcc" ] || [ -z "${trees[6.12]:-}" ]; then
	skip "(e): no gcc, or no header package of 6.12"
elif kernel_lists "${trees[6.12]}" >"$out/lists.log" 2>&1; then
	passed=$((passed + 1))
else
	tail -n 20 "$out/lists.log"
	fail "c-tests/headers/list.c expects of our lists what those of 6.12 do not do"
fi

# --------------------------------------------------------------------------------------------------------------- ctest

minor=$(rustc --version | sed -E 's/^rustc 1\.([0-9]+).*/\1/')
if [ "$minor" -lt 88 ]; then
	skip "ctest: wants Rust 1.88, here is $(rustc --version)"
elif MMU_NOTIFIER_CFLAGS=$cflags CC=${CC:-cc} bash -c 'cd c-tests/abi/crates && cargo build --locked -q -p headers' >"$out/headers.log" 2>&1; then
	"$out/debug/headers" >"$out/ctest.txt" 2>&1 || true
	grep -E '^(bad|headers|size of|rust)' "$out/ctest.txt" | grep -B 1 -E '^(bad|size of|rust)' | sed 's/^bad/DIFFERENT/'
	bad=$(grep -cE '^(bad|size of)' "$out/ctest.txt")
	agree=$(awk '/ agree$/ { n += $2; groups++ } END { print n + 0, groups + 0 }' "$out/ctest.txt")
	read -r agree groups <<<"$agree"
	echo "headers, ctest: $agree agree, in $groups groups of kernels; $bad do not"
	passed=$((passed + agree)) failed=$((failed + bad))
	[ "$groups" -eq "$(grep -c '^group ' $here/table.txt)" ] || fail "ctest did not get to the end: $(tail -n 1 "$out/ctest.txt")"
else
	grep -E 'error|panicked|ctest:' "$out/headers.log" | sed 's/cargo:warning=//' | head -n 30
	fail "the headers do not compile against what ctest makes of the Rust side: $out/headers.log"
fi

# ------------------------------------------------------------------------------------------------------------- closing

join() { local IFS=,; echo "$*" | sed 's/,/, /g'; }
sources=
[ ${#with_packages[@]} -eq 0 ] || sources="; header packages: $(join "${with_packages[@]}")"
[ ${#without[@]} -eq 0 ] || sources+="; only the committed table: $(join "${without[@]}")"
[ ${#btf[@]} -eq 0 ] || sources+="; BTF: $(join "${btf[@]}")"
echo "$passed passed, $failed failed, $skipped skipped (${sources#; })"
[ "$failed" -eq 0 ]
