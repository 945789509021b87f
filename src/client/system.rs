//! `version` and `info`: who is at the other end.

use super::{http::Client, template};
use anyhow::Result;
use serde_json::{Value, json};

/// Show the versions of teu and of the daemon
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Version {
    /// A Go template, or json
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// `version`.
pub(crate) async fn version(client: &Client, args: &Version) -> Result<u8> {
    let server = client.get("/version").json::<Value>().await;
    let ours = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": client.version(),
        "Os": std::env::consts::OS,
        "Arch": architecture(),
    });
    let code = u8::from(server.is_err());
    if let Some(format) = &args.format {
        let document = json!({"Client": ours, "Server": server.as_ref().ok()});
        match format.as_str() {
            "json" => println!("{document}"),
            template => println!("{}", template::parse(template)?.render(&document)?),
        }
        server?;
        return Ok(0);
    }
    print!("{}", version_text(&ours, server.as_ref().ok()));
    if let Err(why) = server {
        eprintln!("{why:#}");
    }
    Ok(code)
}

/// docker's two parts: this program, then the daemon with its components.
fn version_text(ours: &Value, server: Option<&Value>) -> String {
    let mut text = format!("Client: {}\n", "teu");
    let mut line = |indent: &str, name: &str, value: &Value| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let name = format!("{name}:");
        let width = 20 - indent.len();
        text.push_str(&format!("{indent}{name:<width$}{shown}\n"));
    };
    line(" ", "Version", &ours["Version"]);
    line(" ", "API version", &ours["ApiVersion"]);
    line(
        " ",
        "OS/Arch",
        &format!("{}/{}", ours["Os"].as_str().unwrap_or(""), ours["Arch"].as_str().unwrap_or("")).into(),
    );
    let Some(server) = server else { return text };
    let platform = server["Platform"]["Name"].as_str().unwrap_or_default();
    text.push_str(&format!("\nServer:{}{platform}\n", if platform.is_empty() { "" } else { " " }));
    let components = server["Components"].as_array().cloned().unwrap_or_default();
    let engine = json!({"Name": "Engine", "Version": server["Version"], "Details": {
        "ApiVersion": server["ApiVersion"], "MinAPIVersion": server["MinAPIVersion"], "GitCommit": server["GitCommit"],
        "BuildTime": server["BuildTime"], "Os": server["Os"], "Arch": server["Arch"],
    }});
    let components = if components.is_empty() { vec![engine] } else { components };
    for component in &components {
        let details = &component["Details"];
        text.push_str(&format!(" {}:\n", component["Name"].as_str().unwrap_or_default()));
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                let name = format!("{name}:");
                text.push_str(&format!("  {name:<18}{value}\n"));
            }
        };
        let detail = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
        line("Version", component["Version"].as_str().unwrap_or_default());
        if !detail("ApiVersion").is_empty() {
            line(
                "API version",
                &format!("{} (minimum version {})", detail("ApiVersion"), detail("MinAPIVersion")),
            );
        }
        line("Go version", &detail("GoVersion"));
        line("Git commit", &detail("GitCommit"));
        line("Built", &detail("BuildTime"));
        if !detail("Os").is_empty() {
            line("OS/Arch", &format!("{}/{}", detail("Os"), detail("Arch")));
        }
        line("Kernel", &detail("KernelVersion"));
        line("Experimental", &detail("Experimental"));
    }
    text
}

/// The processor as Go and the registries call it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// Show what the daemon says of itself and its machine
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Info {
    /// A Go template, or json
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// `info`.
pub(crate) async fn info(client: &Client, args: &Info) -> Result<u8> {
    let bytes = client.get("/info").bytes().await?;
    let text = String::from_utf8_lossy(&bytes);
    if args.format.as_deref() == Some("json") {
        println!("{}", text.trim());
        return Ok(0);
    }
    let info: Value = serde_json::from_str(&text)?;
    match &args.format {
        Some(template) => println!("{}", template::parse(template)?.render(&info)?),
        None => print!("{}", info_text(&info, &client.host().url())),
    }
    for warning in info["Warnings"].as_array().into_iter().flatten() {
        eprintln!("{}", warning.as_str().unwrap_or_default());
    }
    Ok(0)
}

fn info_text(info: &Value, host: &str) -> String {
    let mut text =
        format!("Client: teu\n Version:    {}\n Host:       {host}\n\nServer:\n", env!("CARGO_PKG_VERSION"));
    let show = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let mut line = |indent: usize, name: &str, value: &Value| {
        let shown = show(value);
        if !shown.is_empty() {
            text.push_str(&format!("{}{name}: {shown}\n", " ".repeat(indent)));
        }
    };
    line(1, "Containers", &info["Containers"]);
    line(2, "Running", &info["ContainersRunning"]);
    line(2, "Paused", &info["ContainersPaused"]);
    line(2, "Stopped", &info["ContainersStopped"]);
    line(1, "Images", &info["Images"]);
    line(1, "Server Version", &info["ServerVersion"]);
    line(1, "Storage Driver", &info["Driver"]);
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        line(2, pair[0].as_str().unwrap_or_default(), &pair[1]);
    }
    line(1, "Logging Driver", &info["LoggingDriver"]);
    line(1, "Cgroup Driver", &info["CgroupDriver"]);
    line(1, "Cgroup Version", &info["CgroupVersion"]);
    line(
        1,
        "Runtimes",
        &info["Runtimes"].as_object().map(|r| r.keys().cloned().collect::<Vec<_>>().join(" ")).into(),
    );
    line(1, "Default Runtime", &info["DefaultRuntime"]);
    line(1, "Security Options", &info["SecurityOptions"]);
    line(1, "Kernel Version", &info["KernelVersion"]);
    line(1, "Operating System", &info["OperatingSystem"]);
    line(1, "OSType", &info["OSType"]);
    line(1, "Architecture", &info["Architecture"]);
    line(1, "CPUs", &info["NCPU"]);
    let memory = info["MemTotal"].as_i64().map(super::size::human_binary);
    line(1, "Total Memory", &memory.into());
    line(1, "Name", &info["Name"]);
    line(1, "ID", &info["ID"]);
    line(1, "Docker Root Dir", &info["DockerRootDir"]);
    line(1, "Live Restore Enabled", &info["LiveRestoreEnabled"]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_two_parts() {
        let ours = json!({"Version": "0.1.0", "ApiVersion": "1.44", "Os": "linux", "Arch": "amd64"});
        let server = json!({"Version": "0.1.0", "ApiVersion": "1.44", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"});
        insta::assert_snapshot!(version_text(&ours, Some(&server)), @r"
        Client: teu
         Version:           0.1.0
         API version:       1.44
         OS/Arch:           linux/amd64

        Server:
         Engine:
          Version:          0.1.0
          API version:      1.44 (minimum version 1.24)
          OS/Arch:          linux/amd64
        ");
    }
}
