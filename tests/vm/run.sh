#!/bin/sh
# run.sh [PACKAGE...] - the packages' tests as root on pure cgroup v2, in a virtual machine. By default those of namespaces and
# cgroups, the engine's tests that depend on control groups (limits, crash), what the book types on this version, and the
# exercises that are about it (lab).
#
# Left out, unless TEU_VM_ALL is set: the peers (docker's, podman's and containerd's own programs take most of the time here, and
# what they ask of the runtime is the same on both versions). Not run here at all: the layers, the builder and the registry,
# which know no control groups; the long soak; what needs a network.
#
# Most machines have either version of control groups, and what is written for the other one stays untested there. So
# this builds the tests here, boots Debian's own kernel under qemu (in software: /dev/kvm is not needed), and runs them
# all in that one boot. The guest sees this machine's files read-only with a layer in memory above them, so that
# every program and library is there and nothing is changed. Its exit status is the tests'.
#
# Needs the packages: qemu-system-x86 linux-image-amd64 busybox-static cpio kmod xz-utils. Without them it is skipped.
set -eu
cd "$(dirname "$0")/../.."

skip() {
    echo "skipped: the tests on cgroup v2 need $1"
    [ "${CI:-}" != true ]
    exit
}
PATH=$PATH:/usr/sbin:/sbin
for program in qemu-system-x86_64 busybox cpio modprobe xz; do
    command -v $program >/dev/null || skip "the program $program"
done
file -L "$(command -v busybox)" 2>/dev/null | grep -q dynamic && skip "a static busybox (package busybox-static)"
version=
for kernel in $(ls -v /boot/vmlinuz-* 2>/dev/null); do
    [ -e "/lib/modules/${kernel#/boot/vmlinuz-}/modules.dep" ] && version=${kernel#/boot/vmlinuz-}
done
[ -n "$version" ] || skip "a kernel with its modules in /boot and /lib/modules (package linux-image-amd64)"

# Built here, where the compiler is fast. cargo names each test program in a line of JSON.
[ $# -gt 0 ] || set -- namespaces cgroups book lab
# All are asked for, as `cargo test` does it: for a few packages alone it would compile the libraries once more, with fewer features.
built=
[ "$*" = lab ] || built=$(cargo test --workspace --no-run --message-format=json | grep '"profile":{[^}]*"test":true')
# Of a package, those whose name has this in it.
programs() {
    echo "$built" | grep "#$1@\|/$1#[0-9]" | grep "\"name\":\"${2:-}" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}
tests='' answers=''
for package in "$@"; do
    if [ "$package" = lab ]; then
        # Its own tests are of the grader; here the exercises are judged for which the version of control groups makes a difference:
        # all answers to the one that is about version 2 alone, and of the others the engine's own.
        lab=$(cargo build --workspace --bin lab --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
        answers=$(dirname "$lab")/lab-answers
        rm -rf "$answers"
        "$lab" verify --build "$answers/all" hand-down
        "$lab" verify --build "$answers/own" --own group memory cpu stats kill
        continue
    fi
    # Of the book, only its transcripts are about this machine.
    only=$([ "$package" != book ] || echo transcripts)
    tests="$tests $(programs "$package" "$only")"
    [ "$package" != cgroups ] || tests="$tests $(programs teu limits) $(programs teu crash)"
done
[ -n "${TEU_VM_ALL:-}" ] || tests=$(echo "$tests" | tr ' ' '\n' | grep -v /peers-)
[ -n "$tests$answers" ] || { echo "no test was built"; exit 1; }
target=$([ -z "$answers" ] || dirname "$answers")
[ -n "$target" ] || target=$(dirname "$(dirname "$(echo $tests | cut -d' ' -f1)")")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/modules"
cp "$(command -v busybox)" "$work/bin/busybox"

# What the kernel needs to see the host's files, each module after those that it needs itself.
for module in virtio_pci 9pnet_virtio 9p overlay; do
    modprobe -S "$version" --show-depends $module
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$work/order"
number=100
while read -r module; do
    number=$((number + 1))
    case $module in
        *.xz) xz -dc "$module" ;;
        *.zst) zstd -dc "$module" ;;
        *) cat "$module" ;;
    esac >"$work/modules/$number.ko"
