# SPDX-License-Identifier: Apache-2.0
# The system calls that may be made while a guest runs, from the comments of the sources:
#
#	#syscalls [ROLE...]: NAME...
#	#ioctls [ROLE...]: REQUEST...
#
# ROLE is who calls: main (if none is named), io (I/O threads), vcpu, share (threads that serve a
# folder), files, connect (see filter.h); or spawn, which has no filter, as a program that is started
# would inherit it. Out come lines for filter.c, each once.

match($0, /^ \* #(syscalls|ioctls)[a-z ]*:/) {
	head = substr($0, RSTART, RLENGTH)
	macro = head ~ /#syscalls/ ? "SYSCALL" : "IOCTL"
	sub(/^ \* #(syscalls|ioctls) */, "", head)
	sub(/:$/, "", head)
	nroles = split(head == "" ? "main" : head, role, " ")
	n = split(substr($0, RSTART + RLENGTH), name, " ")
	for (i = 1; i <= n && name[1] != "none"; i++)
		for (r = 1; r <= nroles; r++)
			if (role[r] != "spawn" && !seen[macro, role[r], name[i]]++)
				list[++lines] = macro "(" role[r] ", " name[i] ")"
}

# Two lines that were made one by whoever formatted them.
/ \* .*[^"*] #(syscalls|ioctls)/ {
	print FILENAME ": a policy in the middle of a line: " $0 > "/dev/stderr"
	bad = 1
}

END {
	if (bad)
		exit 1
	for (i = 1; i <= lines; i++) {
		word = list[i]
		sub(/.*, /, "", word)
		sub(/\)/, "", word)
		# Not every architecture has all of them: reword, say.
		if (list[i] ~ /^SYSCALL/)
			print "#ifdef SYS_" word "\n" list[i] "\n#endif"
		else
			print list[i]
	}
}
