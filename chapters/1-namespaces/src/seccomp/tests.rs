//! Filters are run here by a small interpreter of the instructions that we emit: every number and
//! many arguments, against what the rules say.

use super::{bpf::*, *};
use oci_spec::runtime::{Capabilities, Capability};

/// Runs a program on a call, as the kernel would.
fn run(program: &Program, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    args.iter().for_each(|a| data.extend(a.to_le_bytes()));
    let (mut at, mut a) = (0usize, 0u32);
    loop {
        let i = program.code[at];
        at += 1;
        let mut branch = |yes: bool| at += usize::from(if yes { i.yes } else { i.no });
        match i.code {
            LOAD => a = u32::from_le_bytes(data[i.k as usize..][..4].try_into().unwrap()),
            AND => a &= i.k,
            JUMP => at += i.k as usize,
            EQUAL => branch(a == i.k),
            GREATER => branch(a > i.k),
            AT_LEAST => branch(a >= i.k),
            RETURN => return i.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}

fn parse(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const fn errno(n: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | n as u32
}

#[test]
fn dockers_profile_call_by_call() {
    let filter = docker_profile(&Capabilities::from([Capability::SysChroot]));
    let program = compile(&filter).unwrap();
    assert!(program.len() < 520, "{} instructions", program.len());
    for (name, x86_64, i386, _) in syscalls::TABLE {
        let rule = filter.syscalls().as_ref().unwrap().iter().find(|r| r.names().iter().any(|n| n == name));
        let newest = if name.ends_with("xattrat")
            || ["open_tree_attr", "file_getattr", "file_setattr"].contains(&name)
        {
            continue; // at the profile's end: see the next test
        } else {
            errno(libc::EPERM)
        };
        let expected = match (name, rule) {
            ("clone3", _) => errno(libc::ENOSYS),
            (_, None) => newest,
            (_, Some(_)) => ALLOW,
        };
        for (arch, number) in [(AUDIT_X86_64, x86_64), (AUDIT_I386, i386)] {
            if number >= 0 {
                assert_eq!(run(&program, arch, number as u32, [0; 6]), expected, "{name}");
            }
        }
    }
}

#[test]
fn what_the_profile_cannot_know_does_not_exist() {
    let program = compile(&docker_profile(&Capabilities::new())).unwrap();
    assert_eq!(run(&program, AUDIT_X86_64, 600, [0; 6]), errno(libc::ENOSYS));
    assert_eq!(run(&program, AUDIT_X86_64, u32::MAX, [0; 6]), errno(libc::EPERM));
    assert_eq!(run(&program, AUDIT_AARCH64, 0, [0; 6]), KILL);
}

#[test]
fn x32_is_its_own_set_of_numbers() {
    let program = compile(&docker_profile(&Capabilities::new())).unwrap();
    assert_eq!(run(&program, AUDIT_X86_64, X32_BIT, [0; 6]), ALLOW); // read
    assert_eq!(run(&program, AUDIT_X86_64, X32_BIT | 520, [0; 6]), ALLOW); // execve
    assert_eq!(run(&program, AUDIT_X86_64, X32_BIT | 165, [0; 6]), errno(libc::EPERM)); // mount
    let strict = parse(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
    );
    let program = compile(&strict).unwrap();
    assert_eq!(run(&program, AUDIT_X86_64, X32_BIT | 165, [0; 6]), KILL);
    assert_eq!(run(&program, AUDIT_X86_64, 165, [0; 6]), errno(libc::EPERM));
    assert_eq!(run(&program, AUDIT_I386, 3, [0; 6]), KILL);
}

#[test]
fn clone_with_namespaces_and_vsock_are_forbidden() {
    let program = compile(&docker_profile(&Capabilities::new())).unwrap();
    let call = |n, first| run(&program, AUDIT_X86_64, n, [first, 0, 0, 0, 0, 0]);
    assert_eq!(call(56, libc::SIGCHLD as u64), ALLOW);
    assert_eq!(call(56, libc::CLONE_NEWUSER as u64), errno(libc::EPERM));
    assert_eq!(call(41, libc::AF_INET as u64), ALLOW);
    assert_eq!(call(41, libc::AF_VSOCK as u64), errno(libc::EPERM));
    assert_eq!(call(135, 0xffff_ffff), ALLOW);
    assert_eq!(call(135, 0xffff_ffff_ffff_ffff), errno(libc::EPERM));
    assert_eq!(call(135, 1), errno(libc::EPERM));
}

#[test]
fn every_operator_against_arithmetic() {
    let interesting = [0, 1, 2, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x2_0000_0000, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 7] = [
        ("SCMP_CMP_EQ", |a, v| a == v),
        ("SCMP_CMP_NE", |a, v| a != v),
        ("SCMP_CMP_LT", |a, v| a < v),
        ("SCMP_CMP_LE", |a, v| a <= v),
        ("SCMP_CMP_GT", |a, v| a > v),
        ("SCMP_CMP_GE", |a, v| a >= v),
        ("SCMP_CMP_MASKED_EQ", |a, v| a & v == 1),
    ];
    for (name, holds) in operators {
        for value in interesting {
            // Two conditions: the second argument must be 7.
            let filter = parse(&format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"],
                    "action": "SCMP_ACT_ERRNO", "errnoRet": 9, "args": [
                    {{"index": 0, "value": {value}, "valueTwo": 1, "op": "{name}"}},
                    {{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}}]}}]}}"#
            ));
            let program = compile(&filter).unwrap();
            for arg in interesting {
                for second in [7, 8, 0x7_0000_0007] {
                    let both = holds(arg, value) && second == 7;
                    let expected = if both { errno(9) } else { ALLOW };
                    let got = run(&program, AUDIT_X86_64, 0, [arg, second, 0, 0, 0, 0]);
                    assert_eq!(got, expected, "{arg:#x} {name} {value:#x}, {second}");
                }
            }
        }
    }
}

#[test]
fn two_conditions_on_one_argument_are_alternatives() {
    let filter = parse(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL_PROCESS",
            "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]}]}"#,
    );
    let program = compile(&filter).unwrap();
    let got = [3, 4, 5].map(|fd| run(&program, AUDIT_X86_64, 0, [fd, 0, 0, 0, 0, 0]));
    assert_eq!(got, [KILL, ALLOW, KILL]);
}

#[test]
fn what_we_do_not_do_is_refused() {
    for json in [
        r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock",
            "syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
    ] {
        assert!(compile(&parse(json)).is_err(), "{json}");
    }
}

#[test]
fn the_table_is_sorted() {
    assert!(syscalls::TABLE.is_sorted_by(|a, b| a.0 < b.0));
}
