# SPDX-License-Identifier: Apache-2.0
# The system calls that may be made while a guest runs, from the comments of the sources:
#
#	#syscalls [ROLE...]: NAME...
#	#ioctls [ROLE...]: REQUEST...
#
# ROLE is who calls: main (if none is named), io (I/O threads), vcpu, share (threads that serve a
# folder), work, files (see filter.h); or spawn, which has no filter, as a program that is started
# would inherit it. Out come lines for filter.c, one for each call or request:
#
#	SYSCALL(FILTER_ROLE(main) | FILTER_ROLE(io), read)

function add(macro, who, what,    key)
{
	if (who == "spawn" || seen[macro, who, what]++)
		return
	key = macro " " what
	if (!(key in roles))
		list[++lines] = key
	roles[key] = roles[key] (roles[key] == "" ? "" : " | ") "FILTER_ROLE(" who ")"
}

match($0, /^ \* #(syscalls|ioctls)[a-z ]*:/) {
	head = substr($0, RSTART, RLENGTH)
	macro = head ~ /#syscalls/ ? "SYSCALL" : "IOCTL"
	sub(/^ \* #(syscalls|ioctls) */, "", head)
	sub(/:$/, "", head)
	nroles = split(head == "" ? "main" : head, role, " ")
	n = split(substr($0, RSTART + RLENGTH), name, " ")
	for (i = 1; i <= n && name[1] != "none"; i++)
		for (r = 1; r <= nroles; r++)
			add(macro, role[r], name[i])
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
		split(list[i], entry, " ")
		line = entry[1] "(" roles[list[i]] ", " entry[2] ")"
		# Not every architecture has all of them: rename, say.
		if (entry[1] == "SYSCALL")
			line = "#ifdef SYS_" entry[2] "\n" line "\n#endif"
		print line
	}
}
