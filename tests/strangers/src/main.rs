//! Nodes and clients of the crates `mainline` (5 and 8) and `pkarr`, ordered about by lines on standard input.
//!
//! One order a line, words apart by blanks, bytes in hexadecimal, `-` for none; one line of answer each: `ok ...`,
//! `none`, or `error ...`. Everything is bound to loopback (mainline 5 always binds to all addresses, and is reached by
//! 127.0.0.1 only), and whoever starts something names the nodes it begins with: without them the crates would ask
//! public ones.

#![allow(deprecated)] // mainline 8 wants its blocking calls replaced; here they are run on threads of their own.

mod packets;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use pkarr::{Client, Keypair, PublicKey, ResolvePolicy, SignedPacket};

const REQUEST_TIMEOUT: Duration = Duration::from_millis(2000); // What both crates have unless told otherwise.

type Answer = Result<String, String>;

enum Node {
    Five(mainline5::Dht),
    Eight(mainline8::Dht),
}

#[derive(Default)]
struct World {
    nodes: HashMap<String, Node>,
    clients: HashMap<String, Client>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let text = if text == "-" { "" } else { text };
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(said))
        .collect()
}

fn sized<const N: usize>(text: &str) -> Result<[u8; N], String> {
    unhex(text)?.try_into().map_err(|_| format!("{text} has not {N} bytes"))
}

fn said(error: impl std::fmt::Debug) -> String {
    format!("{error:?}").replace('\n', " ")
}

/// Return the nodes to begin with; loopback only.
fn loopback(text: &str) -> Result<Vec<String>, String> {
    let found: Vec<String> = text.split(',').filter(|part| *part != "-").map(str::to_owned).collect();
    match found.iter().find(|part| !part.starts_with("127.")) {
        Some(other) => Err(format!("{other} is not of loopback")),
        None => Ok(found),
    }
}

/// Make a node: its version, `server` or `client`, its port, the nodes it begins with.
fn node(version: &str, mode: &str, port: &str, bootstrap: &str) -> Result<Node, String> {
    let (port, bootstrap) = (port.parse::<u16>().map_err(said)?, loopback(bootstrap)?);
    if version == "5" {
        let mut builder = mainline5::Dht::builder();
        builder.bootstrap(&bootstrap).port(port).request_timeout(REQUEST_TIMEOUT);
        if mode == "server" {
            builder.server_mode();
        }
        return builder.build().map(Node::Five).map_err(said);
    }
    let mut builder = mainline8::Dht::builder();
    builder.bootstrap(&bootstrap).port(port).request_timeout(REQUEST_TIMEOUT);
    builder.bind_address(Ipv4Addr::LOCALHOST);
    if mode == "server" {
        builder.server_mode();
    }
    builder.build().map(Node::Eight).map_err(said)
}

fn signed(secret: &str, seq: &str, salt: &str, value: &str) -> Result<([u8; 32], i64, Vec<u8>, Vec<u8>), String> {
    Ok((sized(secret)?, seq.parse().map_err(said)?, unhex(salt)?, unhex(value)?))
}

