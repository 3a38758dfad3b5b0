#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Compiles the C test programs against the staged install, through pkg-config only. Prints the programs' names.
# A program names other files that it is linked with, and their flags, in lines ` * LINK: FILE FLAGS`.
# Usage: build.sh OUTDIR SOURCE...
set -euo pipefail
out=$1
shift
mkdir -p "$out"
flags=$(pkg-config --cflags --libs mmu_notifier)
rpath=-Wl,-rpath,$(pkg-config --variable=libdir mmu_notifier)
compile() {
	local source=$1 program objects=
	program=$out/$(basename "${source%.*}")
	case $source in
	*.cc) ${CXX:-g++} -std=c++17 -O1 -g -Wall -Wextra -Werror "$source" -o "$program" $flags "$rpath" ;;
	*)
		while read -r file defines; do
			objects="$objects $program.$(echo "$defines" | cksum | cut -d' ' -f1).o"
			eval "${CC:-cc} -std=gnu11 -O1 -g -Wall -Wextra -Werror $(echo "$defines" | sed 's/"\([^"]*\)"/\\"\1\\"/g') \
				$flags -c $(dirname "$source")/$file -o ${objects##* }"
		done < <(sed -n 's/^ \* LINK: //p' "$source")
		${CC:-cc} -std=gnu11 -O1 -g -Wall -Wextra -Werror "$source" $objects -o "$program" $flags "$rpath"
		;;
	esac
	echo "$program"
}
export -f compile
export out flags rpath
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -euc 'compile "$1"' _ {} | sort
