#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Downloads Debian packages, without installing them and without being root, and keeps them.
#
# fetch.sh PACKAGE...                   prints the path of each .deb
# fetch.sh --unpack PACKAGE...          prints for each the directory that it was unpacked to
# fetch.sh --source PACKAGE FILE...     of a linux-source package: takes the FILEs, named from the top of the kernel's tree,
#                                       out of the archive in it, and prints the directory that they are in; the file
#                                       SHA256SUMS there holds the sums that they had in the package
#
# PACKAGE is a name or an extended regular expression for a whole one; the newest match is taken, with what is kept
# already going first. A meta package counts as no match: name what it depends on.
# Everything is kept in $CACHE (build/cache); delete that to fetch anew.
#
# Status: 0; 77 with one line on stderr if a package cannot be had here; 1 for any other failure.
set -euo pipefail
cache=${CACHE:-$(cd "$(dirname "$0")/.." && pwd)/build/cache}
mkdir -p "$cache"

unavailable() { echo "$*" >&2; exit 77; }
fail() { echo "fetch.sh: $*" >&2; exit 1; }

# One at a time: the others find it done.
exec 9>"$cache/lock"
flock 9

options=(-q -o Acquire::Retries=1)
[ "$(id -u)" -ne 0 ] || options+=(-o APT::Sandbox::User=root)

updated=
# Refreshes the lists of packages, once. Fails if that cannot be done here.
update() {
	[ -z "$updated" ] && [ "$(id -u)" -eq 0 ] || return 1
	updated=yes
	apt-get "${options[@]}" update >"$cache/apt.log" 2>&1
}

# Of the names on stdin, the newest that is $1, or else that matches it. Nothing if there is none.
choose() {
	local names
	names=$(sort -Vu)
	grep -Fx -- "$1" <<<"$names" || grep -Ex -- "$1" <<<"$names" | tail -n 1
}

# The package of the lists that is meant. Of a name that is only referred to they have no version.
listed() {
	apt-cache pkgnames | grep -Fx -e "$1" || apt-cache pkgnames | grep -Ex -e "$1" | while read -r name; do
		[ -z "$(apt-cache policy "$name" | sed -n '/^  Candidate: [^(]/p')" ] || echo "$name"
	done
}

# The name of the newest .deb of a package in the cache.
kept() {
	local name
	name=$(find "$cache" -maxdepth 1 -name '*.deb' | sed 's|.*/||; s|_.*||' | choose "$1") || return 0
	find "$cache" -maxdepth 1 -name "${name}_*.deb" | sed 's|.*/||' | sort -V | tail -n 1
}

# Sets `deb` to the path of a package, downloaded if need be.
get() {
	local name partial reason
	deb=$(kept "$1")
	if [ -z "$deb" ]; then
		command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
			unavailable "$1: apt-get and dpkg-deb are needed to fetch it"
		[ -n "$(find /var/lib/apt/lists -name '*Packages*' 2>/dev/null)" ] || update || true
		name=$(listed "$1" | choose "$1" || true)
		[ -n "$name" ] || unavailable "$1: not in the package lists of this release"
		partial=$cache/partial
		rm -rf "$partial"
		mkdir "$partial"
		# Lists that are out of date name files that are gone.
		if ! (cd "$partial" && apt-get "${options[@]}" download "$name") >"$cache/apt.log" 2>&1 &&
			! { update && (cd "$partial" && apt-get "${options[@]}" download "$name") >"$cache/apt.log" 2>&1; }; then
			reason=$(grep -m 1 '^E:' "$cache/apt.log" || tail -n 1 "$cache/apt.log")
			unavailable "$name: cannot be downloaded: $reason"
		fi
		mv "$partial"/*.deb "$cache/"
		rmdir "$partial"
		deb=$(kept "$name")
	fi
	deb=$cache/$deb
}

# Sets `dir` to where that package is unpacked.
unpack() {
	get "$1"
	dir=$cache/$(basename "$deb" .deb)
	if [ ! -d "$dir" ]; then
		rm -rf "$dir.partial"
		dpkg-deb -x "$deb" "$dir.partial"
		mv "$dir.partial" "$dir"
	fi
}

# Sets `dir` to a directory with those files. The archive is read through once, which takes seconds: what was taken out
# before is taken along, and nothing is done if all is there.
source_files() {
	local package=$1 archive missing= file taken
	shift
	get "$package"
	dir=$cache/$(basename "$deb" .deb).files
	for file; do
		[ -f "$dir/$file" ] || missing=yes
	done
	[ -n "$missing" ] || return 0
	command -v xz >/dev/null 2>&1 || unavailable "$package: xz is needed to look into it"
	archive=$(dpkg-deb -c "$deb" | grep -Eo '\./usr/src/linux-source-[0-9.]+\.tar\.xz$') ||
		fail "$(basename "$deb") holds no usr/src/linux-source-VERSION.tar.xz"
	if [ -f "$dir/SHA256SUMS" ]; then
		mapfile -t taken < <(sed 's/^[0-9a-f]*  //' "$dir/SHA256SUMS")
		set -- "$@" "${taken[@]}"
	fi
	rm -rf "$dir.partial"
	mkdir "$dir.partial"
	dpkg-deb --fsys-tarfile "$deb" | tar -xOf - "$archive" | xz -dc |
		tar -xf - -C "$dir.partial" --strip-components=1 $(basename "$archive" .tar.xz | sed 's|$|/|' | {
			read -r top
			printf "$top%s\n" "$@" | sort -u
		}) || fail "$(basename "$deb") lacks one of: $*"
	(cd "$dir.partial" && find * -type f | sort | xargs sha256sum >"$cache/sums" && mv "$cache/sums" SHA256SUMS)
	rm -rf "$dir"
	mv "$dir.partial" "$dir"
}

case ${1:-} in
--unpack)
	shift
	for package; do
		unpack "$package"
		echo "$dir"
	done
	;;
--source)
	shift
	[ $# -ge 2 ] || fail "--source PACKAGE FILE..."
	source_files "$@"
	echo "$dir"
	;;
-* | '')
	sed -n '3,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 1
	;;
*)
	for package; do
		get "$package"
		echo "$deb"
	done
	;;
esac
