//! What the public validation suites of the runtime world ask for (runtime-tools' validation, youki's contest, and the
//! integration tests of runc and crun), case by case, in our own words.
//!
//! `TEU_RUNTIME=runc cargo test -p cgroups --test conformance` asks another runtime the same.
#![allow(clippy::unwrap_used)]

mod bundle;

use bundle::{Bundle, text, wait_for};
use kit::{Case, Need, code};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    process::Output,
};

fn main() {
    let root = &[Need::Root];
    let v1 = &[Need::CgroupV1];
    kit::run(vec![
        // --- process ---
        Case::new("of_two_variables_of_one_name_the_last_counts", root, || {
            let env = |c: &mut Value| {
                c["process"]["args"] = json!(["env"]);
                c["process"]["env"] = json!(["ONE=two", "ONE=", "HOME=/no", "HOME=", "PATH=/usr/bin:/bin"]);
            };
            assert_eq!(says(env, "").split_whitespace().count(), 3, "ONE, PATH, HOME");
            assert!(says(env, "").contains("HOME=/\n"));
        }),
        Case::new("capabilities_are_bounded", root, || {
            let told = says(
                |c| {
                    c["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"],
                        "effective": ["CAP_KILL"], "permitted": ["CAP_SYS_ADMIN", "CAP_KILL"]});
                },
                "grep Cap /proc/self/status",
            );
            for (set, bits) in [("Inh", 0), ("Prm", 1 << 21), ("Eff", 1 << 21), ("Bnd", 1 << 21), ("Amb", 0)]
            {
                assert!(told.contains(&format!("Cap{set}:\t{bits:016x}")), "{told}");
            }
        }),
        Case::new("unknown_capabilities_are_no_error", root, || {
            let unknown = |c: &mut Value| {
                c["process"]["capabilities"]["bounding"] = json!(["CAP_UNKNOWN", "UNKNOWN_CAP"]);
            };
            assert!(says_raw(unknown, "grep Cap /proc/self/status").contains("CapBnd:\t0000000000000000"));
        }),
        Case::new("it_may_run_on_all_cpus_again", &[Need::Root, Need::Program("taskset")], || {
            let b = Bundle::new("grep Cpus_allowed_list /proc/self/status");
            let all = fs::read_to_string("/proc/self/status").unwrap();
            let all = all.lines().find(|l| l.starts_with("Cpus_allowed_list")).unwrap().to_owned();
            assert_eq!(pinned(&b, &["run", "-b", "BUNDLE", "ID"]).trim(), all);
            let b = live(|_| {});
            assert_eq!(
                pinned(&b, &["exec", "ID", "grep", "Cpus_allowed_list", "/proc/self/status"]).trim(),
                all
            );
        }),
        Case::new("io_priority_is_also_of_exec", &[Need::Root, Need::Program("ionice")], || {
            let b = live(|c| c["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 4}));
            assert_eq!(b.ok(&["exec", "ID", "ionice", "-p", "1"]).trim(), "best-effort: prio 4");
            assert_eq!(b.ok(&["exec", "ID", "ionice"]).trim(), "best-effort: prio 4");
            let idle = json!({"args": ["ionice"], "cwd": "/", "env": ["PATH=/usr/bin:/bin"], "ioPriority": {"class": "IOPRIO_CLASS_IDLE"}});
            assert_eq!(exec_process(&b, &idle).trim(), "idle");
        }),
        Case::new("exec_on_chosen_cpus", root, || {
            let b = live(|_| {});
            let on = |affinity: Value| {
                let args = ["grep", "Cpus_allowed_list", "/proc/self/status"];
                let process = json!({"args": args, "cwd": "/", "env": ["PATH=/usr/bin:/bin"], "execCPUAffinity": affinity});
                exec_process(&b, &process).split_whitespace().last().unwrap().to_owned()
            };
            // (What "initial" alone leaves in the end is the kernel's: some set it anew when a group is entered.)
            assert_eq!(on(json!({"final": "0"})), "0");
            // Where there is but one CPU, that is all of the difference that can be seen.
            let last = std::thread::available_parallelism().unwrap().get() - 1;
            assert_eq!(on(json!({"initial": "0", "final": last.to_string()})), last.to_string());
        }),
        Case::new("scheduler_is_also_of_exec", &[Need::Root, Need::Program("chrt")], || {
            let b = live(|c| c["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 19}));
            assert!(b.ok(&["exec", "ID", "chrt", "-p", "1"]).contains("SCHED_BATCH"));
            assert!(b.ok(&["exec", "ID", "sh", "-c", "chrt -p $$"]).contains("SCHED_BATCH"));
        }),
        Case::new("a_scheduler_that_needs_all_cpus_is_explained", v1, || {
            let told = fails(
                |c| {
                    c["linux"]["resources"]["cpu"] = json!({"cpus": "0"});
                    c["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 1_000_000, "period": 1_000_000});
                },
                "true",
            );
            assert!(told.contains("scheduler"), "{told}");
        }),
        Case::new("personality_is_also_of_exec", root, || {
            let linux32 = |c: &mut Value| c["linux"]["personality"] = json!({"domain": "LINUX32"});
            assert!(says(linux32, "uname -m").contains("i686"));
            assert!(live(linux32).ok(&["exec", "ID", "uname", "-m"]).contains("i686"));
            let linux = |c: &mut Value| c["linux"]["personality"] = json!({"domain": "LINUX", "flags": []});
            assert!(says(linux, "uname -m").contains("x86_64"));
        }),
        Case::new("the_callers_groups_are_kept_only_when_asked_for", root, || {
            let groups = |keep: bool| {
                let b = Bundle::with("grep Groups /proc/self/status", |c| {
                    if keep {
                        c["annotations"] = json!({"run.oci.keep_original_groups": "1"});
                    }
                });
                let run = b.command(&["run", "-b", "BUNDLE", "ID"]);
                let output = std::process::Command::new("setpriv")
                    .args(["--groups", "1234,2345"])
                    .arg(run.get_program())
                    .args(run.get_args())
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{}", text(&output.stderr));
                text(&output.stdout).trim_start_matches("Groups:").trim().to_owned()
            };
            assert_eq!((groups(true).as_str(), groups(false).as_str()), ("1234 2345", ""));
        }),
        Case::new("umask", root, || {
            assert!(
                says(|c| c["process"]["user"]["umask"] = json!(63), "grep Umask /proc/self/status")
                    .contains("0077")
            );
        }),
        Case::new("a_user_may_be_at_home_where_root_may_be", root, || {
            let b = Bundle::with("true", |c| {
                c["process"]["cwd"] = json!("/home/private");
                c["process"]["user"] = json!({"uid": 42, "gid": 42});
            });
            fs::create_dir_all(b.path("rootfs/home/private")).unwrap();
            fs::set_permissions(b.path("rootfs/home/private"), fs::Permissions::from_mode(0o700)).unwrap();
            b.ok(&["run", "-b", "BUNDLE", "ID"]);
        }),
        Case::new("home_by_the_containers_passwd", root, || {
            let b = Bundle::with("echo $HOME", |c| c["process"]["user"] = json!({"uid": 2000, "gid": 0}));
            fs::write(b.path("rootfs/etc/passwd"), "t:x:2000:2000::/home/t:/bin/sh\n").unwrap();
            assert_eq!(b.ok(&["run", "-b", "BUNDLE", "ID"]), "/home/t\n");
        }),
        Case::new("additional_groups_of_exec", root, || {
            let b = live(|_| {});
            let line = [
                "exec",
                "--user",
                "1000:1000",
                "--additional-gids",
                "100",
                "--additional-gids",
                "65534",
                "ID",
                "id",
                "-G",
            ];
            assert_eq!(b.ok(&line).trim(), "1000 100 65534");
        }),
        Case::new("rlimits_that_may_be", root, || {
            let told = says(
                |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]),
                "ulimit -n; ulimit -H -n",
            );
            assert_eq!(told, "100\n200\n");
        }),
        Case::new("an_unknown_rlimit_is_an_error", root, || {
            fails_raw(
                |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_TEST", "soft": 1, "hard": 1}]),
                "true",
            );
        }),
        Case::new("oom_score", root, || {
            assert_eq!(
                says(|c| c["process"]["oomScoreAdj"] = json!(500), "cat /proc/self/oom_score_adj"),
                "500\n"
            );
        }),
        // --- exec ---
        Case::new("exec_needs_no_user_in_its_process", root, || {
            let b = live(|_| {});
            assert_eq!(exec_process(&b, &json!({"args": ["/bin/echo", "hi"], "cwd": "/"})), "hi\n");
        }),
        Case::new("exec_with_a_terminal_of_a_size", root, || {
            let b = live(|_| {});
            let process = json!({"args": ["/bin/sh", "-c", "stty size"], "cwd": "/", "terminal": true,
                "env": ["PATH=/usr/bin:/bin"], "consoleSize": {"height": 10, "width": 110}});
            assert!(exec_process(&b, &process).contains("10 110"));
        }),
        Case::new("exec_with_a_terminal_that_is_its_users", root, || {
            let b = live(|_| {});
            let told = b.ok(&["exec", "-t", "--user", "1000:100", "ID", "sh", "-c", "stat -c %u:%g $(tty)"]);
            assert!(told.contains("1000:5"), "{told}");
        }),
        Case::new("exec_that_cannot_be_is_255", root, || {
            let b = live(|_| {});
            assert_eq!(code(b.call(&["exec", "--pid-file", "/no/such/pid", "ID", "true"]).status), 255);
            assert_eq!(code(b.call(&["exec", "no-such-container", "true"]).status), 255);
            assert_eq!(code(b.call(&["exec", "ID", "false"]).status), 1);
        }),
        Case::new("exec_of_what_is_no_program_is_255", root, || {
            let b = live(|_| {});
            for program in ["no-such-program", "/etc"] {
                let output = b.call(&["exec", "ID", program]);
                assert_eq!(code(output.status), 255, "{program}: {}", text(&output.stderr));
            }
        }),
        Case::new("exec_in_a_paused_container_is_refused", root, || {
            let b = live(|_| {});
            b.ok(&["pause", "ID"]);
            let output = b.call(&["exec", "ID", "true"]);
            assert_eq!(code(output.status), 255);
            assert!(
                text(&output.stderr).contains("cannot exec in a paused container"),
                "{}",
                text(&output.stderr)
            );
        }),
        Case::new("exec_may_ignore_the_pause", root, || {
            let b = live(|_| {});
            b.ok(&["pause", "ID"]);
            let exec = b
                .command(&["exec", "--ignore-paused", "ID", "echo", "ok"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(300));
            b.ok(&["resume", "ID"]);
            assert_eq!(text(&exec.wait_with_output().unwrap().stdout), "ok\n");
        }),
        Case::new("exec_into_a_group_below", root, exec_cgroup),
        Case::new("exec_says_its_error_in_one_line", root, || {
            let b = live(|_| {});
            fs::write(b.path("rootfs/run.sh"), "#!/mmnnttbb foo\n").unwrap();
            fs::set_permissions(b.path("rootfs/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
            let told = b.fails(&["exec", "ID", "/run.sh"]);
            assert!(
                told.lines().count() == 1 && told.contains("exec /run.sh: no such file or directory"),
                "{told}"
            );
        }),
        Case::new("a_descriptor_to_preserve_must_be_there", root, || {
            let b = Bundle::new("true");
            let told = b.fails(&["run", "--preserve-fds", "1", "-b", "BUNDLE", "ID"]);
            assert!(told.contains("preserved-fd 0"), "{told}");
        }),
        Case::new("dev_null_of_the_host_stays_roots", root, || {
            // (Or whosever another runtime has made it: crun gives it away.)
            let owner = || std::os::unix::fs::MetadataExt::uid(&fs::metadata("/dev/null").unwrap());
            let (b, before) = (live(|_| {}), owner());
            b.ok(&["exec", "--user", "4321:4321", "ID", "true"]);
            assert_eq!(owner(), before);
        }),
        // --- the lifecycle ---
        Case::new("kill_all_of_a_stopped_container_is_no_error", root, || {
            let b = live(|_| {});
            b.ok(&["kill", "ID", "KILL"]);
            b.until("stopped");
            assert!(b.fails(&["kill", "ID", "0"]).contains("container not running"));
            b.ok(&["kill", "-a", "ID", "0"]);
            b.ok(&["ps", "ID"]);
        }),
        Case::new("without_a_pid_namespace_kill_is_for_all", root, || host_pid(false)),
        Case::new("also_when_the_first_process_is_gone", root, || host_pid(true)),
        Case::new("delete_by_a_regular_expression", root, || {
            let b = live(|_| {});
            b.ok(&["delete", "--force", "--regex", "^teu-test-none$"]);
            b.ok(&["state", "ID"]);
            let all = format!("^{}-?$", b.id);
            assert!(b.fails(&["delete", "--regex", &all]).contains("running"));
            b.ok(&["delete", "--force", "--regex", &all]);
            assert!(b.fails(&["state", "ID"]).contains("does not exist"));
            assert!(b.fails(&["delete", "--regex", "("]).contains("regular expression"));
        }),
        Case::new("delete_takes_a_process_out_of_a_frozen_group", v1, || {
            let b = live(|_| {});
            let group = Path::new("/sys/fs/cgroup/freezer").join(group("elsewhere").trim_start_matches('/'));
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.procs"), b.state()["pid"].to_string()).unwrap();
            fs::write(group.join("freezer.state"), "FROZEN").unwrap();
            let output = b.call(&["delete", "--force", "ID"]);
            fs::write(group.join("freezer.state"), "THAWED").unwrap();
            fs::remove_dir(&group).unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
        }),
        Case::new("without_a_process_it_is_created_and_not_started", root, || {
            let b = Bundle::with("true", |c| drop(c.as_object_mut().unwrap().remove("process")));
            b.ok(&["create", "-b", "BUNDLE", "ID"]);
            assert_eq!(b.state()["status"], "created");
            assert!(b.fails(&["start", "ID"]).contains("has no process"));
            assert_eq!(b.state()["status"], "created");
        }),
        Case::new("a_group_with_processes_below_is_refused", v1, || {
            let (b, name) = (in_group("below"), group("below"));
            let above = Path::new("/sys/fs/cgroup/memory").join(name.trim_start_matches('/'));
            fs::create_dir_all(above.join("inner")).unwrap();
            let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
            fs::write(above.join("inner/cgroup.procs"), child.id().to_string()).unwrap();
            let output = b.call(&["run", "-d", "-b", "BUNDLE", "ID"]);
            child.kill().unwrap();
            child.wait().unwrap();
            fs::remove_dir(above.join("inner")).unwrap();
            fs::remove_dir(above).unwrap();
            assert!(text(&output.stderr).contains("holds 1 processes"), "{}", text(&output.stderr));
        }),
        Case::new("version_is_told_in_lines", &[], || {
            let told = Bundle::new("true").ok(&["-v"]);
            assert!(told.starts_with("cgroups version ") && told.contains("\nspec: 1."), "{told}");
            assert!(told.lines().last().unwrap().split(' ').any(|word| word == "+SECCOMP"), "{told}");
        }),
        Case::new("run_keep", root, || {
            let b = Bundle::new("true");
            b.ok(&["run", "--keep", "-b", "BUNDLE", "ID"]);
            assert_eq!(b.state()["status"], "stopped");
            b.ok(&["delete", "ID"]);
        }),
        Case::new("list_is_one_line_of_json", root, || {
            let b = live(|_| {});
            let listed = b.ok(&["list", "--format", "json"]);
            assert!(listed.starts_with("[{\"ociVersion\":\"") && listed.lines().count() == 1, "{listed}");
        }),
        Case::new("events_begin_with_type_and_id", root, || {
            let b = live(|_| {});
            let told = b.ok(&["events", "--stats", "ID"]);
            assert!(
                told.starts_with(&format!("{{\"type\":\"stats\",\"id\":\"{}\",\"data\":", b.id)),
                "{told}"
            );
        }),
        Case::new("a_group_in_use_is_refused", root, || {
            let first = in_group("used");
            first.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
            let second = in_group("used");
            let told = second.fails(&["run", "-d", "-b", "BUNDLE", "ID"]);
            assert!(told.contains("container's cgroup is not empty"), "{told}");
        }),
        Case::new("a_frozen_group_is_refused", v1, || {
            let b = in_group("frozen");
            let group = Path::new("/sys/fs/cgroup/freezer").join(group("frozen").trim_start_matches('/'));
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("freezer.state"), "FROZEN").unwrap();
            let output = b.call(&["run", "-d", "-b", "BUNDLE", "ID"]);
            fs::write(group.join("freezer.state"), "THAWED").unwrap();
            let _ = fs::remove_dir(&group);
            assert_eq!(code(output.status), 1);
            assert!(text(&output.stderr).contains("unexpectedly frozen"), "{}", text(&output.stderr));
        }),
        Case::new("delete_takes_the_groups_below_along", v1, || {
            let b = in_group("nested");
            b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
            let below = Path::new("/sys/fs/cgroup/memory")
                .join(group("nested").trim_start_matches('/'))
                .join("below");
            fs::create_dir(&below).unwrap();
            fs::write(below.join("cgroup.procs"), b.state()["pid"].to_string()).unwrap();
            b.ok(&["delete", "--force", "ID"]);
            assert!(!below.exists());
        }),
        Case::new("unified_is_not_for_v1", v1, || {
            let told =
                fails(|c| c["linux"]["resources"]["unified"] = json!({"memory.min": "131072"}), "true");
            assert!(told.contains("invalid configuration"), "{told}");
        }),
        Case::new("a_pause_survives_an_update", root, || {
            let b = live(|_| {});
            b.ok(&["pause", "ID"]);
            b.ok(&["update", "--pids-limit", "30", "ID"]);
            assert_eq!(b.state()["status"], "paused");
            b.ok(&["resume", "ID"]);
        }),
        Case::new("quota_and_period_change_alone", root, quota_alone),
        Case::new("memory_and_swap_change", v1, || {
            let b = live(|c| {
                c["linux"]["resources"]["memory"] = json!({"limit": 33_554_432, "reservation": 25_165_824})
            });
            let read = |file: &str| {
                b.ok(&["exec", "ID", "cat", &format!("/sys/fs/cgroup/memory/{file}")]).trim().to_owned()
            };
            b.ok(&["update", "--memory", "50M", "ID"]);
            assert_eq!(read("memory.limit_in_bytes"), "52428800");
            b.ok(&["update", "ID", "--memory", "30M", "--memory-swap", "50M"]);
            b.ok(&["update", "ID", "--memory", "60M", "--memory-swap", "80M"]);
            assert_eq!(read("memory.memsw.limit_in_bytes"), "83886080");
            b.ok(&["update", "--memory", "-1", "ID"]);
            assert_eq!(read("memory.limit_in_bytes"), read("memory.memsw.limit_in_bytes"));
        }),
        Case::new("the_bundles_root_may_be_a_dot", root, || {
            let b = Bundle::with("true", |c| c["root"]["path"] = json!("."));
            for name in ["usr", "bin", "lib", "lib64", "sbin", "etc", "tmp", "proc", "dev", "sys"] {
                fs::create_dir_all(b.path(name)).unwrap();
            }
            b.ok(&["run", "-b", "BUNDLE", "ID"]);
        }),
        Case::new("a_pidfd_by_socket", root, pidfd_socket),
        // --- hooks ---
        Case::new("the_hook_that_failed_is_named", root, || {
            for hook in ["prestart", "createRuntime", "createContainer", "startContainer"] {
                let told = fails(
                    |c| c["hooks"] = json!({hook: [{"path": "/bin/true"}, {"path": "/bin/false"}]}),
                    "echo ran",
                );
                assert!(told.contains(&format!("error running {hook} hook #1:")), "{told}");
            }
        }),
        Case::new("a_start_container_hook_that_fails_destroys_the_container", root, || {
            let b =
                Bundle::with("true", |c| c["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]}));
            b.ok(&["create", "-b", "BUNDLE", "ID"]);
            assert!(b.fails(&["start", "ID"]).contains("startContainer hook #0"));
            assert!(b.fails(&["state", "ID"]).contains("does not exist"));
        }),
        Case::new("a_create_container_hook_begins_in_the_root", root, || {
            let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "touch ./tmp/touched"]}]);
            says(|c| c["hooks"] = json!({"createContainer": hook}), "test -e /tmp/touched");
        }),
        Case::new("a_start_container_hook_has_the_programs_environment", root, || {
            let hook = |env: Value, test: &str| {
                let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", test], "env": env}]);
                says_raw(
                    |c| {
                        c["process"]["env"] = json!(["ONE=two", "PATH=/usr/bin:/bin"]);
                        c["hooks"] = json!({"startContainer": hook});
                    },
                    "true",
                );
            };
            hook(Value::Null, "test \"$ONE\" = two");
            hook(json!(["HOOK=value"]), "test \"$HOOK\" = value && test -z \"$ONE\"");
        }),
        Case::new("hooks_are_told_of_a_start_that_is_over", root, || {
            let b = Bundle::new("exit 0");
            let mut config = b.config();
            let hook = |name: &str| {
                let file = b.path(name);
                json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("sleep 0.1; cat >{}", file.display())]}])
            };
            config["hooks"] = json!({"prestart": hook("prestart"), "poststart": hook("poststart")});
            b.write(&config);
            b.ok(&["create", "-b", "BUNDLE", "ID"]);
            let pid = b.state()["pid"].clone();
            b.ok(&["start", "ID"]);
            for (name, status) in [("prestart", "created"), ("poststart", "running")] {
                let told: Value = serde_json::from_slice(&fs::read(b.path(name)).unwrap()).unwrap();
                assert_eq!((&told["status"], &told["pid"]), (&json!(status), &pid), "{name}");
            }
        }),
        Case::new("a_bound_on_descriptors_may_be_too_high", root, || {
            Bundle::new("true").ok(&["run", "--preserve-fds", "100", "-b", "BUNDLE", "ID"]);
        }),
        Case::new("the_filter_is_on_the_start_container_hook", root, || {
            let told = fails(
                |c| {
                    c["process"]["noNewPrivileges"] = json!(true);
                    c["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
                    filter(c, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]));
                    c["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "mkdir /dev/shm/foo"]}]});
                },
                "true",
            );
            assert!(
                told.contains("error running startContainer hook")
                    && told.to_lowercase().contains("bad system call"),
                "{told}"
            );
        }),
        // --- mounts ---
        Case::new("a_tmpfs_has_the_mode_of_what_it_covers", root, || {
            let at = |options: Value| {
                Bundle::with("stat -c %a /tmp/test", |c| {
                    mount(
                        c,
                        json!({"destination": "/tmp/test", "type": "tmpfs", "source": "tmpfs", "options": options}),
                    );
                })
            };
            let b = at(json!([]));
            fs::create_dir_all(b.path("rootfs/tmp/test")).unwrap();
            fs::set_permissions(b.path("rootfs/tmp/test"), fs::Permissions::from_mode(0o3710)).unwrap();
            assert_eq!(b.ok(&["run", "-b", "BUNDLE", "ID"]), "3710\n");
            let b = at(json!(["mode=0444"]));
            assert_eq!(b.ok(&["run", "-b", "BUNDLE", "ID"]), "444\n");
            assert_eq!(b.ok(&["run", "-b", "BUNDLE", "ID"]), "444\n");
        }),
        Case::new("tmpcopyup_keeps_modes", root, || {
            let b = Bundle::with("stat -c %a /dir1/dir2", |c| {
                mount(
                    c,
                    json!({"destination": "/dir1", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
                );
            });
            fs::create_dir_all(b.path("rootfs/dir1/dir2")).unwrap();
            fs::set_permissions(b.path("rootfs/dir1/dir2"), fs::Permissions::from_mode(0o777)).unwrap();
            assert_eq!(b.ok(&["run", "-b", "BUNDLE", "ID"]), "777\n");
        }),
        Case::new("a_relative_source_is_the_bundles", root, || {
            says(
                |c| mount(c, json!({"destination": "/tmp/bind", "source": ".", "options": ["bind"]})),
                "ls /tmp/bind/config.json",
            );
        }),
        Case::new("a_read_only_tmpfs_and_dev", root, || {
            let told = says(
                |c| {
                    mount(
                        c,
                        json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nodev", "nosuid", "mode=755"]}),
                    )
                },
                "grep '^tmpfs /mnt' /proc/mounts",
            );
            assert!(told.contains("ro,"), "{told}");
            let told = says(
                |c| {
                    let mounts = c["mounts"].as_array_mut().unwrap();
                    let dev = mounts.iter_mut().find(|m| m["destination"] == "/dev").unwrap();
                    dev["options"].as_array_mut().unwrap().push(json!("ro"));
                },
                "grep '^tmpfs /dev ' /proc/mounts",
            );
            assert!(told.contains("ro,"), "{told}");
        }),
        Case::new("a_mount_through_an_absolute_link", root, || {
            let b = Bundle::with("true", |c| {
                mount(
                    c,
                    json!({"destination": "/conf/stack", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}),
                );
            });
            fs::create_dir_all(b.path("rootfs/real/conf")).unwrap();
            symlink("/real/conf", b.path("rootfs/conf")).unwrap();
            b.ok(&["run", "-b", "BUNDLE", "ID"]);
        }),
        Case::new("every_cgroup_mount_is_read_only", root, || {
            for own in [true, false] {
                let told = says(
                    |c| {
                        if !own {
                            c["linux"]["namespaces"]
                                .as_array_mut()
                                .unwrap()
                                .retain(|n| n["type"] != "cgroup");
                        }
                    },
                    "grep /sys/fs/cgroup /proc/mounts",
                );
                assert!(!told.is_empty() && told.lines().all(|l| l.contains(" ro,")), "{told}");
            }
        }),
        Case::new("the_root_may_be_covered", root, || {
            let b = Bundle::with("true", |c| {
                let mounts = c["mounts"].as_array_mut().unwrap();
                mounts.insert(
                    0,
                    json!({"destination": "/", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
                );
            });
            b.ok(&["run", "-b", "BUNDLE", "ID"]);
            let b = Bundle::new("test -e /marked");
            let other = b.path("other");
            fs::create_dir(&other).unwrap();
            fs::write(other.join("marked"), "").unwrap();
            let mut config = b.config();
            let bind = json!({"destination": "/", "type": "bind", "source": other, "options": ["bind"]});
            config["mounts"].as_array_mut().unwrap().insert(0, bind);
            b.write(&config);
            b.ok(&["run", "-b", "BUNDLE", "ID"]);
        }),
        Case::new("fifos_and_sockets_may_be_bound", root, || {
            let b = Bundle::new("test -p /fifo && test -S /socket");
            nix::unistd::mkfifo(&b.path("f"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
            let _socket = std::os::unix::net::UnixListener::bind(b.path("s")).unwrap();
            let mut config = b.config();
            mount(
                &mut config,
                json!({"destination": "/fifo", "type": "bind", "source": b.path("f"), "options": ["bind", "rro"]}),
            );
            mount(
                &mut config,
                json!({"destination": "/socket", "type": "bind", "source": b.path("s"), "options": ["bind", "ro"]}),
            );
            b.write(&config);
            b.ok(&["run", "-b", "BUNDLE", "ID"]);
        }),
        Case::new("a_read_only_path_keeps_its_flags", root, || {
            let told = says(|_| {}, "grep ' /proc/bus ' /proc/self/mountinfo");
            assert!(told.contains("/proc/bus ro,nosuid,nodev,noexec"), "{told}");
        }),
        Case::new("recursive_read_only", root, || {
            for (option, below) in [("ro", true), ("rro", false)] {
                let b = Bundle::new(&format!(
                    "touch /mnt/x && exit 1; touch /mnt/sub/y; test $? {} 0",
                    if below { "=" } else { "!=" }
                ));
                let (volume, sub) = (b.path("volume"), b.path("volume/sub"));
                fs::create_dir_all(&sub).unwrap();
                let tmpfs = |at: &Path| {
                    nix::mount::mount(
                        Some("tmpfs"),
                        at,
                        Some("tmpfs"),
                        nix::mount::MsFlags::empty(),
                        None::<&str>,
                    )
                    .unwrap()
                };
                tmpfs(&sub);
                let mut config = b.config();
                mount(
                    &mut config,
                    json!({"destination": "/mnt", "type": "bind", "source": volume, "options": ["rbind", option]}),
                );
                b.write(&config);
                let output = b.call(&["run", "-b", "BUNDLE", "ID"]);
                nix::mount::umount(&sub).unwrap();
                assert!(output.status.success(), "{option}: {}", text(&output.stderr));
            }
        }),
        Case::new("masks_hold", root, || {
            let b = Bundle::with(
                "cat /file; ls /dir; rm -f /file; touch /dir/x; umount /dir; stat -c %d /dir /dir2 | uniq | wc -l",
                |c| c["linux"]["maskedPaths"] = json!(["/file", "/dir", "/dir2", "/no/such"]),
            );
            fs::write(b.path("rootfs/file"), "secret").unwrap();
            fs::create_dir_all(b.path("rootfs/dir")).unwrap();
            fs::create_dir_all(b.path("rootfs/dir2")).unwrap();
            let output = b.call(&["run", "-b", "BUNDLE", "ID"]);
            assert_eq!(text(&output.stdout), "1\n", "{}", text(&output.stderr));
            assert!(b.path("rootfs/file").exists());
        }),
        Case::new("proc_is_no_link", root, || {
            let b = Bundle::new("true");
            fs::remove_dir(b.path("rootfs/proc")).unwrap();
            symlink("/symlink", b.path("rootfs/proc")).unwrap();
            assert!(
                b.fails(&["run", "-b", "BUNDLE", "ID"]).contains("must be mounted on ordinary directory")
            );
        }),
        Case::new("a_shared_root_is_shared_only", &[Need::Root, Need::Program("findmnt")], || {
            for (propagation, expected) in
                [("shared", "shared"), ("private", "private"), ("unbindable", "private,unbindable")]
            {
                let told = says(
                    |c| c["linux"]["rootfsPropagation"] = json!(propagation),
                    "findmnt --noheadings -o PROPAGATION /",
                );
                assert!(
                    expected.split(',').any(|e| told.trim() == e) || told.trim() == expected,
                    "{propagation}: {told}"
                );
            }
        }),
        Case::new("without_pivot_no_bare_proc_is_left", root, || {
            let b = Bundle::with("unshare -mrpf sh -c 'mount -t proc none /proc'", |c| {
                for set in ["bounding", "permitted", "effective"] {
                    c["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SETFCAP"));
                }
                c["linux"].as_object_mut().unwrap().remove("seccomp");
            });
            let told = b.fails(&["run", "--no-pivot", "-b", "BUNDLE", "ID"]);
            assert!(told.contains("permission denied") || told.contains("not permitted"), "{told}");
        }),
        // --- devices ---
        Case::new("devices_come_with_a_dev_of_the_hosts_too", v1, || {
            let told = says(
                |c| {
                    c["mounts"]
                        .as_array_mut()
                        .unwrap()
                        .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
                    mount(
                        c,
                        json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}),
                    );
                    c["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
                },
                "cat /dev/kmsg 2>&1; echo >/dev/null && echo null",
            );
            assert!(told.contains("not permitted") && told.contains("null"), "{told}");
        }),
        Case::new("a_default_device_may_be_named_again", root, || {
            let told = says(
                |c| {
                    c["linux"]["devices"] = json!([{"path": "/dev/tty", "type": "c", "major": 5, "minor": 0}])
                },
                "stat -c '%A %t:%T' /dev/tty",
            );
            assert_eq!(told, "crw-rw-rw- 5:0\n");
        }),
        Case::new("dev_ptmx_is_the_containers_own_whoever_lists_it", root, || {
            let told = says(
                |c| {
                    let ptmx = json!({"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2});
                    c["linux"]["devices"] = json!([ptmx, ptmx]);
                },
                "readlink /dev/ptmx",
            );
            assert_eq!(told, "pts/ptmx\n");
        }),
        Case::new("a_device_that_the_host_has_not_in_a_user_namespace", root, || {
            let b = in_user_namespace("stat -c '%F %t:%T %u:%g %a' /dev/foo /dev/bar; cat /dev/bar", |c| {
                c["linux"]["devices"] = json!([
                    {"path": "/dev/foo", "type": "b", "major": 1, "minor": 5, "uid": 10, "gid": 11, "fileMode": 0o640},
                    {"path": "/dev/bar", "type": "c", "major": 1, "minor": 3},
                    {"path": "/dev/full", "type": "c", "major": 1, "minor": 7},
                ]);
            });
            let told = b.ok(&["run", "-b", "BUNDLE", "ID"]);
            let expected = "block special file 1:5 10:11 640\ncharacter special file 1:3 0:0 666\n";
            assert_eq!(told, expected, "and /dev/bar can be opened");
        }),
        // --- namespaces ---
        Case::new("network_devices_need_a_namespace", root, || {
            let told = fails(
                |c| {
                    c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
                    c["linux"]["netDevices"] = json!({"dummy0": {}});
                },
                "true",
            );
            assert!(told.contains("unable to move network devices without a NET namespace"), "{told}");
        }),
        Case::new("a_root_that_others_may_not_read_in_a_user_namespace", root, || {
            let b = in_user_namespace("stat /tmp/one/foo.txt /tmp/two/foo.txt", |_| {});
            for name in ["one", "two"] {
                let private = b.path(&format!("private-{name}"));
                fs::create_dir_all(private.join("dir")).unwrap();
                fs::write(private.join("dir/foo.txt"), "").unwrap();
                fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
                let mut config = b.config();
                mount(
                    &mut config,
                    json!({"destination": format!("/tmp/{name}"), "type": "bind", "source": private.join("dir"), "options": ["bind"]}),
                );
                b.write(&config);
            }
            b.ok(&["run", "-b", "BUNDLE", "ID"]);
        }),
        Case::new("a_user_namespace_without_root", root, || {
            let b = in_user_namespace("id -u; id -g; cat /proc/self/uid_map", |c| {
                c["linux"]["uidMappings"] = json!([{"containerID": 1000, "hostID": 100_000, "size": 1}]);
                c["linux"]["gidMappings"] = json!([{"containerID": 1000, "hostID": 100_000, "size": 1}]);
                c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
                let mounts = c["mounts"].as_array_mut().unwrap();
                let pts = mounts.iter_mut().find(|m| m["destination"] == "/dev/pts").unwrap();
                pts["options"].as_array_mut().unwrap().retain(|o| o != "gid=5");
            });
            let told = b.ok(&["run", "-b", "BUNDLE", "ID"]);
            assert!(told.starts_with("1000\n1000\n"), "{told}");
        }),
        Case::new("another_containers_user_namespace", root, || {
            let first = in_user_namespace("exec sleep 100", |_| {});
            first.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
            let pid = first.state()["pid"].clone();
            let b = in_user_namespace("cat /proc/self/uid_map", |c| {
                c["linux"].as_object_mut().unwrap().remove("uidMappings");
                c["linux"].as_object_mut().unwrap().remove("gidMappings");
                let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
                let user = namespaces.iter_mut().find(|n| n["type"] == "user").unwrap();
                user["path"] = json!(format!("/proc/{pid}/ns/user"));
            });
            assert!(b.ok(&["run", "-b", "BUNDLE", "ID"]).contains("100000"));
        }),
        Case::new("clocks_are_also_of_exec", root, || {
            let time = |c: &mut Value| {
                c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
                c["linux"]["timeOffsets"] =
                    json!({"monotonic": {"secs": 7881, "nanosecs": 2_718_281}, "boottime": {"secs": 1337}});
            };
            let offsets = ["exec", "ID", "cat", "/proc/self/timens_offsets"];
            let told = live(time).ok(&offsets);
            let words: Vec<_> = told.split_whitespace().collect();
            assert_eq!(words, ["monotonic", "7881", "2718281", "boottime", "1337", "0"]);
            let told =
                live(|c| c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"})))
                    .ok(&offsets);
            assert!(told.contains("monotonic"), "{told}");
            fails(|c| c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1}}), "true");
        }),
        Case::new("owners_are_mapped_with_a_user_namespace", &[Need::Root, Need::IdmapsInTmp], || {
            idmapped(true)
        }),
        Case::new("owners_are_mapped_without_a_user_namespace", &[Need::Root, Need::IdmapsInTmp], || {
            idmapped(false)
        }),
        // --- memory policy ---
        Case::new("memory_policy", root, || {
            let policy = |p: Value| {
                says_raw(|c| c["linux"]["memoryPolicy"] = p, "head -n1 /proc/self/numa_maps | cut -d' ' -f2")
            };
            assert_eq!(policy(json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"})), "interleave:0\n");
            assert!(
                policy(json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}))
                    .starts_with("bind")
            );
            assert_eq!(policy(json!({})), "default\n");
            assert_eq!(policy(json!({"mode": "MPOL_DEFAULT"})), "default\n");
        }),
        Case::new("memory_policy_is_also_of_exec", root, || {
            let b = live(|c| {
                c["linux"]["memoryPolicy"] =
                    json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]})
            });
            let told = b.ok(&["exec", "ID", "sh", "-c", "head -n1 /proc/self/numa_maps"]);
            assert!(told.contains("prefer"), "{told}");
        }),
        Case::new("a_wrong_memory_policy_is_explained", root, || {
            for (policy, why) in [
                (json!({"mode": "INTERLEAVE", "nodes": "0"}), "invalid memory policy"),
                (
                    json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["badflag"]}),
                    "invalid memory policy flag",
                ),
                (json!({"nodes": "0-7"}), "invalid memory policy mode"),
                (json!({"mode": "MPOL_BIND", "nodes": "0-9876543210"}), "invalid memory policy node"),
            ] {
                let told = fails_raw(|c| c["linux"]["memoryPolicy"] = policy.clone(), "true");
                assert!(told.contains(why), "{policy}: {told}");
            }
        }),
        // --- seccomp ---
        Case::new("a_filter_answers_with_an_errno", root, || {
            let told = fails(
                |c| {
                    filter(
                        c,
                        json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 100}]),
                    )
                },
                "mkdir /dev/shm/foo",
            );
            assert!(told.contains("Network is down"), "{told}");
        }),
        Case::new("a_filter_kills", root, || {
            fails(
                |c| filter(c, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}])),
                "mkdir /dev/shm/foo || exit 3",
            );
        }),
        Case::new("a_filter_may_forbid_what_the_runtime_uses", root, || {
            let calls = [
                "close_range",
                "fsopen",
                "fsconfig",
                "fspick",
                "openat2",
                "open_tree",
                "move_mount",
                "mount_setattr",
                "personality",
            ];
            says(
                |c| {
                    c["linux"]["personality"] = json!({"domain": "LINUX"});
                    filter(c, json!([{"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]));
                },
                "true",
            );
        }),
        Case::new("a_seccomp_agent_is_asked", root, || seccomp_agent(false)),
        Case::new("a_seccomp_agent_is_asked_with_no_new_privileges", root, || seccomp_agent(true)),
        Case::new("a_seccomp_agent_is_asked_of_an_exec", root, || {
            let b = Bundle::with("exec sleep 100", |c| {
                filter(c, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]))
            });
            let socket = b.path("agent");
            let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            let mut config = b.config();
            config["linux"]["seccomp"]["listenerPath"] = json!(socket);
            b.write(&config);
            b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
            let _first = receive(&listener);
            let agent = std::thread::spawn(move || {
                let (state, fd) = receive(&listener);
                let state: Value = serde_json::from_str(&state).unwrap();
                assert_eq!(state["state"]["status"], "running");
                answer_one(&fd);
            });
            let told = b.fails(&["exec", "ID", "mkdir", "/dev/shm/foo"]);
            assert!(told.contains("No medium found"), "{told}");
            agent.join().unwrap();
        }),
        Case::new("a_missing_seccomp_agent_is_an_error", root, || {
            let told = fails(
                |c| {
                    filter(c, json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]));
                    c["linux"]["seccomp"]["listenerPath"] = json!("/no/such/agent");
                },
                "true",
            );
            assert!(told.contains("failed to connect with seccomp agent"), "{told}");
            let told =
                fails(|c| filter(c, json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}])), "true");
            assert!(told.contains("listenerPath"), "{told}");
            let told = fails(
                |c| {
                    filter(c, json!([{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]));
                    c["linux"]["seccomp"]["listenerPath"] = json!("/no/such/agent");
                },
                "true",
            );
            assert!(told.contains("SCMP_ACT_NOTIFY cannot be used for the write syscall"), "{told}");
        }),
        Case::new("the_configuration_may_have_another_name", root, || {
            let b = Bundle::new("echo other");
            fs::create_dir(b.path("more")).unwrap();
            fs::rename(b.path("config.json"), b.path("more/other.json")).unwrap();
            assert_eq!(b.ok(&["run", "--config", "more/other.json", "-b", "BUNDLE", "ID"]), "other\n");
        }),
        Case::new("no_sysctl_names_the_host_or_leads_out_of_its_namespace", root, || {
            let told = |name: &str| fails(|c| c["linux"]["sysctl"] = json!({name: "1"}), "true");
            assert!(told("kernel.hostname").contains("sysctl: kernel.hostname is not allowed"));
            for name in [
                "net/../kernel/sysrq",
                "net/..//kernel/sysrq",
                "/net/ipv4/ip_forward",
                ".net.ipv4.ip_forward",
            ] {
                assert!(told(name).contains("contains an invalid path"), "{name}");
            }
        }),
        Case::new("a_relative_mount_begins_at_the_root", root, || {
            let relative = json!({"destination": "tmp/relative", "type": "tmpfs", "source": "tmpfs"});
            assert_eq!(says(|c| mount(c, relative), "stat -f -c %T /tmp/relative"), "tmpfs\n");
        }),
        Case::new("a_bundle_that_others_may_not_enter_in_a_user_namespace", root, || {
            let b = in_user_namespace("echo ok", |_| {});
            fs::set_permissions(b.dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
            assert_eq!(b.ok(&["run", "-b", "BUNDLE", "ID"]), "ok\n");
        }),
        Case::new("a_user_namespace_without_mappings_has_the_ids_outside", root, || {
            let user = json!({"type": "user"});
            let script = "readlink /proc/self/ns/user; cat /proc/self/uid_map";
            let told = says(|c| c["linux"]["namespaces"].as_array_mut().unwrap().push(user), script);
            let (namespace, map) = told.split_once('\n').unwrap();
            assert_ne!(Path::new(namespace), fs::read_link("/proc/self/ns/user").unwrap());
            let ids = |text: &str| {
                let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                words.chunks(3).map(|line| (line[0].clone(), line[2].clone())).collect::<Vec<_>>()
            };
            assert_eq!(ids(map), ids(&fs::read_to_string("/proc/self/uid_map").unwrap()));
        }),
        Case::new("a_hook_without_an_environment_has_the_runtimes", root, || {
            let hook = |script: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
            let b = Bundle::with("true", |c| {
                c["hooks"] = json!({"createRuntime": hook("test \"$TEU_TEST\" = ours"),
                    "createContainer": hook("test \"$TEU_TEST\" = ours"), "startContainer": hook("test -z \"$TEU_TEST\"")});
            });
            let mut run = b.command(&["run", "-b", "BUNDLE", "ID"]);
            let output = run.env("TEU_TEST", "ours").output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
        }),
        Case::new("the_bundle_is_told_by_its_given_name", root, || {
            let b = Bundle::new("exec sleep 100");
            let link = b.path("link");
            symlink(b.dir.path(), &link).unwrap();
            b.ok(&["run", "-d", "-b", link.to_str().unwrap(), "ID"]);
            assert_eq!(b.state()["bundle"], json!(link));
        }),
        Case::new("sockets_of_an_activation_are_told_of", root, || {
            let b = Bundle::new("echo $LISTEN_FDS $LISTEN_PID");
            let mut run = b.command(&["run", "-b", "BUNDLE", "ID"]);
            let output = run.env("LISTEN_FDS", "1").output().unwrap();
            assert_eq!(text(&output.stdout), "1 1\n", "{}", text(&output.stderr));
        }),
        Case::new("readiness_is_passed_on", &[Need::Root, Need::Program("perl")], || notify(false)),
        Case::new("readiness_is_passed_on_in_the_background", &[Need::Root, Need::Program("perl")], || {
            notify(true)
        }),
        Case::new("a_seccomp_agent_is_asked_before_the_start", root, || {
            let b = Bundle::with("true", |c| {
                filter(c, json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]))
            });
            let socket = b.path("agent");
            let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            let mut config = b.config();
            config["linux"]["seccomp"]["listenerPath"] = json!(socket);
            b.write(&config);
            b.ok(&["create", "-b", "BUNDLE", "ID"]);
            listener.set_nonblocking(true).unwrap();
            let (told, _filter) = receive(&listener);
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["pid"], b.state()["pid"]);
            b.ok(&["start", "ID"]);
        }),
        Case::new("scheduler_flags_by_the_standards_names", &[Need::Root, Need::Program("chrt")], || {
            let flags = json!({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
            let told = says_raw(|c| c["process"]["scheduler"] = flags, "chrt -p $$");
            assert!(told.contains("SCHED_BATCH|SCHED_RESET_ON_FORK"), "{told}");
        }),
        Case::new("one_domain_name_not_two", root, || {
            let named = |other: &str| {
                let other = other.to_owned();
                move |c: &mut Value| {
                    c["domainname"] = json!("one");
                    c["linux"]["sysctl"] = json!({"kernel.domainname": other});
                }
            };
            assert_eq!(says(named("one"), "cat /proc/sys/kernel/domainname"), "one\n");
            assert!(fails(named("two"), "true").contains("kernel.domainname"));
        }),
        Case::new("an_unknown_capability_for_exec_is_left_out", root, || {
            let b = live(|c| c["process"]["capabilities"] = json!({}));
            let line = [
                "exec",
                "--cap",
                "CAP_UNKNOWN",
                "--cap",
                "CAP_KILL",
                "ID",
                "grep",
                "CapEff",
                "/proc/self/status",
            ];
            assert_eq!(b.ok(&line), "CapEff:\t0000000000000020\n");
        }),
        Case::new("exec_tells_where_it_begins", root, || {
            let b = live(|c| c["process"]["execCPUAffinity"] = json!({"initial": "0"}));
            let output = b.call(&["--debug", "exec", "ID", "true"]);
            assert!(text(&output.stderr).contains("affinity: 0x1 "), "{}", text(&output.stderr));
        }),
        Case::new("features_are_told", &[], || {
            let told = Bundle::new("true").ok(&["features"]);
            let features: Value = serde_json::from_str(&told).unwrap();
            let has = |pointer: &str, one: &str| {
                features
                    .pointer(pointer)
                    .and_then(Value::as_array)
                    .is_some_and(|all| all.contains(&json!(one)))
            };
            assert!(has("/hooks", "startContainer") && has("/mountOptions", "rro"), "{told}");
            assert!(
                has("/linux/namespaces", "mount") && has("/linux/capabilities", "CAP_SYS_ADMIN"),
                "{told}"
            );
            assert!(
                has("/linux/seccomp/actions", "SCMP_ACT_NOTIFY")
                    && has("/linux/seccomp/operators", "SCMP_CMP_NE"),
                "{told}"
            );
            assert_eq!(features["linux"]["cgroup"]["v2"], json!(true));
            assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], json!(true));
        }),
        Case::new("spec_writes_what_runc_writes", &[Need::Root, Need::Program("runc")], || {
            let written = |program: &str, words: &[&str]| {
                let dir = tempfile::tempdir().unwrap();
                let mut command = std::process::Command::new(program);
                assert!(command.args(words).current_dir(&dir).status().unwrap().success());
                assert!(!command.output().unwrap().status.success(), "{program} overwrites");
                let text = fs::read(dir.path().join("config.json")).unwrap();
                let mut config: Value = serde_json::from_slice(&text).unwrap();
                config["ociVersion"] = Value::Null;
                for set in config["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
                    set.as_array_mut().unwrap().sort_by_key(Value::to_string); // they are sets
                }
                // And these are made all at once: on version 2, runc names its cgroup namespace earlier.
                config["linux"]["namespaces"].as_array_mut().unwrap().sort_by_key(Value::to_string);
                config
            };
            for words in [&["spec"][..], &["spec", "--rootless"]] {
                assert_eq!(written(&bundle::runtime(), words), written("runc", words), "{words:?}");
            }
        }),
        Case::new("our_spec_runs_under_runc", &[Need::Root, Need::Program("runc")], || {
            let b = Bundle::new("true");
            fs::remove_file(b.path("config.json")).unwrap();
            b.ok(&["spec", "--bundle", "BUNDLE"]);
            let told = std::process::Command::new("runc").args(["spec", "--help"]).output().unwrap();
            assert!(told.status.success());
            let mut config = b.config();
            for name in ["/usr", "/bin", "/lib", "/lib64", "/sbin"] {
                mount(
                    &mut config,
                    json!({"destination": name, "source": name, "type": "bind", "options": ["rbind", "ro"]}),
                );
            }
            config["process"]["args"] = json!(["/bin/true"]);
            config["process"]["terminal"] = json!(false);
            config["root"]["readonly"] = json!(false);
            b.write(&config);
            let output = std::process::Command::new("runc")
                .arg("--root")
                .arg(b.path("runc"))
                .arg("run")
                .arg("-b")
                .arg(b.dir.path())
                .arg(&b.id)
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
        }),
    ]);
}

