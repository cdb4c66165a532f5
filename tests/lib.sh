# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What every test script needs; source it. A case prints one line, "ok - NAME",
# "not ok - NAME" or "skip - NAME: WHY"; tests/run counts them. `finish` ends the script
# with the status that fits.

failures=0

pass() { printf 'ok - %s\n' "$1"; }

fail() {
	printf 'not ok - %s\n' "$1"
	shift
	[ $# -eq 0 ] || printf '#   %s\n' "$@"
	failures=$((failures + 1))
}

skip() { printf 'skip - %s: %s\n' "$1" "$2"; }

# check NAME CONDITION...: a case that passes when the command does.
check() {
	local name=$1
	shift
	if "$@"; then pass "$name"; else fail "$name" "failed: $*"; fi
}

# is NAME FOUND EXPECTED
is() {
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1" "expected: $3" "found:    $2"
	fi
}

# has NAME TEXT PART
has() {
	case $2 in
	*"$3"*) pass "$1" ;;
	*) fail "$1" "expected to find: $3" "in:" "${2: -600}" ;;
	esac
}

finish() { exit $((failures > 0)); }

# Can this machine's own /dev/kvm run Linux guests at native speed? Inside the testbed (which has
# a /host/script) it looks so, but is emulated.
native_kvm() {
	[ -r /dev/kvm ] && [ -w /dev/kvm ] && [ ! -e /host/script ] && grep -qwE "vmx|svm" /proc/cpuinfo
}
