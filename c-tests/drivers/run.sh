#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Drivers of the kernel as tests: takes their files from Debian's linux-source packages as they are, compiles each against
# the installed headers and env/, links it with the library and with the scenario of the same name in this directory, and
# runs that; for each kernel version and with each compiler. Nothing of the kernel's enters the repository.
# PKG_CONFIG_PATH must lead to the installed package. What was fetched is kept in build/cache, see scripts/fetch.sh.
set -u
cd "$(dirname "$0")"
top=$(cd ../.. && pwd)
out=$top/build/drivers
passed=0 failed=0 skipped=0

# PACKAGE, and its kernel version for MMU_NOTIFIER_KERNEL.
kernels='linux-source-6.1 0x060100
linux-source-6.12 0x060c00'

# The file of each driver, and the headers beside it that are taken along.
drivers='drivers/infiniband/hw/hfi1/mmu_rb.c mmu_rb.h
drivers/gpu/drm/radeon/radeon_mn.c
drivers/misc/sgi-gru/grutlbpurge.c gru.h grutables.h grulib.h gruhandles.h gru_instructions.h'

files() {
	local source headers header
	while read -r source headers; do
		echo "$source"
		for header in $headers; do
			echo "${source%/*}/$header"
		done
	done <<<"$drivers"
}

# check NAME COMMAND...: the command succeeds.
check() {
	local name=$1
	shift
	if "$@" >"$out/output" 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL $name"
		sed 's/^/    /' "$out/output" | head -n 30
		return 1
	fi
}

skip() {
	skipped=$((skipped + $1))
	echo "SKIP $2"
}

# What was unpacked is, byte for byte, what the package holds.
unchanged() { (cd "$1" && sha256sum --quiet --strict -c SHA256SUMS); }

cflags=$(pkg-config --cflags mmu_notifier) && libs=$(pkg-config --libs mmu_notifier) || exit 1
rpath=-Wl,-rpath,$(pkg-config --variable=libdir mmu_notifier)
# Of the driver: the kernel's own dialect, and its choice of architecture where a driver wants one that it knows.
dialect='-std=gnu11 -fno-strict-aliasing -DCONFIG_X86_64=1'
# Calls without a declaration and mixed-up pointers would be errors in the kernel too.
strict='-Werror=implicit-function-declaration -Werror=incompatible-pointer-types -Werror=int-conversion'
mine='-std=gnu11 -O1 -g -Wall -Wextra -Werror'

# compile COMPILER DEFINES DIRECTORY SOURCE VERSION PROGRAM
compile() {
	local compiler=$1 defines=$2 directory=$3 source=$4 version=$5 program=$6
	local name=${source##*/} private=env/none
	name=${name%.c}
	case $source in
	*/hfi1/*) private=env/hfi1 ;;
	*/radeon/*) private=env/radeon ;;
	esac
	$compiler $dialect -O1 -g $strict $defines -DMMU_NOTIFIER_KERNEL="$version" -Ienv/include -I$private $cflags \
		-c "$directory/$source" -o "$program-driver.o" &&
		$compiler $mine -DMMU_NOTIFIER_KERNEL="$version" -Ienv/include $cflags -c env/ranges.c -o "$program-ranges.o" &&
		$compiler $mine -Ienv/include $cflags -c env/env.c -o "$program-env.o" &&
		$compiler $mine -DCONFIG_X86_64=1 -I.. -Ienv -Ienv/include -I$private -isystem "$directory/${source%/*}" $cflags \
			-c "$name.c" -o "$program.o" &&
		$compiler "$program.o" "$program-driver.o" "$program-ranges.o" "$program-env.o" -o "$program" $libs -pthread "$rpath"
}

rm -rf "$out"
mkdir -p "$out"
programs=()
count=$(wc -l <<<"$drivers")
while read -r package version; do
	directory=$(bash "$top/scripts/fetch.sh" --source "$package" $(files) 2>"$out/reason")
	case $? in
	0) ;;
	77)
		skip "$count" "the drivers of $package: $(tail -n 1 "$out/reason")"
		continue
		;;
	*)
		failed=$((failed + 1))
		echo "FAIL $package: $(cat "$out/reason")"
		continue
		;;
	esac
	check "$package: the files are the package's" unchanged "$directory" || continue
	while read -r source _; do
		name=$(basename "$source" .c)
		for compiler in "${CC:-gcc}" clang; do
			program=$out/$name-${package##*-}-${compiler##*/}
			if ! command -v "${compiler%% *}" >/dev/null 2>&1; then
				skip 1 "$source of $package with $compiler: not installed"
				continue
			fi
			# The headers work with what the kernel's makefiles define and without.
			defines="-D__KERNEL__ -DMODULE -DKBUILD_MODNAME=\"$name\""
			[ "$compiler" != clang ] || defines=
			check "$source of $package with $compiler" \
				compile "$compiler" "$defines" "$directory" "$source" "$version" "$program" && programs+=("$program")
		done
	done <<<"$drivers"
done <<<"$kernels"

if [ ${#programs[@]} -gt 0 ]; then
	bash ../run.sh "${programs[@]}" >"$out/run"
	sed '$d' "$out/run"
	read -r p f s < <(tail -n 1 "$out/run" | sed 's/[^0-9]\+/ /g')
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
