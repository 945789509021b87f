//! `docker build` (the classic one: `DOCKER_BUILDKIT=0`).

use super::{
    answer::{self, Answer},
    call::Call,
    router::routes,
    transfer::{Upload, from_base64},
};
use crate::{
    engine::{
        Engine, blocking, disk,
        failure::{Failure, Result},
        images, names, network,
        plan::Endpoint,
        reconcile,
    },
    monitor::{ROLE, build::BuildPlan},
};
use hyper::body::Bytes;
use serde_json::json;
use std::{collections::BTreeMap, path::PathBuf, process::Stdio, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    sync::mpsc,
};

routes! {
    POST "/build" => build;
    POST "/build/prune" => prune;
}

/// A build under way: its directory, and its address on the bridge.
struct Work {
    engine: Arc<Engine>,
    id: String,
    dir: PathBuf,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.engine.networks.release(&self.id);
        // What a killed build was in the middle of: containers of its RUNs, and its files.
        let (engine, dir) = (self.engine.clone(), self.dir.clone());
        std::thread::spawn(move || {
            reconcile::sweep_build(&dir);
            if let Err(e) = disk::remove_dir(&dir) {
                eprintln!("warning: {}", e.message);
            }
            drop(engine);
        });
    }
}

async fn build(call: Call) -> Answer {
    if call.get("remote").is_some_and(|r| r != "client-session") {
        return Err(Failure::bad(
            "a remote context is not supported: fetch it, and build from the directory",
        ));
    }
    if call.get("version") == Some("2") {
        return Err(Failure::bad("BuildKit is not part of this engine; build with DOCKER_BUILDKIT=0"));
    }
    let engine = call.engine.clone();
    let id = names::id()?;
    let dir = engine.data_root.join("tmp").join(format!("build-{}", &id[..12]));
    disk::make_dir(&dir, 0o700)?;
    let work = Work { engine: engine.clone(), id: id.clone(), dir: dir.clone() };
    let document = |name: &str| -> Result<serde_json::Value> {
        call.get(name).map_or(Ok(json!({})), |t| {
            serde_json::from_str(t).map_err(|e| Failure::bad(format!("invalid {name}: {e}")))
        })
    };
    let network = match call.get("networkmode") {
        None | Some("default") => "bridge".to_owned(),
        Some(mode) => mode.to_owned(),
    };
    let tags = call.all("t");
    let plan = BuildPlan {
        store: engine.store.root().to_owned(),
        dockerfile: call.get("dockerfile").unwrap_or("Dockerfile").to_owned(),
        tags: tags.clone(),
        args: serde_json::from_value::<Option<BTreeMap<_, _>>>(document("buildargs")?)?.unwrap_or_default(),
        labels: serde_json::from_value::<Option<BTreeMap<_, _>>>(document("labels")?)?.unwrap_or_default(),
        target: call.get("target").map(str::to_owned),
        no_cache: call.flag("nocache"),
        pull: call.flag("pull"),
        platform: call.get("platform").map(str::to_owned),
        endpoint: endpoint(&engine, &id, &network).await?,
        network,
        auth: call
            .header("X-Registry-Config")
            .filter(|h| !h.is_empty())
            .map(from_base64)
            .transpose()?
            .unwrap_or_default(),
        explain: call.header("X-Teu-Explain") == Some("1"),
    };
    disk::write_json(&dir.join("plan.json"), &plan, disk::Durable::Process)?;
    let quiet = call.flag("q");
    let mut child = Command::new("/proc/self/exe")
        .arg0("teu")
        .args([ROLE, "build"])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // A client that goes away takes its build with it.
        .kill_on_drop(true)
        .spawn()?;
    let mut upload = Upload::of(call.request.into_body());
    let (to, body) = mpsc::channel::<Bytes>(64);
    tokio::spawn(async move {
        let _work = work;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { return };
        let feed = tokio::spawn(async move {
            while let Some(piece) = upload.next().await {
                if input.write_all(&piece).await.is_err() {
                    return;
                }
            }
        });
        let mut lines = BufReader::new(output).lines();
        let mut built = None;
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line,
                () = to.closed() => break,
            };
            let Ok(Some(line)) = line else { break };
            let Some((line, id)) = render(&line, quiet) else { continue };
            built = id.or(built);
            if to.send(line).await.is_err() {
                break;
            }
        }
        feed.abort();
        if to.is_closed() {
            let _ = child.kill().await;
        }
        let _ = child.wait().await;
        if let Some(id) = built {
            for tag in &tags {
                images::tell(&engine, "tag", &id, tag);
            }
        }
    });
    answer::pieces("application/json", body)
}

/// A line of the worker's, as it goes to the client; and the image's ID, if it is the one that tells it.
fn render(line: &str, quiet: bool) -> Option<(Bytes, Option<String>)> {
    let line = line.trim_end();
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    if value.get("at_us").is_some() {
        return Some((Bytes::from(format!("{}\r\n", json!({"aux": {"step": value}}))), None));
    }
    let id = value["aux"]["ID"].as_str().map(str::to_owned);
    if quiet && value.get("error").is_none() {
        // `-q`: the ID, and nothing else.
        let text = format!("{}\n", id.as_ref()?);
        return Some((Bytes::from(format!("{}\r\n", json!({"stream": text}))), id));
    }
    Some((Bytes::from(format!("{line}\r\n")), id))
}

/// An address on a bridge for the RUNs, if there can be one.
async fn endpoint(engine: &Arc<Engine>, id: &str, mode: &str) -> Result<Option<Endpoint>> {
    if engine.rootless || matches!(mode, "none" | "host") {
        return Ok(None);
    }
    let net = engine.networks.get(mode)?;
    if net.driver != "bridge" {
        return Ok(None);
    }
    let (engine, id) = (engine.clone(), id.to_owned());
    blocking(move || {
        let (net, warning) = engine.networks.up(&net)?;
        if let Some(warning) = warning {
            eprintln!("warning: {warning}");
        }
        let address = engine.networks.lease(&net, &id, None)?;
        Ok(Some(Endpoint {
            network: net.name.clone(),
            bridge: net.bridge.clone(),
            host_name: format!("teub{}", &id[..8]),
            name: "eth0".into(),
            address: (address, net.subnet.map_or(16, |(_, bits)| bits)),
            mac: network::mac(address),
            gateway: net.gateway.filter(|_| !net.internal),
        }))
    })
    .await
}

async fn prune(call: Call) -> Answer {
    let engine = call.engine.clone();
    let freed = blocking(move || images::collect(&engine)).await?;
    answer::json(&json!({"CachesDeleted": [], "SpaceReclaimed": freed}))
}
