#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs the manuals below MANDIR (.../share/man), with a link (a .so file) for every further name in a page's NAME
# section, or removes exactly those files. Honours INSTALL.
# Usage: install.sh [-u] MANDIR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
remove=
if [ "${1-}" = -u ]; then
	remove=yes
	shift
fi
mandir=${1:?usage: install.sh [-u] MANDIR}

for page in "$here"/*.[137]; do
	file=${page##*/}
	name=${file%.*}
	section=${file##*.}
	to=$mandir/man$section
	links=$(awk '/^\.Sh/ { on = $2 == "NAME" } on && $1 == ".Nm" { print $2 }' "$page" | grep -vx "$name" || true)
	if [ -n "$remove" ]; then
		rm -f "$to/$file"
		for link in $links; do rm -f "$to/$link.$section"; done
		continue
	fi
	${INSTALL:-install} -d "$to"
	${INSTALL:-install} -m 644 "$page" "$to/"
	for link in $links; do
		echo ".so man$section/$file" >"$to/$link.$section"
		chmod 644 "$to/$link.$section"
	done
done
[ -z "$remove" ] || rmdir "$mandir/man1" "$mandir/man3" "$mandir/man7" "$mandir" 2>/dev/null || true