fn mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

fn filter(config: &mut Value, rules: Value) {
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_X86_64"],
        "syscalls": rules,
    });
}

/// What a container prints; it must succeed.
fn says(change: impl FnOnce(&mut Value), script: &str) -> String {
    Bundle::with(script, change).ok(&["run", "-b", "BUNDLE", "ID"])
}

/// What it says in failing.
fn fails(change: impl FnOnce(&mut Value), script: &str) -> String {
    Bundle::with(script, change).fails(&["run", "-b", "BUNDLE", "ID"])
}

/// A configuration that the standard's types cannot hold.
fn raw(change: impl FnOnce(&mut Value), script: &str) -> Bundle {
    let b = Bundle::new(script);
    let mut config = b.config();
    change(&mut config);
    fs::write(b.path("config.json"), config.to_string()).unwrap();
    b
}

fn says_raw(change: impl FnOnce(&mut Value), script: &str) -> String {
    raw(change, script).ok(&["run", "-b", "BUNDLE", "ID"])
}

fn fails_raw(change: impl FnOnce(&mut Value), script: &str) -> String {
    raw(change, script).fails(&["run", "-b", "BUNDLE", "ID"])
}

/// A container that runs.
fn live(change: impl FnOnce(&mut Value)) -> Bundle {
    let b = Bundle::with("exec sleep 100", change);
    b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    b
}

