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
	*) fail "$1" "expected to find: $3" "in:" "$(tail -c 600 <<<"$2")" ;;
	esac
}

finish() { exit $((failures > 0)); }

# at_exit COMMAND: when this script ends. By trap alone, a child that a signal ends before its exec() would
# run COMMAND as well. Such a child can do nothing that is a command, [ included: it fails.
at_exit() {
	# shellcheck disable=SC2064 # the command as it is now
	trap "case \$BASHPID in \$\$) $1 ;; esac" EXIT
}

# kvm_for_all SCRIPT ARGUMENT...: as root, SCRIPT once more where everybody may use /dev/kvm, with VMM_USER (below)
# only its group and 1000, the user of some cases: a mount namespace that ends with it. Returns where that is so,
# or nothing can be done about it.
kvm_for_all() {
	local owner=0 mode=666
	[ -z "${VMM_USER-}" ] || owner=1000:$kvm_group mode=660
	if [ "$(id -u)" != 0 ] || [ -n "${KVM_FOR_ALL-}" ] || [ ! -c /dev/kvm ]; then
		return 0
	fi
	# shellcheck disable=SC2016 # its own variables
	KVM_FOR_ALL=1 exec unshare --mount --propagation private bash -c 'set -e
		dir=$(mktemp -d)
		mount -t tmpfs -o mode=755 none "$dir"
		cp -a /dev/kvm "$dir/kvm"
		chown "$1" "$dir/kvm"
		chmod "$2" "$dir/kvm"
		shift 2
		mount --bind "$dir/kvm" /dev/kvm
		umount -l "$dir"
		rmdir "$dir"
		exec "$@"' kvm_for_all "$owner" "$mode" "$@"
}

# VMM_USER=1 means that vmm is tested as an ordinary user, who may use /dev/kvm by its group and is in no list of
# users. tests/as_user runs whole scripts so. Where root has to prepare what is around vmm, or to look into
# it, the script stays root's, and vmm alone is the user's: with_user, of_user.
user_id=4242
kvm_group=4243
as_user=() # a command before what shall be the user's, too
if [ -n "${VMM_USER-}" ] && [ "$(id -u)" = 0 ]; then
	# setpriv itself would find programs in folders that are closed to the user.
	as_user=(setpriv "--reuid=$user_id" "--regid=$user_id" "--groups=$kvm_group" --inh-caps=-all env)
fi

# with_user ARGUMENT...: a script with cases for a testbed calls it in its folder, with its own arguments. It is
# started once more (kvm_for_all), and ./vmm is the user's.
with_user() {
	[ ${#as_user[@]} -gt 0 ] || return 0
	kvm_for_all bash "$0" "$@"
	of_user vmm
}

# of_user PROGRAM: of the current folder. It becomes a script that does as the user what the program does, and
# gives him the folder in which it is started, if that is a temporary one, and what is in it.
of_user() {
	[ ${#as_user[@]} -gt 0 ] || return 0
	echo "# vmm is run as user $user_id"
	chmod 755 .
	mkdir user
	mv "$1" user/
	cat >"$1" <<-SH
		#!/bin/sh
		if [ "\$(id -u)" = 0 ]; then
			case \$PWD in
			/tmp/?* | /var/tmp/?*) chown -h $user_id:$user_id . ./* 2>/dev/null ;;
			esac
			export HOME=/tmp
			set -- ${as_user[*]} "$PWD/user/$1" "\$@"
		else
			set -- "$PWD/user/$1" "\$@"
		fi
		exec "\$@"
	SH
	chmod 755 "$1"
}

# users FILE...: with a user, they are his.
users() { [ ${#as_user[@]} -eq 0 ] || chown -R "$user_id:$user_id" "$@"; }

# Can this machine's own /dev/kvm run Linux guests at native speed? Inside the testbed (which has
# a /host/script) it looks so, but is emulated.
native_kvm() {
	[ -r /dev/kvm ] && [ -w /dev/kvm ] && [ ! -e /host/script ] && grep -qwE "vmx|svm" /proc/cpuinfo
}

# in_testbed DIR PROGRAM GROUP...: runs DIR/PROGRAM with the words of each GROUP in a testbed of its
# own, where DIR is /host and VERBOSE and VMM_USER are as they are here. The testbed has one processor and many a
# host two: two at a time.
in_testbed() {
	local dir=$1 program=$2 pids=() status=0 i
	shift 2
	tests/testbed/testbed build
	for ((i = 1; i <= $#; i++)); do
		[ $i -le 2 ] || wait "${pids[i - 3]}" || status=1
		mkdir "$dir/$i.dir"
		cp -al "$dir"/[!0-9]* "$dir/$i.dir/"
		echo "${VERBOSE:+VERBOSE=1 }${VMM_USER:+VMM_USER=1 }bash /host/$program ${!i}" >"$dir/$i.dir/script"
		testbed_once "$dir/$i.dir" >"$dir/$i.out" 2>&1 &
		pids+=($!)
	done
	for ((i = 1; i <= $#; i++)); do
		# A second wait for the same process still has its status.
		wait "${pids[i - 1]}" || status=1
		cat "$dir/$i.out"
	done
	return $status
}

# testbed_once DIR: when level 1 stood still (124), say so and try once more; never after a failure.
testbed_once() {
	local rc
	for _ in 1 2; do
		rc=0
		L1_TIMEOUT=${L1_TIMEOUT:-900} tests/testbed/testbed run "$1" || rc=$?
		[ $rc -eq 124 ] || return $rc
		echo "# level 1 did not end: its fault, or a case's"
	done
	return $rc
}
