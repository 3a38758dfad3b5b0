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
trap 'rm -f "$names" "$out/mmu_notifier.o" "$out/static_tls.o"' EXIT
sed -n '/^global:/,/^local:/s/^\t\([A-Za-z_0-9]*\);$/\1/p' "$map" >"$names"

# One access by the initial-exec model has ld.so put the library's thread-locals into each thread's static block, also where
# dlopen() brings the library. Otherwise the first event of a thread would allocate them, and the process end if it could not.
$CC -fPIC -O2 -x c -c -o "$out/static_tls.o" - <<'END'
static __thread char static_tls __attribute__((tls_model("initial-exec")));
char *mmu_notifier_static_tls(void) { return &static_tls; }
END

real=libmmu_notifier.so.$version
# shellcheck disable=SC2046,SC2086 # word splitting is wanted: options
$CC -shared -o "$out/$real" $(sed 's/^/-Wl,-u,/' "$names") -Wl,-u,mmu_notifier_static_tls "$archive" "$out/static_tls.o" \
	-Wl,-soname,"libmmu_notifier.so.$soversion" -Wl,--version-script="$map" \
	-Wl,--gc-sections -Wl,-z,defs -Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete -Wl,-z,noexecstack \
	${LDFLAGS:-} -ldl -lm -lrt -lpthread
ln -sf "$real" "$out/libmmu_notifier.so.$soversion"
ln -sf "libmmu_notifier.so.$soversion" "$out/libmmu_notifier.so"

# shellcheck disable=SC2046,SC2086
$LD -r $(sed 's/^/-u /' "$names") --gc-sections --force-group-allocation -o "$out/mmu_notifier.o" "$archive" 2>/dev/null ||
	$LD -r $(sed 's/^/-u /' "$names") -o "$out/mmu_notifier.o" "$archive"
# What nothing refers to goes: an undefined name that was weak in Rust's runtime would be wanted by whoever links this with
# another Rust runtime. So do groups (--force-group-allocation), of which linkers keep one program-wide.
$OBJCOPY --keep-global-symbols="$names" --keep-symbols="$names" --wildcard --strip-unneeded-symbol='*' \
	--remove-section=.llvmbc --remove-section=.llvmcmd "$out/mmu_notifier.o"
rm -f "$out/libmmu_notifier.a"
$AR rcs "$out/libmmu_notifier.a" "$out/mmu_notifier.o"
