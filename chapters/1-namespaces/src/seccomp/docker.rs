//! Docker's default profile as data: everything is forbidden (EPERM) but what is listed; some calls
//! only with a capability that would be useless without them.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator as Op, LinuxSyscall,
    LinuxSyscallBuilder,
};

/// Allowed to all.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
    ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
    getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
    getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
    get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount
    listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
    mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64
    prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev
    pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
    sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64
    sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask
    sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask
    uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid
    waitpid write writev process_vm_readv process_vm_writev ptrace";

/// Allowed on these machines.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &str = "arch_prctl modify_ldt";
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &str =
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";

/// Allowed with a capability.
const WITH: [(Capability, &str); 14] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount \
         mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// The clone flags that make namespaces, but for the time namespace: `CLONE_NEWNS` ... `CLONE_NEWNET`.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// docker's default profile for a container with these capabilities in its bounding set.
pub fn profile(capabilities: &Capabilities) -> LinuxSeccomp {
    let allow = |names: &str, args| rule(names, Action::ScmpActAllow, None, args);
    let mut rules = vec![allow(ALLOWED, vec![]), allow(ALLOWED_HERE, vec![])];
    // AF_VSOCK speaks to the hypervisor, past every network namespace.
    rules.push(allow("socket", vec![arg(0, libc::AF_VSOCK as u64, Op::ScmpCmpNe, None)]));
    // Linux, 32 bits, old uname, both; and "tell me" (personality(2)).
    for persona in [0, 0x8, 0x20000, 0x20008, 0xffff_ffff] {
        rules.push(allow("personality", vec![arg(0, persona, Op::ScmpCmpEq, None)]));
    }
    for (capability, names) in WITH {
        if capabilities.contains(&capability) {
            rules.push(allow(names, vec![]));
        }
    }
    if !capabilities.contains(&Capability::SysAdmin) {
        rules.push(allow("clone", vec![arg(0, NEW_NAMESPACES, Op::ScmpCmpMaskedEq, Some(0))]));
        // Its flags are in memory, where a filter cannot look. "No such call" makes libc use clone.
        rules.push(rule("clone3", Action::ScmpActErrno, Some(libc::ENOSYS as u32), vec![]));
    }
    let architectures = match cfg!(target_arch = "x86_64") {
        true => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        false => vec![Arch::ScmpArchAarch64],
    };
    LinuxSeccompBuilder::default()
        .default_action(Action::ScmpActErrno)
        .default_errno_ret(libc::EPERM as u32)
        .architectures(architectures)
        .syscalls(rules)
        .build()
        .unwrap_or_default()
}

fn rule(names: &str, action: Action, errno: Option<u32>, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let mut rule = LinuxSyscallBuilder::default().names(names).action(action).build().unwrap_or_default();
    rule.set_errno_ret(errno);
    rule.set_args((!args.is_empty()).then_some(args));
    rule
}

fn arg(index: usize, value: u64, op: Op, two: Option<u64>) -> LinuxSeccompArg {
    let mut arg = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
    if let Some(two) = two {
        arg = arg.value_two(two);
    }
    arg.build().unwrap_or_default()
}
