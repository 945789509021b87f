#!/usr/bin/env bash
# The public validation suites, for any OCI runtime:
#
#   tests/suites/run.sh runtime-tools|crun|runc [RUNTIME [TEST...]]
#
# As root on Debian 12. The sources come from Debian's archive, checked by apt; they are built once, below $SUITES
# (/var/tmp/teu-suites). RUNTIME is ours if none is named, and TEST is a program of runtime-tools or a file of the other two.
# README.md beside this file says how the suites are run, what came out, and why what fails does.
set -euo pipefail
shopt -s nullglob

here=$(cd "$(dirname "$0")" && pwd)
work=${SUITES:-/var/tmp/teu-suites}
go=$work/go/src/github.com

die() { echo "$*" >&2; exit 2; }

suite=${1:-}
case $suite in
runtime-tools | crun | runc) shift ;;
*) die "usage: $0 runtime-tools|crun|runc [RUNTIME [TEST...]]" ;;
esac
[ "$(id -u)" = 0 ] || die "be root: the suites make namespaces, mounts and groups on the host"

# Everything happens in a mount namespace of its own. crun 1.8.1 refuses a host whose v2 tree lies beside v1 trees, so there it
# is taken away: all runtimes see the same host.
if [ -z "${SUITES_APART:-}" ]; then
	SUITES_APART=1 exec unshare --mount --propagation private "$0" "$suite" "$@"
fi
if mountpoint -q /sys/fs/cgroup/unified; then
	umount /sys/fs/cgroup/unified
	mount -t tmpfs tmpfs /sys/fs/cgroup/unified # runc writes into what is left there
fi
# crun gives the /dev/null that is its standard input to the container's user.
trap 'chown 0:0 /dev/null' EXIT

runtime=${1:-}
if [ -z "$runtime" ]; then
	cargo build --quiet --release --manifest-path "$here/../../Cargo.toml" -p cgroups
	runtime=$(cargo metadata --no-deps --format-version 1 --manifest-path "$here/../../Cargo.toml" |
		jq -r .target_directory)/release/cgroups
fi
runtime=$(command -v "$runtime") || die "$1 is no program"
runtime=$(realpath "$runtime")
wanted=("${@:2}")

# --- what is needed ---

need() {
	local missing=() package
	for package in "$@"; do
		dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
	done
	[ ${#missing[@]} = 0 ] || die "install what the suite needs: apt-get install --no-install-recommends ${missing[*]}"
}

# source NAME VERSION DIRECTORY: a source package's own archive, by an apt that knows the source lists of both releases.
source_of() {
	[ -d "$3" ] && return
	local apt=$work/apt key=/usr/share/keyrings/debian-archive-keyring.gpg release archive
	mkdir -p "$apt"/{lists,cache} "$work/archives"
	# Sources come from where this machine has its packages from.
	archive=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -n 1)
	[ -n "$archive" ] || die "apt knows no archive of bookworm: run apt-get update"
	for release in bookworm trixie; do
		echo "deb-src [signed-by=$key] $archive $release main"
	done >"$apt/sources.list"
	local options=(-q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=-
		-o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root)
	[ -e "$apt/updated" ] || apt-get "${options[@]}" update
	touch "$apt/updated"
	(cd "$work/archives" && apt-get "${options[@]}" source --tar-only "$1=$2")
	mkdir -p "$3.new"
	tar -C "$3.new" --strip-components 1 -xf "$work/archives/$1_${2%-*}".orig.tar.xz
	mkdir -p "$(dirname "$3")"
	mv "$3.new" "$3"
}

# Without the network: the libraries are Debian's packages.
go_build() {
	GO111MODULE=off GOPATH=$work/go:/usr/share/gocode GOCACHE=$work/cache GOFLAGS= go build "$@"
}

# --- how the results are counted ---

# count FILE: TAP lines of one program. What is to do (TODO) is no failure.
passed=0 failed=0 skipped=0 failures=()
count() {
	local name=$1 line
	while IFS= read -r line; do
		case $line in
		*"# TODO"*) ;;
		"not ok "*) failed=$((failed + 1)) failures+=("$name: ${line#not ok }") ;;
		"ok "*"# skip"* | "ok "*[#]SKIP* | "ok "*"# SKIP"*) skipped=$((skipped + 1)) ;;
		"ok "*) passed=$((passed + 1)) ;;
		esac
	done
}

