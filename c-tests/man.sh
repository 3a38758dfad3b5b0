#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The manuals: mandoc finds nothing to say, every name has a page, references lead somewhere, and the examples compile
# against the install and run without a report. And docs/porting.md: its example does what the text says.
# What is taken from a page is marked before the .Bd:
#     .\" example: NAME [run]      a program; with [run], it is run, too
#     .\" output: NAME             what it prints, exactly
# and in porting.md before the ```:
#     <!-- file: PATH -->          a file
#     <!-- run -->                 the commands that work on these files
set -u
cd "$(dirname "$0")/.."
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH-$PWD/build/stage/lib/pkgconfig}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0
check() { # NAME COMMAND...
	local name=$1
	shift
	if "$@" >"$work/log" 2>&1; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		echo "FAIL $name"
		tail -n 20 "$work/log" | sed 's/^/    /'
	fi
}
skip() { # COUNT NAME REASON
	skipped=$((skipped + $1))
	echo "SKIP $2: $3"
}

# --------------------------------------------------------------------------------------------------- the pages

pages=(man/*.[137])

lint() { # nothing on either output
	local said
	said=$(mandoc -Tlint -Wwarning "$1" 2>&1) && [ -z "$said" ] || { echo "$said"; false; }
}
if command -v mandoc >/dev/null; then
	for page in "${pages[@]}"; do check "mandoc -Tlint ${page##*/}" lint "$page"; done
else
	skip ${#pages[@]} "mandoc -Tlint" "mandoc is not installed"
fi

# The names of a page's NAME section.
names_of() { awk '/^\.Sh/ { on = $2 == "NAME" } on && $1 == ".Nm" { print $2 }' "$1"; }
for page in "${pages[@]}"; do names_of "$page"; done | sort >"$work/names"

# What the library exports, less what only its own headers call; and the inlines and macros of <linux/mmu_notifier.h>.
exported() {
	sed -n '/^global:/,/^local:/s/^\t\([A-Za-z_0-9]*\);$/\1/p' ffi/mmu_notifier.map | grep -v '^mmu_notifier_abi_' |
		grep -vxf <(grep -oE '\bmmu_notifier_[a-z_]+\(' include/mmu_notifier/abi/support.h | tr -d '(')
}
inlines() {
	awk '/^static inline/ { on = 1 } on && match($0, /[a-z_]+\(/) { print substr($0, RSTART, RLENGTH - 1); on = 0 }
		/^#define [a-z][a-z_]+\(/ { split($2, word, "("); print word[1] }' include/linux/mmu_notifier.h
}
for name in $( (exported; inlines) | sort -u); do check "a page for $name" grep -qx "$name" "$work/names"; done
check "a name is on one page only: $(uniq -d "$work/names" | tr '\n' ' ')" test -z "$(uniq -d "$work/names")"

# Of other manuals, what ours refer to in section 3.
others='abort dlclose free longjmp malloc pthread_atfork pthread_create pthread_exit pthread_setcancelstate'
broken_references() {
	sed -n 's/^\.Xr \([^ ]*\) [137].*/\1/p' "${pages[@]}" | sort -u | grep -vxf "$work/names" |
		grep -vxf <(printf '%s\n' $others)
}
check "references: $(broken_references | tr '\n' ' ')" test -z "$(broken_references)"

install_pages() { # every name can be asked for, and uninstall leaves nothing
	local name
	sh man/install.sh "$work/share/man" || return 1
	while read -r name; do
		[ -s "$work/share/man/man1/$name.1" ] || [ -s "$work/share/man/man3/$name.3" ] || [ -s "$work/share/man/man7/$name.7" ] ||
			{ echo "no file for $name"; return 1; }
	done <"$work/names"
	for name in $(sed -n 's/^\.so //p' "$work"/share/man/man3/*); do
		[ -f "$work/share/man/$name" ] || { echo "a link to $name"; return 1; }
	done
	sh man/install.sh -u "$work/share/man" && [ -z "$(find "$work/share/man" -type f)" ]
}
check "man/install.sh" install_pages

# ------------------------------------------------------------------------------------------------ the examples

# Writes the blocks of a kind (example, output) of a page to NAME.EXTENSION, and prints the names and what follows them.
extract() { # KIND EXTENSION PAGE
	awk -v kind="$1" -v to="$work/" -v extension="$2" '
		$1 == ".\\\"" && $2 == kind ":" { name = $3; print $3, $4; next }
		name && !on && /^\.Bd/ { on = 1; next }
		on && /^\.Ed/ { on = 0; close(to name extension); name = ""; next }
		on { gsub(/\\&/, ""); gsub(/\\-/, "-"); gsub(/\\e/, "\\"); print >(to name extension) }' "$3"
}

if ! pkg-config --exists mmu_notifier; then
	echo "FAIL pkg-config does not find mmu_notifier: run \`make stage'"
	failed=$((failed + 1))
fi
compile() { # NAME
	cc -std=gnu11 -Wall -Wextra -Werror "$work/$1.c" -o "$work/$1" $(pkg-config --cflags --libs mmu_notifier) \
		-Wl,-rpath,"$(pkg-config --variable=libdir mmu_notifier)"
}
run() { # NAME: ends well, says nothing on stderr, prints what the page says
	timeout 60 "$work/$1" >"$work/$1.stdout" 2>"$work/$1.stderr" </dev/null ||
		{ echo "status $?"; cat "$work/$1.stderr"; return 1; }
	[ ! -s "$work/$1.stderr" ] || { cat "$work/$1.stderr"; return 1; }
	[ ! -f "$work/$1.expected" ] || diff "$work/$1.expected" "$work/$1.stdout"
}
for page in "${pages[@]}"; do
	file=${page##*/}
	extract output .expected "$page" >/dev/null
	while read -r name how; do
		check "$file: $name compiles" compile "$name"
		[ "$how" != "[run]" ] || check "$file: $name runs" run "$name"
	done < <(extract example .c "$page")
	# A command's example is a command.
	[ "${page##*.}" = 1 ] || check "$file has an example" grep -q '^\.\\" example: .* \[run\]$' "$page"
done

# ------------------------------------------------------------------------------------------------- porting.md

porting() { # in a directory of its own, as the text says; with the warnings that the kernel has, as errors
	mkdir -p "$work/porting/env/include/linux"
	awk -v to="$work/porting/" '
		$1 == "<!--" && $2 == "file:" { file = $3; next }
		$1 == "<!--" && $2 == "run" { file = "commands"; next }
		file && !on && /^```/ { on = 1; next }
		on && /^```/ { on = 0; close(to file); file = ""; next }
		on { print >(to file) }' docs/porting.md
	cd "$work/porting" && [ -s commands ] || return 1
	cc() { command cc -Wall -Werror "$@"; }
	LD_LIBRARY_PATH=$(pkg-config --variable=libdir mmu_notifier)
	export LD_LIBRARY_PATH
	set -e
	. ./commands
}
# `if' would keep set -e from working.
(porting) >"$work/porting.log" 2>&1
status=$?
check "docs/porting.md: the example: $(tail -n 5 "$work/porting.log")" test "$status" -eq 0
missing() {
	grep -oE '\]\([^)#]+' docs/porting.md | sed 's/^](//' | grep -v '^http' | while read -r link; do
		[ -e "docs/$link" ] || echo "$link"
	done
}
check "docs/porting.md: links: $(missing | tr '\n' ' ')" test -z "$(missing)"

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
