//! What is done to containers: create, start, stop, kill, wait, remove and the rest.

use super::{
    answer::{self, Answer, done, empty, json, json_with},
    call::Call,
    router::routes,
};
use crate::engine::{
    blocking, commit,
    container::{Container, Status},
    create,
    failure::{Failure, Result},
    spec::limits,
};
use bollard_stubs::models::{ContainerCreateBody, ContainerUpdateBody, HostConfig, RestartPolicyNameEnum};
use hyper::{StatusCode, body::Bytes};
use layers::diff;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc;

routes! {
    POST "/containers/create" => create_container;
    POST "/containers/{}/start" => start;
    POST "/containers/{}/stop" => stop;
    POST "/containers/{}/restart" => restart;
    POST "/containers/{}/kill" => kill;
    POST "/containers/{}/pause" => pause;
    POST "/containers/{}/unpause" => unpause;
    POST "/containers/{}/wait" => wait;
    POST "/containers/{}/rename" => rename;
    POST "/containers/{}/update" => update;
    DELETE "/containers/{}" => remove;
    POST "/containers/prune" => prune;
    GET "/containers/{}/changes" => changes;
    POST "/commit" => commit_container;
}

fn container(call: &Call) -> Result<Arc<Container>> {
    call.engine.container(&call.path[0])
}

async fn create_container(mut call: Call) -> Answer {
    let body: Option<ContainerCreateBody> = call.document().await?;
    let body = body.ok_or_else(|| Failure::bad("config cannot be empty in order to create a container"))?;
    let explain = call.header("X-Teu-Explain") == Some("1");
    let (engine, name) = (call.engine.clone(), call.get("name").map(str::to_owned));
    let (container, warnings) =
        blocking(move || create::create(&engine, name.as_deref(), body, explain)).await?;
    json_with(StatusCode::CREATED, &json!({"Id": container.id, "Warnings": warnings}))
}

async fn start(call: Call) -> Answer {
    let container = container(&call)?;
    if call.engine.start(&container).await? { done() } else { empty(StatusCode::NOT_MODIFIED) }
}

async fn stop(call: Call) -> Answer {
    let container = container(&call)?;
    if call.engine.stop(&container, call.get("signal"), call.number("t")?).await? {
        done()
    } else {
        empty(StatusCode::NOT_MODIFIED)
    }
}

async fn restart(call: Call) -> Answer {
    let container = container(&call)?;
    call.engine.restart(&container, call.get("signal"), call.number("t")?).await?;
    done()
}

async fn kill(call: Call) -> Answer {
    let container = container(&call)?;
    call.engine.kill(&container, call.get("signal").unwrap_or("KILL")).await?;
    done()
}

async fn pause(call: Call) -> Answer {
    call.engine.pause(&*container(&call)?, true).await?;
    done()
}

async fn unpause(call: Call) -> Answer {
    call.engine.pause(&*container(&call)?, false).await?;
    done()
}

/// The head of the answer goes out at once: the client starts the container only when it knows that it is being waited for.
async fn wait(call: Call) -> Answer {
    let container = container(&call)?;
    let condition = call.get("condition").unwrap_or("not-running").to_owned();
    if !matches!(condition.as_str(), "not-running" | "next-exit" | "removed") {
        return Err(Failure::bad(format!("invalid condition: {condition:?}")));
    }
    let mut phase = container.phase.subscribe();
    let before = phase.borrow().ends;
    let (sender, body) = mpsc::channel(1);
    tokio::spawn(async move {
        let waited = phase.wait_for(|p| match condition.as_str() {
            "removed" => p.removed,
            "next-exit" => p.ends > before || p.removed,
            _ => !p.alive || p.removed,
        });
        let end = tokio::select! {
            end = waited => end.map(|p| p.clone()),
            () = sender.closed() => return,
        };
        let Ok(end) = end else { return };
        // Why one could not be started is told to who started it; docker does not say it here as well.
        let answer = json!({"StatusCode": end.exit_code});
        let _ = sender.send(Bytes::from(format!("{answer}\n"))).await;
    });
    answer::pieces("application/json", body)
}

async fn rename(call: Call) -> Answer {
    call.engine.rename(&*container(&call)?, call.get("name").unwrap_or_default())?;
    done()
}

async fn remove(call: Call) -> Answer {
    let container = container(&call)?;
    call.engine.remove(&container, call.flag("force"), call.flag("v")).await?;
    done()
}

