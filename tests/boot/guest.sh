# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Guests that speak with their test script; source it after lib.sh, in the folder that here names, and
# put it beside the script. What the guest says to us begins with "vmm-guest: "; where it says
# "at PLACE" it waits until the case's handler has done its part here. Guests print to files of the
# current folder: out, err.
#
# The script may set, also later:

LIMIT=3600               # seconds for one guest on a slow machine, far more than any needs
SILENCE=300              # seconds without a word from it
COMPLAINTS='Call Trace'  # of its kernel, a regular expression
TALKS=                   # not empty: vmm may say something, too
as=()                    # a command before vmm
usual=()                 # options of every guest
vmm=                     # its process, while there is one

# count FULL SHORT: the script's first word may be "full".
count() { echo $((full ? $1 : $2)); }

note() { echo "# $*"; }

# guest HANDLER ARGS...: run vmm to its end. $out is what the guest printed, $err what vmm said,
# $status how it ended, $vmm its process. HANDLER is called with PLACE where the guest waits.
guest() {
	local handler=$1 line
	shift
	rm -f in pipe
	mkfifo in pipe
	chmod 666 in pipe
	: >out
	${as[@]+"${as[@]}"} "$here/vmm" --timeout "$LIMIT" ${usual[@]+"${usual[@]}"} "$@" \
		<in >pipe 2>err &
	vmm=$!
	exec 8<>in 9<pipe
	while :; do
		IFS= read -r -t "$SILENCE" line <&9
		case $? in
		0) ;;
		1) break ;;
		*) hung ;;
		esac
		line=${line%$'\r'}
		printf '%s\n' "$line" >>out
		[ -z "${VERBOSE:-}" ] || printf '## %4d %s\n' "$SECONDS" "$line"
		case $line in
		*"vmm-guest: at "*)
			"$handler" "${line#*vmm-guest: at }"
			echo >&8
			;;
		esac
	done
	exec 8>&- 9<&-
	{ wait "$vmm"; } 2>/dev/null
	# shellcheck disable=SC2034 # for the script
	status=$?
	vmm=
	out=$(cat out)
	err=$(cat err)
}

nothing() { :; }

# hung: a failed case, with the guest's last words and what each thread waits for; then it is ended.
hung() {
	local task facts=()
	for task in "/proc/$vmm/task"/*; do
		facts+=("$(cat "$task/comm" "$task/wchan" "$task/syscall" | tr '\n' ' ')")
	done
	fail "the guest speaks" "silent for $SILENCE s after: $(tail -n 1 out)" "${facts[@]}" "$(tail -n 3 err)"
	kill -9 "$vmm"
}

# said NAME LINE: the guest said it.
said() { has "$1" "$out" "vmm-guest: $2"; }

# never NAME TEXT: it did not say that.
never() { is "$1" "$(grep -F -m 3 -e "$2" out)" ""; }

# ended NAME: it powered off, no kernel complained, vmm said nothing.
ended() {
	local said=
	[ -n "$TALKS" ] || said=$err
	is "$1: status" "$status $said" "0 "
	is "$1: no complaint from the kernel" "$(grep -m 3 -E -e "$COMPLAINTS" out)" ""
	[ "$status" -eq 0 ] || tail -n 30 out err | sed 's/^/#   /'
	# 128 + SIGSYS: which system call the sandbox did not allow.
	[ "$status" -ne 159 ] || dmesg | grep -o 'type=1326.*' | tail -n 1 | sed 's/^/#   /'
}

# clean IMAGE: its file system is without a fault, and was unmounted.
clean() {
	e2fsck -fn "$1" >fsck 2>&1 && ! grep -q 'skipping journal recovery' fsck && return
	sed 's/^/#   /' fsck
	return 1
}

# figures PATTERN: lines for whoever reads the log, of the transport $T if there is one.
figures() { sed -nE "s/^.*vmm-guest: ($1.*)/# ${T:+$T: }\\1/p" out; }
