#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes the libraries that are installed from the archive that cargo made.
# Usage: link.sh ARCHIVE MAP OUTDIR VERSION SOVERSION
#
# rustc does not link the shared library, because it cannot be given a version script. Both libraries expose exactly the
# names of MAP: the shared one by a symbol version, the static one because it is a single relocatable object whose other
# symbols were made local.
set -eu
archive=$1 map=$2 out=$3 version=$4 soversion=$5
: "${CC:=cc}" "${LD:=ld}" "${AR:=ar}" "${OBJCOPY:=objcopy}"
mkdir -p "$out"
names=$(mktemp)
trap 'rm -f "$names" "$names.dropped" "$out/mmu_notifier.o"' EXIT
sed -n '/^global:/,/^local:/s/^\t\([A-Za-z_0-9]*\);$/\1/p' "$map" >"$names"

real=libmmu_notifier.so.$version
# shellcheck disable=SC2046,SC2086 # word splitting is wanted: options
$CC -shared -o "$out/$real" $(sed 's/^/-Wl,-u,/' "$names") "$archive" \
	-Wl,-soname,"libmmu_notifier.so.$soversion" -Wl,--version-script="$map" \
	-Wl,--gc-sections -Wl,-z,defs -Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete -Wl,-z,noexecstack \
	${LDFLAGS:-} -ldl -lm -lrt -lpthread
ln -sf "$real" "$out/libmmu_notifier.so.$soversion"
ln -sf "libmmu_notifier.so.$soversion" "$out/libmmu_notifier.so"

# shellcheck disable=SC2046,SC2086
$LD -r $(sed 's/^/-u /' "$names") --gc-sections -o "$out/mmu_notifier.o" "$archive" 2>/dev/null ||
	$LD -r $(sed 's/^/-u /' "$names") -o "$out/mmu_notifier.o" "$archive"
# Names that only what was dropped referred to, weakly: objcopy would make demands of them.
readelf -sW "$out/mmu_notifier.o" | awk '$5 == "LOCAL" && $7 == "UND" && $8 != "" { print $8 }' >"$names.dropped"
$OBJCOPY --strip-symbols="$names.dropped" "$out/mmu_notifier.o"
$OBJCOPY --keep-global-symbols="$names" --remove-section=.llvmbc --remove-section=.llvmcmd "$out/mmu_notifier.o"
rm -f "$out/libmmu_notifier.a"
$AR rcs "$out/libmmu_notifier.a" "$out/mmu_notifier.o"