async fn update(mut call: Call) -> Answer {
    let asked: ContainerUpdateBody = call.options().await?;
    let container = container(&call)?;
    let policy = asked.restart_policy.clone();
    // Both have docker's "Resources"; what is null or zero stays as it is.
    let fields = |value: Value| match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, v)| !v.is_null() && *v != json!(0) && *v != json!("") && *v != json!([]))
            .collect(),
        _ => serde_json::Map::new(),
    };
    let asked = fields(serde_json::to_value(&asked)?);
    let mut host = fields(serde_json::to_value(container.look(|r| r.host.clone()))?);
    let only: HostConfig = serde_json::from_value(asked.clone().into())?;
    host.extend(asked);
    let mut host: HostConfig = serde_json::from_value(host.into())?;
    if let Some(policy) = policy.filter(|p| !matches!(p.name, None | Some(RestartPolicyNameEnum::EMPTY))) {
        host.restart_policy = Some(policy);
    }
    let (memory, swap) = (host.memory.unwrap_or_default(), host.memory_swap.unwrap_or_default());
    if swap > 0 && memory > swap {
        return Err(Failure::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    let limits = limits::resources(&only, Default::default())?;
    if container.status().alive() && limits != Default::default() {
        let (engine, id) = (call.engine.clone(), container.id.clone());
        blocking(move || Ok(engine.runtime.update(&id, &limits)?)).await?;
    }
    container.change(|r| r.host = host)?;
    call.engine.tell(&container, "update", &[]);
    json(&json!({"Warnings": []}))
}

async fn prune(call: Call) -> Answer {
    let filters = call.filters()?;
    filters.only(&["until", "label", "label!"])?;
    let before = super::events::until(&filters)?;
    let (mut deleted, mut freed) = (Vec::new(), 0);
    for container in call.engine.containers() {
        let record = container.record();
        let stopped = matches!(record.state.status, Status::Created | Status::Exited | Status::Dead);
        let old = before.is_none_or(|b| record.created.parse::<jiff::Timestamp>().is_ok_and(|c| c < b));
        if stopped && old && filters.labels(&record.config.labels.unwrap_or_default()) {
            let upper = container.dir.join("upper");
            let size = blocking(move || Ok(crate::engine::volumes::disk_usage(&upper))).await?;
            call.engine.remove(&container, false, false).await?;
            freed += size;
            deleted.push(container.id.clone());
        }
    }
    json(&json!({"ContainersDeleted": deleted, "SpaceReclaimed": freed}))
}

async fn changes(call: Call) -> Answer {
    let container = container(&call)?;
    let init = call.engine.init_layer();
    let list = blocking(move || {
        let upper = container.dir.join("upper");
        if !upper.is_dir() {
            return Ok(Vec::new());
        }
        let lower = [vec![init], container.look(|r| r.lower.clone())].concat();
        let changes = diff::changes(&upper, &lower)?;
        let line = |(kind, path): &(diff::Kind, std::path::PathBuf)| {
            let kind = match kind {
                diff::Kind::Modified => 0,
                diff::Kind::Added => 1,
                diff::Kind::Deleted => 2,
            };
            json!({"Path": std::path::Path::new("/").join(path), "Kind": kind})
        };
        Ok(changes.iter().map(line).collect::<Vec<Value>>())
    })
    .await?;
    json(&list)
}

async fn commit_container(mut call: Call) -> Answer {
    let config: Option<Value> = call.document().await?;
    let container = call.engine.container(call.get("container").unwrap_or_default())?;
    let pause = call.flag_or("pause", true) && container.status() == Status::Running;
    // A program that writes meanwhile would be caught in the middle of a file.
    if pause {
        call.engine.pause(&container, true).await?;
    }
    let wanted = commit::Wanted {
        repository: call.get("repo").map(str::to_owned),
        tag: call.get("tag").map(str::to_owned),
        author: call.get("author").unwrap_or_default().to_owned(),
        comment: call.get("comment").unwrap_or_default().to_owned(),
        changes: call.all("changes"),
        config,
    };
    let (engine, committed) = (call.engine.clone(), container.clone());
    let id = blocking(move || commit::commit(&engine, &committed, wanted)).await;
    if pause {
        call.engine.pause(&container, false).await?;
    }
    let id = id?;
    call.engine.tell(&container, "commit", &[("imageID", id.clone())]);
    json_with(StatusCode::CREATED, &json!({"Id": id}))
}