fn exec_process(b: &Bundle, process: &Value) -> String {
    fs::write(b.path("process.json"), process.to_string()).unwrap();
    b.ok(&["exec", "--process", b.path("process.json").to_str().unwrap(), "ID"])
}

fn group(name: &str) -> String {
    format!("/teu-test-conformance-{}-{name}", std::process::id())
}

fn in_group(name: &str) -> Bundle {
    Bundle::with("exec sleep 100", |c| c["linux"]["cgroupsPath"] = json!(group(name)))
}

/// The command, on the first CPU only.
fn pinned(b: &Bundle, words: &[&str]) -> String {
    let command = b.command(words);
    let output = std::process::Command::new("taskset")
        .args(["-c", "0"])
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn in_user_namespace(script: &str, change: impl FnOnce(&mut Value)) -> Bundle {
    let b = Bundle::with(script, |c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_534}]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
        c["process"]["oomScoreAdj"] = Value::Null;
        change(c);
    });
    // Where it stands must be open to who has no name there, and what it is root of must be its own.
    fs::set_permissions(b.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut todo = vec![b.path("rootfs")];
    while let Some(path) = todo.pop() {
        chown(&path, Some(100_000), Some(100_000)).unwrap();
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    b
}

fn host_pid(kill_first: bool) {
    let b = live(|c| c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid"));
    for _ in 0..3 {
        b.ok(&["exec", "-d", "ID", "sleep", "100"]);
    }
    let pids = || serde_json::from_str::<Vec<i32>>(&b.ok(&["ps", "-f", "json", "ID"])).unwrap();
    let before = pids();
    assert!(before.len() >= 4, "{before:?}");
    if kill_first {
        let first = b.state()["pid"].as_i64().unwrap() as i32;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::SIGKILL).unwrap();
        b.until("stopped");
    }
    b.ok(&["kill", "ID", "KILL"]);
    b.until("stopped");
    let gone = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    let start = std::time::Instant::now();
    while !before.iter().all(gone) {
        assert!(start.elapsed().as_secs() < 5, "{before:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn exec_cgroup() {
    let b = live(|_| {});
    let refused = |cgroup: &str| b.fails(&["exec", "--cgroup", cgroup, "ID", "true"]);
    assert!(refused("..").contains("bad sub cgroup path"));
    assert!(refused("nonexistent").to_lowercase().contains("no such file or directory"));
    b.ok(&["exec", "--cgroup", "/", "ID", "true"]);
    if Path::new("/sys/fs/cgroup/memory").is_dir() {
        assert!(refused("whaaat:/").contains("unknown controller"));
        assert!(refused("cpu:nonexistent").to_lowercase().contains("no such file or directory"));
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", b.state()["pid"])).unwrap();
        let memory = groups.lines().find_map(|l| l.split_once(":memory:")).unwrap().1;
        let below = Path::new("/sys/fs/cgroup/memory").join(memory.trim_start_matches('/')).join("below");
        fs::create_dir(&below).unwrap();
        let told = b.ok(&["exec", "--cgroup", "memory:below", "ID", "cat", "/proc/self/cgroup"]);
        assert!(told.lines().any(|l| l.contains(":memory:") && l.ends_with("/below")), "{told}");
    }
}

fn quota_alone() {
    let b = live(|c| c["linux"]["resources"]["cpu"] = json!({"quota": 500_000, "period": 1_000_000}));
    let now = || {
        let v2 = b.call(&["exec", "ID", "cat", "/sys/fs/cgroup/cpu.max"]);
        if v2.status.success() {
            return text(&v2.stdout).trim().to_owned();
        }
        let read = |f: &str| {
            b.ok(&["exec", "ID", "cat", &format!("/sys/fs/cgroup/cpu/cpu.cfs_{f}_us")]).trim().to_owned()
        };
        format!("{} {}", read("quota").replace("-1", "max"), read("period"))
    };
    assert_eq!(now(), "500000 1000000");
    b.ok(&["update", "--cpu-period", "900000", "ID"]);
    assert_eq!(now(), "500000 900000");
    b.ok(&["update", "--cpu-quota", "600000", "ID"]);
    assert_eq!(now(), "600000 900000");
    b.ok(&["update", "--cpu-quota", "-1", "ID"]);
    assert_eq!(now(), "max 900000");
    b.ok(&["update", "--cpu-quota", "-1", "--cpu-period", "100000", "ID"]);
    assert_eq!(now(), "max 100000");
}

/// Takes one message and its descriptor.
fn receive(listener: &std::os::unix::net::UnixListener) -> (String, std::os::fd::OwnedFd) {
    use std::os::fd::{AsRawFd, FromRawFd};
    let (stream, _) = listener.accept().unwrap();
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let mut bytes = vec![0u8; 16384];
    let mut iov = [std::io::IoSliceMut::new(&mut bytes)];
    let flags = nix::sys::socket::MsgFlags::empty();
    let message =
        nix::sys::socket::recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), flags).unwrap();
    let length = message.bytes;
    let fd = message
        .cmsgs()
        .unwrap()
        .find_map(|control| match control {
            nix::sys::socket::ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        })
        .expect("a descriptor comes along");
    // SAFETY: the kernel has just given us this descriptor.
    let fd = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) };
    (text(&bytes[..length]), fd)
}

