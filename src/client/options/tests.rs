//! Lines as they are typed, and what becomes of them.

use super::*;
use clap::Parser;

#[derive(Parser)]
#[command(disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    settings: Settings,
}

fn settings(line: &str) -> Result<Settings> {
    Ok(Line::try_parse_from(std::iter::once("run").chain(line.split(' ')))?.settings)
}

fn document(line: &str) -> Result<serde_json::Value> {
    let settings = settings(line)?;
    let document = settings.document(settings.streams(false)?)?;
    Ok(serde_json::to_value(document)?)
}

#[test]
fn options_end_at_the_image() {
    let settings = settings("-i base ls -l --rm -t").unwrap();
    assert_eq!(settings.words, ["base", "ls", "-l", "--rm", "-t"]);
    assert!(settings.interactive && !settings.tty && !settings.rm);
    assert!(super::tests::settings("--no-such-flag base").is_err());
}

#[test]
fn limits_reach_the_document_in_the_apis_units() {
    let host =
        &document("-m 64m --memory-swap -1 --cpus 0.5 --pids-limit 32 -h web --ulimit nofile=10:20 base")
            .unwrap()["HostConfig"];
    assert_eq!(host["Memory"], 67_108_864);
    assert_eq!(host["MemorySwap"], -1);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["PidsLimit"], 32);
    assert_eq!(host["Ulimits"][0]["Hard"], 20);
}

#[test]
fn the_whole_document_of_a_plain_run() {
    let document = document("--rm --network none base true").unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&document).unwrap(), @r#"
    {
      "AttachStderr": true,
      "AttachStdin": false,
      "AttachStdout": true,
      "Cmd": [
        "true"
      ],
      "HostConfig": {
        "AutoRemove": true,
        "NetworkMode": "none",
        "Privileged": false,
        "PublishAllPorts": false,
        "ReadonlyRootfs": false
      },
      "Image": "base",
      "Labels": {},
      "OpenStdin": false,
      "StdinOnce": false,
      "Tty": false
    }
    "#);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (line, why) in [
        ("-m lots base", "invalid size: 'lots'"),
        ("--cpus x base", "invalid number of cpus"),
        ("--restart sometimes base", "invalid restart policy"),
        ("--restart always:3 base", "can only be used with 'on-failure'"),
        ("--ulimit nofile base", "invalid ulimit"),
        ("--ulimit nofile=9:3 base", "soft limit must be less"),
        ("--device /a:/b:/c:/d base", "invalid device"),
        ("--add-host web:nowhere base", "invalid IP address"),
        ("-a stdlog base", "valid streams"),
        ("--ip 10.0.0.2 --network host base", "network of your own"),
        ("--sysctl x base", "invalid --sysctl"),
    ] {
        let said = document(line).map_or_else(|e| format!("{e:#}"), |_| "accepted".into());
        assert!(said.contains(why), "{line}: {said}");
    }
}
