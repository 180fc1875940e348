//! By hand, against a real cluster whose slots are moved and whose nodes are killed meanwhile:
//! `GYRE_CLUSTER=127.0.0.1:7001 GYRE_SECONDS=20 cargo test -p gyre-io --test loopback real_cluster -- --ignored --nocapture`

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gyre_io::redis::{
    Command, Connection, Endpoint, Event, Handshake, Incoming, Reply, Script, SendError, Servers, SlotMap,
};

use super::core::Core;

/// As a publication with history: two keys of one slot, an order that can be checked.
static SCRIPT: Script = Script {
    sha1: "093cd958467042b5df2073652b1a64d3aec754ce",
    text: "redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('INCR', KEYS[2])",
};

const CHANNELS: usize = 300;
/// Commands on their way, over all channels.
const WINDOW: usize = 2_000;

/// One command, by a connection of its own.
fn ask(address: SocketAddr, parts: &[&str]) -> Option<Reply> {
    let handshake = Handshake {
        user: String::new(),
        password: String::new(),
        db: 0,
        client_name: String::new(),
        force_resp2: false,
        replica: false,
        io_timeout_ms: 1_000,
    };
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut connection = Connection::new(handshake, 0);
    let write = |out: &mut Vec<u8>| {
        let mut command = Command::new(out, parts.len());
        parts.iter().for_each(|part| _ = command.arg(part.as_bytes()));
    };
    connection.send(1, 1_000, write).ok()?;
    let mut answer = None;
    let mut buffer = [0; 16 * 1024];
    while answer.is_none() {
        stream.write_all(connection.output()).ok()?;
        connection.clear_output();
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        connection.received(&buffer[..read], 0, &mut |incoming| {
            if let Incoming::Reply { reply, .. } = incoming {
                answer = Some(reply);
            }
        });
    }
    answer
}

fn slots(addresses: &[SocketAddr]) -> Option<SlotMap> {
    for address in addresses {
        let Some(Reply::Array(rows)) = ask(*address, &["CLUSTER", "SLOTS"]) else { continue };
        let ranges = rows.into_iter().filter_map(|row| {
            let row = row.into_array()?;
            let node = row.get(2)?.clone().into_array()?;
            let host = std::str::from_utf8(node.first()?.as_bytes()?).ok()?.to_owned();
            let at = SocketAddr::new(host.parse().ok()?, node.get(1)?.as_int()? as u16);
            Some((row[0].as_int()? as u16..=row[1].as_int()? as u16, Endpoint::Internet(at)))
        });
        return SlotMap::new(ranges.collect::<Vec<_>>()).ok();
    }
    None
}

fn addresses(map: &SlotMap) -> Vec<SocketAddr> {
    let at = |endpoint: &Endpoint| match endpoint {
        Endpoint::Internet(address) | Endpoint::Named(_, address) => Some(*address),
        Endpoint::Unix(_) => None,
    };
    map.primaries().iter().filter_map(at).collect()
}

/// What became of the commands of a channel.
#[derive(Default)]
struct Channel {
    made: u64,
    acknowledged: Vec<u64>,
    /// Certainly without an effect.
    refused: Vec<u64>,
    /// With an effect, perhaps.
    lost: usize,
}