impl World {
    fn obey(&mut self, words: &[&str], runtime: &tokio::runtime::Runtime) -> Answer {
        match words {
            ["node", name, version, mode, port, bootstrap] => {
                let node = node(version, mode, port, bootstrap)?;
                self.nodes.insert((*name).into(), node);
                Ok(String::new())
            }
            ["end", name] => {
                self.nodes.remove(*name);
                self.clients.remove(*name);
                Ok(String::new())
            }
            ["bootstrapped", name] => Ok(match self.node(name)? {
                Node::Five(dht) => dht.clone().bootstrapped(),
                Node::Eight(dht) => dht.bootstrapped(),
            }
            .to_string()),
            ["known", name] => Ok(match self.node(name)? {
                Node::Five(dht) => dht.to_bootstrap().len(),
                Node::Eight(dht) => dht.to_bootstrap().len(),
            }
            .to_string()),
            ["put", name, secret, seq, cas, salt, value] => {
                let (secret, seq, salt, value) = signed(secret, seq, salt, value)?;
                let salt = (!salt.is_empty()).then_some(salt.as_slice());
                let cas = (*cas != "-").then(|| cas.parse::<i64>()).transpose().map_err(said)?;
                match self.node(name)? {
                    Node::Five(dht) => {
                        let key = mainline5::SigningKey::from_bytes(&secret);
                        let item = mainline5::MutableItem::new(key, &value, seq, salt);
                        dht.put_mutable(item, cas).map(|id| hex(id.as_bytes())).map_err(said)
                    }
                    Node::Eight(dht) => {
                        let key = mainline8::SigningKey::from_bytes(&secret);
                        let item = mainline8::MutableItem::new(key, &value, seq, salt);
                        dht.put_mutable(item, cas).map(|id| hex(id.as_bytes())).map_err(said)
                    }
                }
            }
            // The best of all that was sent: of equal seqs the larger value, as BEP 44 has it.
            ["get", name, key, salt] => {
                let (key, salt): ([u8; 32], _) = (sized(key)?, unhex(salt)?);
                let salt = (!salt.is_empty()).then_some(salt.as_slice());
                let found: Option<(i64, Vec<u8>, Vec<u8>)> = match self.node(name)? {
                    Node::Five(dht) => dht
                        .get_mutable(&key, salt, None)
                        .map(|item| (item.seq(), item.value().to_vec(), item.signature().to_vec()))
                        .max(),
                    Node::Eight(dht) => dht
                        .get_mutable(&key, salt, None)
                        .map(|item| (item.seq(), item.value().to_vec(), item.signature().to_vec()))
                        .max(),
                };
                Ok(found.map_or("-".into(), |(seq, value, signature)| {
                    format!("{seq} {} {}", hex(&value), hex(&signature))
                }))
            }
            ["put-immutable", name, value] => match self.node(name)? {
                Node::Five(dht) => dht.put_immutable(&unhex(value)?).map(|id| hex(id.as_bytes())).map_err(said),
                Node::Eight(dht) => dht.put_immutable(&unhex(value)?).map(|id| hex(id.as_bytes())).map_err(said),
            },
            ["get-immutable", name, target] => {
                let target: [u8; 20] = sized(target)?;
                let found = match self.node(name)? {
                    Node::Five(dht) => dht.get_immutable(target.into()),
                    Node::Eight(dht) => dht.get_immutable(target.into()),
                };
                Ok(found.map_or("-".into(), |value| hex(&value)))
            }
            ["pkarr", name, bootstrap] => {
                let bootstrap = loopback(bootstrap)?;
                let mut builder = Client::builder();
                builder.no_default_network().bootstrap(&bootstrap).cache_size(0);
                builder.dht(|config| {
                    config.bind_address = Some(Ipv4Addr::LOCALHOST);
                    config
                });
                let client = builder.build().map_err(said)?;
                self.clients.insert((*name).into(), client);
                Ok(String::new())
            }
            ["pkarr-publish", name, secret, kind] => {
                let packet = packets::packet(kind, &Keypair::from_secret_key(&sized(secret)?))?;
                let client = self.client(name)?;
                runtime.block_on(client.publish(&packet)).map_err(said)?;
                Ok(of(&packet))
            }
            ["pkarr-resolve", name, key] => {
                let (client, key) = (self.client(name)?, public(key)?);
                match runtime.block_on(client.resolve(&key, ResolvePolicy::NetworkOnly)) {
                    Ok(packet) => Ok(of(&packet)),
                    Err(error) => Err(said(error)),
                }
            }
            ["pkarr-read", name, per_second, keys @ ..] => {
                let per_second: f64 = per_second.parse().map_err(said)?;
                let keys = keys.iter().map(|key| public(key)).collect::<Result<Vec<_>, _>>()?;
                Ok(runtime.block_on(read(self.client(name)?.clone(), keys, per_second)))
            }
            ["kinds"] => Ok(packets::KINDS.join(" ")),
            _ => Err("no such order".into()),
        }
    }

    fn node(&self, name: &str) -> Result<&Node, String> {
        self.nodes.get(name).ok_or_else(|| format!("no node {name}"))
    }

    fn client(&self, name: &str) -> Result<&Client, String> {
        self.clients.get(name).ok_or_else(|| format!("no client {name}"))
    }
}

fn public(key: &str) -> Result<PublicKey, String> {
    PublicKey::try_from(key).map_err(said)
}

fn of(packet: &SignedPacket) -> String {
    let seq = packet.timestamp().as_u64();
    format!("{seq} {} {}", hex(&packet.encoded_packet()), hex(&packet.signature().to_bytes()))
}

/// Read keys at a pace, and return for each how long it took in milliseconds, or `-` where nothing was found.
async fn read(client: Client, keys: Vec<PublicKey>, per_second: f64) -> String {
    let began = tokio::time::Instant::now();
    let mut reads = Vec::new();
    for (n, key) in keys.into_iter().enumerate() {
        tokio::time::sleep_until(began + Duration::from_secs_f64(n as f64 / per_second)).await;
        let client = client.clone();
        reads.push(tokio::spawn(async move {
            let began = Instant::now();
            let found = client.resolve(&key, ResolvePolicy::NetworkOnly).await.is_ok();
            found.then(|| began.elapsed().as_millis())
        }));
    }
    let mut said = Vec::new();
    for read in reads {
        said.push(read.await.ok().flatten().map_or("-".into(), |ms| ms.to_string()));
    }
    said.join(" ")
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().expect("a runtime");
    let mut world = World::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match world.obey(&words, &runtime) {
            Ok(said) => format!("ok {said}"),
            Err(error) => format!("error {error}"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", answer.trim_end()).expect("a reader");
        out.flush().expect("a reader");
    }
}