/// A service in a user namespace tells that it is ready.
fn notify(detached: bool) {
    let script =
        "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET})
        ->send(qq(STATUS=here\\nREADY=1)) or die $!' && exec sleep 0.2";
    let b = in_user_namespace(script, |_| {});
    // Root outside only: what the container is told of is not this one.
    let socket = b.path("manager");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut command = b.command(&["run", "-b", "BUNDLE"]);
    command.args(detached.then_some("-d")).arg(&b.id).env("NOTIFY_SOCKET", &socket);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut said = [0; 100];
    let length = manager.recv(&mut said).unwrap();
    assert_eq!(text(&said[..length]), "READY=1");
}

fn pidfd_socket() {
    let b = Bundle::new("exec sleep 100");
    let socket = b.path("pidfd");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    b.ok(&["run", "-d", "-b", "BUNDLE", "--pidfd-socket", socket.to_str().unwrap(), "ID"]);
    let (_, pidfd) = receive(&listener);
    // SAFETY: no object of ours is handed over.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            std::os::fd::AsRawFd::as_raw_fd(&pidfd),
            libc::SIGKILL,
            0,
            0,
        )
    };
    assert_eq!(done, 0);
    b.until("stopped");
}

fn idmapped(user_namespace: bool) {
    let script = "stat -c %u:%g /tmp/one/foo /tmp/two/foo";
    let map = |from: u32, to: u32| json!([{"containerID": from, "hostID": to, "size": 100}]);
    let change = |_: &mut Value| {};
    let b = if user_namespace { in_user_namespace(script, change) } else { Bundle::with(script, change) };
    fs::create_dir(b.path("source")).unwrap();
    fs::write(b.path("source/foo"), "").unwrap();
    chown(b.path("source/foo"), Some(101), Some(211)).unwrap();
    let mut config = b.config();
    for (name, to) in [("one", 100_000), ("two", 101_000)] {
        mount(
            &mut config,
            json!({"destination": format!("/tmp/{name}"), "source": "source", "options": ["bind"],
            "uidMappings": map(100, to), "gidMappings": map(200, to + 5)}),
        );
    }
    b.write(&config);
    let output = b.call(&["run", "-b", "BUNDLE", "ID"]);
    let (told, why) = (text(&output.stdout), text(&output.stderr));
    let expected = if user_namespace { "1:16\n1001:1016\n" } else { "100001:100016\n101001:101016\n" };
    assert_eq!(told, expected, "{why}");
}