/// Publications while slots move and nodes die: whatever was acknowledged is there once, in order.
#[test]
#[ignore = "by hand, with a real cluster"]
fn real_cluster() {
    let seed: SocketAddr = std::env::var("GYRE_CLUSTER").unwrap().parse().unwrap();
    let seconds: u64 = std::env::var("GYRE_SECONDS").map_or(10, |text| text.parse().unwrap());
    let mut map = slots(&[seed]).unwrap();
    let run = std::process::id();
    let core = Core::start(Arc::new(Servers::Cluster(Arc::new(map.clone()))));
    core.hear_up(map.primaries().len());
    let mut channels: Vec<Channel> = (0..CHANNELS).map(|_| Channel::default()).collect();
    let (mut under_way, mut errors) = (0, BTreeMap::<String, usize>::new());
    let (mut doubts, mut maps, mut longest) = (0, 0, Duration::ZERO);
    let mut last_good = Instant::now();
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until || under_way > 0 {
        let batch = if Instant::now() < until { WINDOW - under_way } else { 0 };
        let first: Vec<(usize, u64)> = (0..batch.min(500))
            .map(|n| {
                // Several in a row about one channel, so that their order is put to the test.
                let channel =
                    (channels.iter().map(|channel| channel.made as usize).sum::<usize>() / 7 + n / 7) % CHANNELS;
                channels[channel].made += 1;
                (channel, channels[channel].made)
            })
            .collect();
        let made = first.clone();
        let refused: Vec<Result<(), SendError>> = core.ask(move |shard, _, now_ms| {
            let send = |(channel, number): (usize, u64)| {
                let tag = format!("gyre:{run}:{{{channel}}}");
                shard.send_script((channel as u64) << 32 | number, now_ms, tag.as_bytes(), &SCRIPT, 4, |command| {
                    let (list, count) = (format!("{tag}:list"), format!("{tag}:count"));
                    command.int(2).arg(list.as_bytes()).arg(count.as_bytes()).int(number as i64);
                })
            };
            made.into_iter().map(send).collect()
        });
        for ((channel, number), sent) in first.into_iter().zip(refused) {
            match sent {
                Ok(()) => under_way += 1,
                Err(error) => {
                    *errors.entry(error.to_string()).or_default() += 1;
                    channels[channel].refused.push(number);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
        for event in core.heard() {
            let of = |token: u64| ((token >> 32) as usize, token & u64::from(u32::MAX));
            match event {
                Event::Reply(token, reply) => {
                    under_way -= 1;
                    let (channel, number) = of(token);
                    match reply.into_result() {
                        Ok(_) => {
                            channels[channel].acknowledged.push(number);
                            longest = longest.max(last_good.elapsed());
                            last_good = Instant::now();
                        }
                        Err(error) => {
                            *errors.entry(error.code().to_owned()).or_default() += 1;
                            channels[channel].refused.push(number);
                        }
                    }
                }
                Event::Failed(token, was_sent) => {
                    under_way -= 1;
                    *errors.entry(format!("failed, sent: {was_sent}")).or_default() += 1;
                    let channel = &mut channels[of(token).0];
                    if was_sent { channel.lost += 1 } else { channel.refused.push(of(token).1) }
                }
                other => println!("{other:?}"),
            }
        }
        if core.ask(|shard, _, _| shard.takes_doubt()) {
            doubts += 1;
            if let Some(newer) = slots(&addresses(&map)).filter(|newer| *newer != map) {
                maps += 1;
                map = newer;
                let servers = Arc::new(Servers::Cluster(Arc::new(map.clone())));
                let events = core.ask(move |shard, driver, _| {
                    let mut events = Vec::new();
                    shard.servers_are(driver, servers, &mut |event| events.push(event));
                    events
                });
                for event in events {
                    if let Event::Failed(token, was_sent) = event {
                        under_way -= 1;
                        let channel = &mut channels[(token >> 32) as usize];
                        if was_sent { channel.lost += 1 } else { channel.refused.push(token & u64::from(u32::MAX)) }
                    }
                }
            }
        }
    }
    let made: u64 = channels.iter().map(|channel| channel.made).sum();
    let acknowledged: usize = channels.iter().map(|channel| channel.acknowledged.len()).sum();
    let lost: usize = channels.iter().map(|channel| channel.lost).sum();
    println!("{made} made, {acknowledged} acknowledged, {lost} perhaps; errors {errors:?}");
    println!("{doubts} doubts, {maps} new maps, {longest:?} without an acknowledgement at most");
    let map = slots(&addresses(&map)).unwrap();
    let mut missing = 0;
    for (number, channel) in channels.iter().enumerate() {
        let key = format!("gyre:{run}:{{{number}}}:list");
        let Some(Endpoint::Internet(at)) = map.primary_of(gyre_io::redis::slot_of(key.as_bytes())) else { panic!() };
        let kept = ask(*at, &["LRANGE", &key, "0", "-1"]).unwrap().into_result();
        let kept = kept.unwrap_or_else(|error| panic!("{key} at {at}: {error:?}")).into_array().unwrap();
        let kept: Vec<u64> = kept.iter().map(|one| one.as_int().unwrap() as u64).collect();
        let disorder = kept.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(disorder, None, "{number}: order");
        assert!(channel.acknowledged.is_sorted(), "{number}: order of acknowledgements");
        missing += channel.acknowledged.iter().filter(|one| kept.binary_search(one).is_err()).count();
        let surprising = channel.refused.iter().find(|one| kept.binary_search(one).is_ok());
        assert_eq!(surprising, None, "{number}: refused and there");
        assert!(kept.len() <= channel.acknowledged.len() + channel.lost, "{number}: twice");
        ask(*at, &["DEL", &key, &format!("gyre:{run}:{{{number}}}:count")]);
    }
    // Replicas may be behind, so only who has killed a node may see any.
    println!("{missing} acknowledged and not there");
}
