//! What is accepted of a configuration beyond the letter of its types. Those who write configurations in Go leave out
//! what is zero, and the specification has a capability that nobody knows be a warning. Only a document that the strict
//! reading refuses comes here.

use oci_spec::runtime::{Capability, LinuxMemoryPolicy, MemoryPolicyModeType, Process, Spec};
use serde_json::{Value, json};

/// Reads it once more, with more patience. An error may know better than the first reading what is wrong.
pub(crate) fn parse(text: &[u8]) -> Result<Spec, Option<String>> {
    let mut config: Value = serde_json::from_slice(text).map_err(|_| None)?;
    if let Some(process) = config.get_mut("process") {
        complete(process);
    }
    if let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) {
        if linux.get("memoryPolicy").is_some_and(|policy| *policy == json!({})) {
            linux.remove("memoryPolicy");
        }
        if let Some(policy) = linux.get("memoryPolicy") {
            check_memory_policy(policy).map_err(Some)?;
        }
    }
    serde_json::from_value(config).map_err(|_| None)
}

/// A process by itself.
pub(crate) fn process(text: &[u8]) -> serde_json::Result<Process> {
    let mut process: Value = serde_json::from_slice(text)?;
    complete(&mut process);
    serde_json::from_value(process)
}

/// Fills in what is zero when it is not there, and takes out capabilities that are unknown.
fn complete(process: &mut Value) {
    let Some(fields) = process.as_object_mut() else { return };
    let zero = |object: &mut Value, name: &str| {
        if let Some(object) = object.as_object_mut() {
            object.entry(name).or_insert(json!(0));
        }
    };
    let user = fields.entry("user").or_insert(json!({}));
    zero(user, "uid");
    zero(user, "gid");
    if let Some(priority) = fields.get_mut("ioPriority") {
        zero(priority, "priority");
    }
    let flags = fields.get_mut("scheduler").and_then(|s| s.get_mut("flags")).and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        // The types' names for these are not the specification's.
        let name = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = json!(name);
    }
    let sets = fields.get_mut("capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(Value::as_array_mut) {
        set.retain(|name| {
            let known = serde_json::from_value::<Capability>(name.clone()).is_ok();
            if !known {
                tracing::warn!("the capability {name} is unknown: left out");
            }
            known
        });
    }
}

fn check_memory_policy(policy: &Value) -> Result<(), String> {
    let mode = policy.get("mode").cloned().unwrap_or_default();
    if serde_json::from_value::<MemoryPolicyModeType>(mode.clone()).is_err() {
        return Err(format!(
            "linux.memoryPolicy: invalid memory policy mode {mode}: give MPOL_BIND, MPOL_INTERLEAVE ..."
        ));
    }
    match serde_json::from_value::<LinuxMemoryPolicy>(policy.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("linux.memoryPolicy: invalid memory policy flag: {error}")),
    }
}
