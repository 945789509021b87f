//! `docker volume`.

use super::{
    answer::{Answer, done, json, json_with},
    call::Call,
    router::routes,
};
use crate::engine::{Engine, blocking, failure::Failure, volumes::Volumes};
use bollard_stubs::models::VolumeCreateRequest;
use hyper::StatusCode;
use serde_json::json;

routes! {
    GET "/volumes" => list;
    POST "/volumes/create" => create;
    POST "/volumes/prune" => prune;
    GET "/volumes/{}" => inspect;
    DELETE "/volumes/{}" => remove;
}

/// The containers that have it mounted, running or not.
fn users(engine: &Engine, name: &str) -> Vec<String> {
    let uses = |c: &std::sync::Arc<crate::engine::container::Container>| {
        c.look(|r| r.mounts.iter().any(|m| m.name.as_deref() == Some(name))).then(|| c.id.clone())
    };
    engine.containers().iter().filter_map(uses).collect()
}

async fn list(call: Call) -> Answer {
    let filters = call.filters()?;
    filters.only(&["dangling", "driver", "label", "label!", "name"])?;
    let dangling = filters.flag("dangling");
    let mut volumes = call.engine.volumes.list();
    volumes.retain(|v| {
        dangling.is_none_or(|d| users(&call.engine, &v.name).is_empty() == d)
            && filters.fits("name", |n| v.name.contains(n))
            && filters.fits("driver", |d| v.driver == d)
            && filters.labels(&v.labels)
    });
    json(&json!({"Volumes": volumes, "Warnings": null}))
}

async fn create(mut call: Call) -> Answer {
    let asked: VolumeCreateRequest = call.options().await?;
    if let Some(driver) = asked.driver.as_deref().filter(|d| !d.is_empty() && *d != "local") {
        return Err(Failure::missing(format!(
            "create {}: error looking up volume plugin {driver}: plugin \"{driver}\" not found",
            asked.name.unwrap_or_default()
        )));
    }
    let engine = call.engine.clone();
    let volume = blocking(move || {
        let (volume, new) = engine.volumes.create(
            asked.name.as_deref().unwrap_or_default(),
            asked.labels.unwrap_or_default(),
            asked.driver_opts.unwrap_or_default(),
        )?;
        if new {
            engine.events.emit("volume", "create", &volume.name, json!({"driver": "local"}));
        }
        Ok(volume)
    })
    .await?;
    json_with(StatusCode::CREATED, &volume)
}

async fn inspect(call: Call) -> Answer {
    json(&call.engine.volumes.get(&call.path[0])?)
}

async fn remove(call: Call) -> Answer {
    let (engine, name) = (call.engine.clone(), call.path[0].clone());
    let force = call.flag("force");
    let found = engine.volumes.get(&name);
    if force && found.is_err() {
        return done();
    }
    found?;
    let users = users(&engine, &name);
    if !users.is_empty() {
        return Err(Failure::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
    }
    blocking(move || {
        engine.volumes.remove(&name)?;
        engine.events.emit("volume", "destroy", &name, json!({"driver": "local"}));
        Ok(())
    })
    .await?;
    done()
}

async fn prune(call: Call) -> Answer {
    let filters = call.filters()?;
    filters.only(&["all", "label", "label!"])?;
    // Only those that nobody named, unless all are meant.
    let all = filters.flag("all").unwrap_or_default();
    let engine = call.engine.clone();
    let (deleted, freed) = blocking(move || {
        let (mut deleted, mut freed) = (Vec::new(), 0);
        for volume in engine.volumes.list() {
            let meant = all || volume.labels.contains_key("com.docker.volume.anonymous");
            if meant && filters.labels(&volume.labels) && users(&engine, &volume.name).is_empty() {
                let size = Volumes::size(&volume);
                engine.volumes.remove(&volume.name)?;
                engine.events.emit("volume", "destroy", &volume.name, json!({"driver": "local"}));
                freed += size;
                deleted.push(volume.name);
            }
        }
        Ok((deleted, freed))
    })
    .await?;
    json(&json!({"VolumesDeleted": deleted, "SpaceReclaimed": freed}))
}