/// An agent that answers every mkdir with "no medium".
fn seccomp_agent(no_new_privileges: bool) {
    let b = Bundle::with("mkdir /dev/shm/foo", |c| {
        filter(c, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]));
        c["linux"]["seccomp"]["listenerMetadata"] = json!("who asks");
        c["process"]["noNewPrivileges"] = json!(no_new_privileges);
    });
    let socket = b.path("agent");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut config = b.config();
    config["linux"]["seccomp"]["listenerPath"] = json!(socket);
    b.write(&config);
    let id = b.id.clone();
    let agent = std::thread::spawn(move || {
        let (state, fd) = receive(&listener);
        let state: Value = serde_json::from_str(&state).unwrap();
        assert_eq!((&state["ociVersion"], &state["fds"]), (&json!("0.2.0"), &json!(["seccompFd"])));
        assert_eq!(state["metadata"], "who asks");
        assert_eq!(state["state"]["id"], json!(id));
        assert!(state["pid"].as_i64().unwrap() > 0);
        answer_one(&fd);
    });
    let output: Output = b.call(&["run", "-b", "BUNDLE", "ID"]);
    // An agent that nobody has called would wait for ever.
    assert!(
        agent.is_finished() || output.status.code() == Some(1) && text(&output.stderr).contains("mkdir"),
        "{}",
        text(&output.stderr)
    );
    agent.join().unwrap();
    assert!(text(&output.stderr).contains("No medium found"), "{}", text(&output.stderr));
    let _ = wait_for;
}

/// Takes one notification, and answers ENOMEDIUM (seccomp_unotify(2)).
fn answer_one(fd: &std::os::fd::OwnedFd) {
    use std::os::fd::AsRawFd;
    let mut notification = [0u8; 80];
    // SAFETY: SECCOMP_IOCTL_NOTIF_RECV writes struct seccomp_notif, of 80 bytes, which is zeroed.
    let got = unsafe { libc::ioctl(fd.as_raw_fd(), 0xc050_2100, notification.as_mut_ptr()) };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
    let mut answer = [0u8; 24];
    answer[..8].copy_from_slice(&notification[..8]);
    answer[16..20].copy_from_slice(&(-libc::ENOMEDIUM).to_ne_bytes());
    // SAFETY: SECCOMP_IOCTL_NOTIF_SEND reads struct seccomp_notif_resp, of 24 bytes.
    let sent = unsafe { libc::ioctl(fd.as_raw_fd(), 0xc018_2101, answer.as_mut_ptr()) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}
