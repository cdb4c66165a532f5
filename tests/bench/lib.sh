# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the measuring scripts share; source it at the top of the tree. Sets out, the folder for
# programs.

# shellcheck source=tests/lib.sh
. tests/lib.sh

out=build/bench

# tools NAME...: builds tests/bench/NAME.c as $out/NAME when it is older.
tools() {
	local tool
	mkdir -p "$out"
	for tool; do
		[ "$out/$tool" -nt "tests/bench/$tool.c" ] ||
			${CC:-gcc} -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -static \
				-o "$out/$tool" "tests/bench/$tool.c"
	done
}

# find_qemu: sets qemu to the command and qemu_name to what it is, or leaves them empty.
qemu=()
qemu_name=
find_qemu() {
	local dir lib newest=
	for dir in "${VMM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmm}"/testbed/qemu-*; do
		[ -x "$dir/usr/bin/qemu-system-x86_64" ] || continue
		[ -n "$newest" ] && [ "$newest" -nt "$dir" ] || newest=$dir
	done
	if [ -n "$newest" ]; then
		lib=$newest/usr/lib/x86_64-linux-gnu
		export QEMU_MODULE_DIR=$lib/qemu
		qemu=("$newest/lib64/ld-linux-x86-64.so.2"
			--library-path "$lib:$newest/lib/x86_64-linux-gnu"
			"$newest/usr/bin/qemu-system-x86_64"
			-L "$newest/usr/share/qemu" -L "$newest/usr/share/seabios")
	elif command -v qemu-system-x86_64 >/dev/null; then
		qemu=(qemu-system-x86_64)
	else
		return 0
	fi
	qemu_name="QEMU $("${qemu[@]}" --version | sed -nE '1s/.*version ([0-9.]+).*/\1/p') microvm"
}

# row WHAT UNIT N MEDIAN MIN MAX
row() { printf '%-72s %-8s %5s %10s %10s %10s\n' "$@"; }

absent() { printf '%-72s not installed\n' "$1"; }

# calc EXPRESSION: with 2 decimals; nothing when a figure is missing in it.
calc() { awk "BEGIN { printf \"%.2f\", $1 }" 2>/dev/null || true; }