done <"$work/order"

cat >"$work/init" <<'EOF'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /host /layer /new
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 host /host
mount -t tmpfs -o size=70% layer /layer; mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /new
for tree in /proc /sys /dev; do mount --move $tree /new$tree; done
cp /guest /new/guest
exec switch_root /new /bin/sh /guest
EOF
chmod +x "$work/init"

cat >"$work/guest" <<EOF
export PATH=$PATH HOME=/root TEU_VM=1 TEU_SOAK=20
modules="overlay veth bridge tun nf_tables nft_masq nft_chain_nat loop fuse"
tests="$(echo $tests)"
project="$PWD"
target="$target"
lab="${lab:-}" answers="$answers"
EOF
cat >>"$work/guest" <<'EOF'
exec </dev/null >/dev/ttyS0 2>&1
stty -F /dev/ttyS0 -onlcr
# The project itself may lie below one of the directories that are made new here.
mkdir /project /target; mount --bind "$project" /project; mount --bind "$target" /target
for directory in /tmp /run /var/tmp /dev/shm; do mkdir -p $directory; mount -t tmpfs -o mode=1777 tmp $directory; done
mkdir -p "$project"; mount --bind /project "$project"
mkdir -p "$target"; mount --bind /target "$target"
mkdir -p /dev/pts; mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ip link set lo up; hostname vm
modprobe -a $modules
failed=0
for test in $tests; do
    echo "== $test, on cgroup v2"
    # Cargo runs a package's tests in its directory, and so do we.
    begun=$(cut -d. -f1 /proc/uptime)
    some=$(case $test in */transcripts-*) echo _on_v2 ;; esac)
    $test --color never $some || failed=$((failed + 1))
    echo "== took $(($(cut -d. -f1 /proc/uptime) - begun)) s"
done
for built in ${answers:+"$answers"/*}; do
    echo "== the exercises, on cgroup v2: $built"
    TEU_LAB_SLOW=10 $lab verify --built $built || failed=$((failed + 1))
done
# The tests' verdict is the exit status of qemu: its debug port takes a byte and ends the machine with twice that, plus one.
sync
[ $failed -lt 100 ] || failed=100
printf "\\$(printf %03o $failed)" | dd of=/dev/port bs=1 seek=244 2>/dev/null
/bin/busybox poweroff -f
EOF
(cd "$work" && find . | cpio -o -H newc --quiet | gzip -1) >"$work.initrd"
trap 'rm -rf "$work" "$work.initrd"' EXIT

# Where /dev/kvm can be relied on (inside another virtual machine it often cannot): TEU_VM_ACCELERATE=kvm.
accelerate=${TEU_VM_ACCELERATE:-tcg}
status=0
timeout "${TEU_VM_SECONDS:-1800}" qemu-system-x86_64 -accel $accelerate -cpu max -smp "$(nproc)" -m "${TEU_VM_MEMORY:-1024}" -nodefaults \
    -display none -no-reboot -kernel "/boot/vmlinuz-$version" -initrd "$work.initrd" -serial stdio \
    -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all swapaccount=1 mitigations=off random.trust_cpu=on no_timer_check" \
    -device isa-debug-exit,iobase=0xf4,iosize=0x04 -device virtio-rng-pci \
    -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=host,mount_tag=host </dev/null || status=$?
case $status in
    124) echo "the virtual machine did not end in time"; exit 1 ;;
    0 | *[02468]) echo "the virtual machine ended before the tests did (qemu: $status)"; exit 1 ;;
esac
failed=$((status / 2))
[ $failed = 0 ] || echo "$failed test programs failed on cgroup v2"
exit $((failed > 0))