is_wanted() {
	[ ${#wanted[@]} = 0 ] || [[ " ${wanted[*]} " == *" $1 "* ]]
}

results=$work/results/$suite-$(basename "$runtime")
mkdir -p "$results"

# --- the suites ---

runtime_tools() {
	need golang-go golang-github-blang-semver-dev golang-github-google-uuid-dev golang-github-hashicorp-go-multierror-dev \
		golang-github-mrunalp-fileutils-dev golang-github-opencontainers-selinux-dev golang-github-opencontainers-specs-dev \
		golang-github-sirupsen-logrus-dev golang-github-urfave-cli-dev golang-github-xeipuuv-gojsonschema-dev \
		golang-gocapability-dev jq
	local tools=$go/opencontainers/runtime-tools program name
	source_of golang-github-opencontainers-runtime-tools 0.9.0.109.ge931285-1 "$tools"
	mkdir -p "$go/mndrix/tap-go"
	cp "$here/tap/tap.go" "$go/mndrix/tap-go/"
	cd "$tools"
	[ -e runtimetest ] || go_build -tags "netgo osusergo" -ldflags "-extldflags -static" -o runtimetest ./cmd/runtimetest
	# Its state is kept apart from that of the host's containers.
	printf '#!/bin/sh\nexec %q --root %q "$@"\n' "$runtime" "$work/state" >"$work/runtime"
	chmod +x "$work/runtime"
	for program in validation/*/; do
		name=$(basename "$program")
		[ "$name" != util ] && is_wanted "$name" || continue
		[ -e "$program/$name.t" ] || go_build -o "$program/$name.t" "./$program"
		local status=0 before=$failed
		RUNTIME=$work/runtime timeout 120 "$program/$name.t" >"$results/$name" 2>&1 </dev/null || status=$?
		count "$name" <"$results/$name"
		programs=$((programs + 1))
		if [ $status != 0 ] && [ $before = $failed ]; then
			failed=$((failed + 1)) failures+=("$name: exit code $status")
		fi
		[ $before = $failed ] || bad=$((bad + 1))
	done
	echo "$bad of $programs programs with a failure"
}

crun_tests() {
	need gcc libc6-dev libseccomp-dev python3 jq
	source_of crun 1.8.1-1+deb12u1 "$work/crun"
	cd "$work/crun"
	if [ ! -e tests/init ]; then
		printf '#define HAVE_SECCOMP 1\n#define HAVE_ERROR_H 1\n' >config.h
		gcc -static -I. -o tests/init tests/init.c
	fi
	local file name
	for file in tests/test_*.py; do
		name=$(basename "$file" .py)
		is_wanted "$name" || continue
		OCI_RUNTIME=$runtime INIT=$PWD/tests/init timeout 300 /usr/bin/python3 "$file" \
			>"$results/$name" 2>"$results/$name.log" </dev/null || true
		count "$name" <"$results/$name"
	done
}

runc_tests() {
	need bats busybox-static gawk gcc libc6-dev libseccomp-dev pkg-config golang-go golang-github-opencontainers-runc-dev \
		golang-github-urfave-cli-dev jq
	local sources=$go/opencontainers/runc helper file name
	source_of runc 1.1.5+ds1-1+deb12u1 "$sources"
	cd "$sources"
	for helper in recvtty sd-helper seccompagent; do
		[ -e contrib/cmd/$helper/$helper ] ||
			(cd contrib/cmd/$helper && go_build -tags seccomp -o $helper .)
	done
	cd tests/integration
	images testdata "$(go env GOARCH)"
	for file in *.bats; do
		name=${file%.bats}
		is_wanted "$name" || continue
		# On a terminal, since runc's own "run" wants one. (A helper that a failed test left behind keeps bats waiting.)
		RUNC=$runtime timeout 180 script -qec "bats --tap $file" /dev/null </dev/null | tr -d '\r' >"$results/$name" || true
		count "$name" <"$results/$name"
	done
}

# The images that runc's tests would download, made of this machine's programs.
images() {
	local to root applet file
	to=$(realpath "$1") root=$work/image
	if [ ! -e "$to/busybox-$2.tar.xz" ]; then
		rm -rf "$root"
		# No proc and no sys, as in docker's: the tests make links of those names.
		mkdir -p "$root"/{bin,dev,etc,home,root,tmp,usr/bin,usr/sbin,var}
		cp /bin/busybox "$root/bin/"
		for applet in $(/bin/busybox --list); do
			[ "$applet" = busybox ] || ln "$root/bin/busybox" "$root/bin/$applet"
		done
		chmod 1777 "$root/tmp"
		printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n' >"$root/etc/passwd"
		printf 'root:x:0:\ndaemon:x:1:\n' >"$root/etc/group"
		tar -C "$root" -cJf "$to/busybox-$2.tar.xz" .
	fi
	if [ ! -e "$to/hello-world-$2.tar.xz" ] && [ ! -e "$to/hello-world-$2.tar" ]; then
		rm -rf "$root"
		mkdir -p "$root"
		echo '#include <stdio.h>
			int main(void) { puts("Hello from Docker!"); return 0; }' | gcc -static -x c -o "$root/hello" -
		tar -C "$root" -cf "$to/hello-world-$2.tar" .
	fi
	if [ ! -e "$to/debian-$2.tar.xz" ]; then
		rm -rf "$root"
		mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{dev,etc,proc,sys,tmp,var/cache/ldconfig}
		ln -s usr/bin usr/sbin usr/lib usr/lib64 "$root/"
		for file in /bin/sh /bin/grep /bin/cat /sbin/ldconfig; do
			cp -L "$file" "$root$file"
			for file in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
				mkdir -p "$root$(dirname "$file")"
				cp -L "$file" "$root$file"
			done
		done
		cp -r /etc/ld.so.conf /etc/ld.so.conf.d "$root/etc/"
		tar -C "$root" -cJf "$to/debian-$2.tar.xz" .
	fi
}

programs=0 bad=0
case $suite in
runtime-tools) runtime_tools ;;
crun) crun_tests ;;
runc) runc_tests ;;
esac

[ ${#failures[@]} = 0 ] || printf 'failed: %s\n' "${failures[@]}"
echo "$suite with $runtime: $passed passed, $failed failed, $skipped skipped (output in $results)"
