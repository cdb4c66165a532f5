# shellcheck shell=bash
# lib.sh: what the scripts of the test bed share: a cache folder, locks, Debian packages.
#
# Everything the test bed needs (kernels, an emulator, a root file system) is made from Debian
# packages and kept in one cache folder outside the tree, VMM_CACHE. Each thing in it is a
# folder NAME-KEY, where KEY is a hash of whatever the thing depends on: the scripts that make
# it and the versions of the packages it is made from. So
#   - if the folder exists, it is complete and up to date (it is built as NAME-KEY.tmp and
#     renamed when done; an interrupted build leaves nothing but a .tmp, which the next removes);
#   - a change gives another KEY and hence a new build; what was not used for a week is removed;
#   - a lock per NAME makes two runs at once do the work once.
#
# Packages are resolved and downloaded with an apt configuration of our own (state, cache and an
# empty package status in the cache folder), so the machine's packages are neither looked at nor
# changed and no privileges are needed. The sources are those the machine has for bookworm, plus
# bookworm-backports on the same mirror. The lists are fetched once; VMM_UPDATE=1 fetches them
# again (new point releases), and so does a download that fails because the mirror moved on.
#
# Limits: Debian 12 (other-root: 13), amd64 packages. No maintainer script of a package is ever run.

set -euo pipefail
shopt -s inherit_errexit nullglob
umask 022
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

VMM_CACHE=${VMM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmm}
mkdir -p "$VMM_CACHE"
VMM_CACHE=$(realpath "$VMM_CACHE")
APT_DIR=$VMM_CACHE/apt
MACHINE_SUITE=bookworm # its sources are looked at
SUITE=$MACHINE_SUITE # another one: set APT_DIR, too
if [ -n "${VMM_UPDATE:-}" ]; then
	rm -f "$APT_DIR/ready"
	unset VMM_UPDATE
fi

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 125; }

# need TOOL...: all of them must be there; the error names the way out.
need() {
	local tool missing=()
	for tool; do
		command -v "$tool" >/dev/null || missing+=("$tool")
	done
	[ ${#missing[@]} -eq 0 ] || die "not found: ${missing[*]} (install with: make deps)"
}

# key_of: reads text, prints the short hash used in folder names.
key_of() { sha256sum | cut -c1-12; }

# with_lock NAME COMMAND...: runs the command while holding the cache's lock of that name.
with_lock() {
	local fd lock=$VMM_CACHE/$1.lock
	shift
	mkdir -p "${lock%/*}"
	exec {fd}>"$lock"
	flock "$fd"
	"$@"
	exec {fd}>&-
}

# cached NAME KEY COMMAND...: prints the cache's folder NAME-KEY. If it is not there, runs COMMAND
# in a new empty folder, which becomes it.
cached() {
	local dir=$VMM_CACHE/$1-$2
	[ -d "$dir" ] || with_lock "$1" build_once "$1" "$dir" "${@:3}"
	touch -c "$dir"
	echo "$dir"
}

build_once() {
	local name=$1 dir=$2 status
	shift 2
	[ ! -d "$dir" ] || return 0
	rm -rf "$VMM_CACHE/$name"-????????????.tmp
	mkdir -p "$dir.tmp"
	say "building $name (once, kept in $VMM_CACHE)"
	# Not "( … ) || …": that would switch -e off inside.
	set +e
	(set -e; cd "$dir.tmp"; "$@") >&2
	status=$?
	set -e
	if [ $status -ne 0 ]; then
		rm -rf "$dir.tmp"
		die "building $name failed"
	fi
	expire "$name"
	mv -T "$dir.tmp" "$dir"
}

# expire NAME: removes other versions of NAME that no run has used for a week.
expire() {
	find "$(dirname "$VMM_CACHE/$1")" -maxdepth 1 -name "${1##*/}-????????????" -mtime +7 \
		-exec rm -rf {} +
}

# apt_conf: writes our apt configuration and fetches the lists, unless that has been done.
apt_conf() {
	[ -f "$APT_DIR/ready" ] || with_lock apt apt_update
}

apt_update() {
	local uri release component line
	[ ! -f "$APT_DIR/ready" ] || return 0
	mkdir -p "$APT_DIR"/{parts,lists/partial,archives/partial,resolved}
	: >"$APT_DIR/status"
	cat >"$APT_DIR/conf" <<-EOT
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Sandbox::User "root";
		APT::Install-Recommends "false";
		APT::Install-Suggests "false";
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Post-Invoke;
		Acquire::Languages "none";
		Acquire::Retries "3";
		Dir::State "$APT_DIR";
		Dir::State::lists "$APT_DIR/lists";
		Dir::State::status "$APT_DIR/status";
		Dir::State::extended_states "$APT_DIR/extended_states";
		Dir::Cache "$APT_DIR";
		Dir::Cache::archives "$APT_DIR/archives";
		Dir::Cache::pkgcache "$APT_DIR/pkgcache.bin";
		Dir::Cache::srcpkgcache "$APT_DIR/srcpkgcache.bin";
		Dir::Log "$APT_DIR";
		Dir::Etc::sourcelist "$APT_DIR/sources.list";
		Dir::Etc::sourceparts "$APT_DIR/parts";
		Dir::Etc::preferences "$APT_DIR/none";
		Dir::Etc::preferencesparts "$APT_DIR/parts";
	EOT
	# shellcheck disable=SC2016 # the dollars are apt's
	apt-get indextargets --no-release-info \
		--format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		sort -u | while read -r uri release component; do
		line="deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri"
		case $release/$component in
		"$MACHINE_SUITE"/main) echo "$line $SUITE main"; echo "$line $SUITE-backports main" ;;
		"$SUITE"-*/main) echo "$line $release main" ;;
		esac
	done | sort -u >"$APT_DIR/sources.list"
	grep -q "$SUITE main" "$APT_DIR/sources.list" ||
		die "apt has no source for Debian $SUITE: see /etc/apt/sources.list.d"
	say "fetching the package lists"
	apt-get -c "$APT_DIR/conf" -qq update
	apt-get -c "$APT_DIR/conf" -qq autoclean
	rm -rf "$APT_DIR/resolved"
	mkdir "$APT_DIR/resolved"
	touch "$APT_DIR/ready"
}

