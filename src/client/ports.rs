//! `-p 127.0.0.1:8080-8081:80-81/tcp`: published ports.

use anyhow::{Context, Result, anyhow, bail};
use bollard_stubs::models::PortBinding;
use std::collections::HashMap;

/// The API's map from a container's port to those of the host.
pub(crate) type Bindings = HashMap<String, Option<Vec<PortBinding>>>;

/// The exposed ports and the bindings of `--publish` and `--expose`.
pub(crate) fn parse(publish: &[String], expose: &[String]) -> Result<(Vec<String>, Bindings)> {
    let mut exposed = Vec::new();
    let mut bindings = Bindings::new();
    for text in expose {
        let (ports, protocol) = protocol(text)?;
        let (first, last) =
            range(ports).with_context(|| format!("invalid range format for --expose: {text}"))?;
        exposed.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    for text in publish {
        for (port, binding) in one(text).with_context(|| format!("invalid publish '{text}'"))? {
            exposed.push(port.clone());
            bindings.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    exposed.sort();
    exposed.dedup();
    Ok((exposed, bindings))
}

/// `[IP:][HOST[-HOST]:]PORT[-PORT][/PROTOCOL]`.
fn one(text: &str) -> Result<Vec<(String, PortBinding)>> {
    let (ports, protocol) = protocol(text)?;
    let (rest, container) = ports.rsplit_once(':').map_or((None, ports), |(rest, port)| (Some(rest), port));
    let (ip, host) = match rest {
        None => ("", ""),
        // An IPv6 address has colons of its own, and stands in brackets.
        Some(rest) => rest.rsplit_once(':').map_or(("", rest), |(ip, host)| (ip, host)),
    };
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        bail!("invalid IP address: {ip}");
    }
    let (first, last) = range(container)?;
    let hosts: Vec<String> = match host {
        "" => (first..=last).map(|_| String::new()).collect(),
        host => {
            let (low, high) = range(host)?;
            match (high - low, last - first) {
                (a, b) if a == b => (low..=high).map(|port| port.to_string()).collect(),
                // One port of the container, any one of these on the host: the daemon chooses.
                (_, 0) => vec![host.to_owned()],
                _ => bail!("the ranges of the container and of the host differ in length"),
            }
        }
    };
    let binding = |host_port| PortBinding { host_ip: Some(ip.to_owned()), host_port: Some(host_port) };
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).zip(hosts.into_iter().map(binding)).collect())
}

fn protocol(text: &str) -> Result<(&str, String)> {
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    match protocol.to_lowercase().as_str() {
        known @ ("tcp" | "udp" | "sctp") => Ok((ports, known.to_owned())),
        _ => bail!("invalid proto: {protocol}"),
    }
}

fn range(text: &str) -> Result<(u16, u16)> {
    let port = |text: &str| {
        let port = text.parse::<u16>().map_err(|_| anyhow!("invalid port: '{text}'"))?;
        if port == 0 { bail!("invalid port: '0'") } else { Ok(port) }
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        bail!("invalid port range: '{text}'");
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(&[text.to_owned()], &[]) {
            Err(why) => format!("! {why:#}"),
            Ok((exposed, bindings)) => exposed
                .iter()
                .map(|port| {
                    let b = &bindings[port].as_ref().unwrap()[0];
                    format!("{}|{}->{port}", b.host_ip.as_ref().unwrap(), b.host_port.as_ref().unwrap())
                })
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn every_form_of_publish() {
        for (text, expected) in [
            ("80", "|->80/tcp"),
            ("8080:80", "|8080->80/tcp"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1|8080->80/udp"),
            ("127.0.0.1::80", "127.0.0.1|->80/tcp"),
            ("[::1]:8080:80", "::1|8080->80/tcp"),
            ("8080-8081:80-81", "|8080->80/tcp |8081->81/tcp"),
            ("8000-9000:80", "|8000-9000->80/tcp"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        for (text, why) in [
            ("http", "invalid port: 'http'"),
            ("0", "invalid port: '0'"),
            ("99999:80", "invalid port: '99999'"),
            ("81-80", "invalid port range"),
            ("80/icmp", "invalid proto"),
            ("1.2.3:80:80", "invalid IP address"),
            ("8080-8082:80-81", "differ in length"),
        ] {
            assert!(shown(text).contains(why), "{text}: {}", shown(text));
        }
    }

    #[test]
    fn exposed_ports_are_not_published() {
        let (exposed, bindings) = parse(&[], &["53/udp".into(), "80-81".into()]).unwrap();
        assert_eq!(exposed, ["53/udp", "80/tcp", "81/tcp"]);
        assert!(bindings.is_empty());
    }
}
