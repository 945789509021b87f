//! What docker has for several machines: one machine answers as docker does where no swarm was ever joined.

use super::{answer::Answer, call::Call, router::routes};
use crate::engine::failure::Failure;

routes! {
    GET "/swarm" => no_manager;
    POST "/swarm/init" => cannot;
    POST "/swarm/join" => cannot;
    POST "/swarm/leave" => no_part;
    POST "/swarm/update" => no_manager;
    GET "/swarm/unlockkey" => no_manager;
    POST "/swarm/unlock" => no_manager;
    GET "/nodes" => no_manager;
    GET "/nodes/{}" => no_manager;
    DELETE "/nodes/{}" => no_manager;
    POST "/nodes/{}/update" => no_manager;
    GET "/services" => no_manager;
    POST "/services/create" => no_manager;
    GET "/services/{}" => no_manager;
    DELETE "/services/{}" => no_manager;
    POST "/services/{}/update" => no_manager;
    GET "/services/{}/logs" => no_manager;
    GET "/tasks" => no_manager;
    GET "/tasks/{}" => no_manager;
    GET "/tasks/{}/logs" => no_manager;
    GET "/secrets" => no_manager;
    POST "/secrets/create" => no_manager;
    GET "/secrets/{}" => no_manager;
    DELETE "/secrets/{}" => no_manager;
    POST "/secrets/{}/update" => no_manager;
    GET "/configs" => no_manager;
    POST "/configs/create" => no_manager;
    GET "/configs/{}" => no_manager;
    DELETE "/configs/{}" => no_manager;
    POST "/configs/{}/update" => no_manager;
}

/// docker's words: its clients look for them.
async fn no_manager(_: Call) -> Answer {
    let message = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
                   node to swarm and try again.";
    Err(Failure { status: 503, message: message.into() })
}

async fn no_part(_: Call) -> Answer {
    Err(Failure { status: 503, message: "This node is not part of a swarm".into() })
}

async fn cannot(_: Call) -> Answer {
    let message = "teu runs containers on one machine and has no swarm mode; for several, run its runtime under \
                   containerd and Kubernetes";
    Err(Failure { status: 501, message: message.into() })
}