# deb_list [SUITE/]PKG...: prints the .deb names (with versions) of these packages and all they
# depend on, sorted. Remembered until the lists change.
deb_list() {
	local memo
	apt_conf
	memo=$APT_DIR/resolved/$(key_of <<<"$*")
	if [ ! -s "$memo" ]; then
		apt_install --print-uris "$@" | awk '$1 ~ /^.http/ || $1 ~ /^.file/ { print $2 }' |
			sort >"$memo.$$"
		mv "$memo.$$" "$memo"
	fi
	cat "$memo"
}

# apt_install OPTION [-t SUITE] PKG...
apt_install() {
	# Downloaded files are not named by --print-uris, so it gets an empty archive folder.
	local opts=()
	[ "$1" != --print-uris ] || opts=(-o "Dir::Cache::archives=$APT_DIR/none")
	mkdir -p "$APT_DIR/none/partial"
	apt-get -c "$APT_DIR/conf" -qq -y "${opts[@]}" install "$@"
}

# fetch_debs DIR [-t SUITE] PKG...: puts the packages and all they depend on into DIR.
fetch_debs() {
	local dir=$1 deb
	shift
	with_lock apt-get fetch_retry "$@"
	mkdir -p "$dir"
	for deb in $(deb_list "$@"); do
		ln -f "$APT_DIR/archives/$deb" "$dir/" 2>/dev/null ||
			cp "$APT_DIR/archives/$deb" "$dir/"
	done
}

fetch_retry() {
	apt_conf
	apt_install --download-only "$@" >/dev/null && return
	say "the mirror may have moved on: trying again with new lists"
	rm -f "$APT_DIR/ready"
	apt_conf
	apt_install --download-only "$@" >/dev/null
}

# fetch_one DIR PKG: puts this package alone into DIR.
fetch_one() {
	apt_conf
	mkdir -p "$1"
	(cd "$1" && apt-get -c "$APT_DIR/conf" -qq download "$2")
}

# deb_version PKG: its version and its first dependency, as one line (resolves meta-packages).
deb_version() {
	local memo
	apt_conf
	memo=$APT_DIR/resolved/one-$1
	if [ ! -s "$memo" ]; then
		apt-cache -c "$APT_DIR/conf" show --no-all-versions "$1" |
			awk -F': ' '$1 == "Version" { v = $2 } $1 == "Depends" { split($2, d, /[ ,]/) }
				END { if (v == "") exit 1; print v, d[1] }' >"$memo.$$"
		mv "$memo.$$" "$memo"
	fi
	cat "$memo"
}
