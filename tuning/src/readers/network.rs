//! Queues, buffers and ports of TCP, and the connection tracker that may stand in front of it.

use super::{at_least, numbers, process};
use crate::count::{bytes, grouped, of};
use crate::knob::{Reading, Remedy, Setting, Severity};
use crate::{Host, Target};

/// What a core's listener asks for; the kernel cuts it to net.core.somaxconn.
const BACKLOG: u64 = 65_535;

const PAGE_BYTES: u64 = 4096;

/// Kernel default since 4.x; more lets each peer park more with us before it is told to wait.
const RECEIVE_DEFAULT_MAX: u64 = 131_072;

/// Four times the kernel's default: what a peer that stopped reading may hold before its outbox grows.
const SEND_DEFAULT_MAX: u64 = 65_536;

/// Ports above those of common services, up to the last.
const PORTS: (u64, u64) = (10_240, 65_535);

pub(crate) fn somaxconn(host: &Host, target: &Target) -> Reading {
    let reading = at_least(host, "proc/sys/net/core/somaxconn", BACKLOG);
    let now = host.number("proc/sys/net/core/somaxconn").unwrap_or(0).min(BACKLOG) * target.cores as u64;
    reading.note(format!(
        "{} x backlog {}: a storm of {} at once finds room, now {}",
        of(target.cores as u64, "core"),
        grouped(BACKLOG),
        of(BACKLOG * target.cores as u64, "connect"),
        grouped(now),
    ))
}

pub(crate) fn syn_backlog(host: &Host, _: &Target) -> Reading {
    at_least(host, "proc/sys/net/ipv4/tcp_max_syn_backlog", BACKLOG)
}

/// A broadcast sends a packet to every connection within some milliseconds; where they go through a per-CPU queue
/// (loopback, receive steering) it should take a sixteenth of a CPU's share before anyone drains it.
pub(crate) fn device_backlog(host: &Host, target: &Target) -> Reading {
    let queues = target.cores.min(process::cpus(host, target).len()).max(1) as u64;
    let wanted = (target.connections / queues / 16).clamp(4096, 65_536).next_power_of_two();
    at_least(host, "proc/sys/net/core/netdev_max_backlog", wanted)
}

pub(crate) fn tcp_rmem(host: &Host, target: &Target) -> Reading {
    buffer(host, target, "proc/sys/net/ipv4/tcp_rmem", RECEIVE_DEFAULT_MAX, 131_072)
}

pub(crate) fn tcp_wmem(host: &Host, target: &Target) -> Reading {
    buffer(host, target, "proc/sys/net/ipv4/tcp_wmem", SEND_DEFAULT_MAX, 16_384)
}

/// `minimum default maximum` in bytes: small enough that a million of them can be honoured.
fn buffer(host: &Host, target: &Target, file: &str, default_max: u64, kernel_default: u64) -> Reading {
    let Some([minimum, default, maximum]) = numbers(host, file).and_then(|numbers| <[u64; 3]>::try_from(numbers).ok())
    else {
        return Reading::absent(format!("/{file} cannot be read"));
    };
    let is_met = minimum <= PAGE_BYTES && (PAGE_BYTES..=default_max).contains(&default);
    let proposed = if (PAGE_BYTES..=default_max).contains(&default) { default } else { kernel_default };
    let setting = Setting {
        file: file.to_owned(),
        current: format!("{minimum} {default} {maximum}"),
        value: format!("{} {proposed} {}", minimum.min(PAGE_BYTES), maximum.max(proposed)),
    };
    let required = format!("min <= {}, default <= {}", grouped(PAGE_BYTES), grouped(default_max));
    Reading::new(is_met, format!("{} / {}", grouped(minimum), grouped(default)), required)
        .note(format!(
            "{} x {} = {} that the kernel grants even when memory is short",
            of(target.connections, "connection"),
            grouped(minimum),
            bytes(target.connections.saturating_mul(minimum))
        ))
        .remedy(Remedy::Write(vec![setting]))
}

/// Pages of 4 KiB for the buffers of all sockets: low, pressure, high.
pub(crate) fn tcp_mem(host: &Host, target: &Target) -> Reading {
    let file = "proc/sys/net/ipv4/tcp_mem";
    let Some([low, pressure, high]) = numbers(host, file).and_then(|numbers| <[u64; 3]>::try_from(numbers).ok()) else {
        return Reading::absent(format!("/{file} cannot be read"));
    };
    // A queued frame costs a socket at least one page.
    let needed = target.connections;
    // The kernel's own proportions, 3 : 4 : 6.
    let value =
        format!("{} {} {}", low.max(needed.div_ceil(4) * 3), pressure.max(needed), high.max(needed.div_ceil(2) * 3));
    let reading = Reading::new(
        pressure >= needed,
        format!("pressure at {}", grouped(pressure)),
        format!(">= {} pages", grouped(needed)),
    );
    let setting = Setting { file: file.to_owned(), current: format!("{low} {pressure} {high}"), value };
    reading
        .note(format!(
            "a broadcast to {} queues a page of {} on each: {}",
            of(target.connections, "connection"),
            bytes(PAGE_BYTES),
            bytes(needed * PAGE_BYTES)
        ))
        .remedy(Remedy::Write(vec![setting]))
}

pub(crate) fn port_range(host: &Host, target: &Target) -> Reading {
    let file = "proc/sys/net/ipv4/ip_local_port_range";
    let Some([first, last]) = numbers(host, file).and_then(|numbers| <[u64; 2]>::try_from(numbers).ok()) else {
        return Reading::absent(format!("/{file} cannot be read"));
    };
    let width = |(first, last): (u64, u64)| last.saturating_add(1).saturating_sub(first);
    let (now, wide) = (width((first, last)), width(PORTS));
    let sources = |ports: u64| target.connections.div_ceil(ports.max(1));
    // A wider range helps only if it saves source addresses.
    let is_met = sources(now) <= sources(wide);
    let value = format!("{} {}", first.min(PORTS.0), last.max(PORTS.1));
    let required = if is_met { "enough".to_owned() } else { format!(">= {} ports", grouped(wide)) };
    let mut note = format!(
        "{} to one address and port: {} ports x {} = {}",
        of(target.connections, "connection"),
        grouped(now),
        of(sources(now), "source address"),
        grouped(now.saturating_mul(sources(now)))
    );
    if !is_met {
        note += &format!("; {} would do with {} ports", sources(wide), grouped(wide));
    }
    Reading::new(is_met, format!("{first}-{last}"), required).note(note).remedy(Remedy::Write(vec![Setting {
        file: file.to_owned(),
        current: format!("{first} {last}"),
        value,
    }]))
}

pub(crate) fn tw_reuse(host: &Host, _: &Target) -> Reading {
    let file = "proc/sys/net/ipv4/tcp_tw_reuse";
    let Some(current) = host.number(file) else {
        return Reading::absent(format!("/{file} cannot be read"));
    };
    let name = match current {
        0 => "0 (never)",
        2 => "2 (loopback only)",
        _ => "1 (always)",
    };
    let setting = Setting { file: file.to_owned(), current: current.to_string(), value: "1".to_owned() };
    Reading::new(current == 1, name, "1").remedy(Remedy::Write(vec![setting]))
}

pub(crate) fn conntrack(host: &Host, target: &Target) -> Reading {
    let file = "proc/sys/net/netfilter/nf_conntrack_max";
    if !host.exists(file) {
        return Reading::absent("no connection tracker is loaded");
    }
    // Entries of closed connections stay for two minutes: a tenth more, and what is tracked already.
    let others = host.number("proc/sys/net/netfilter/nf_conntrack_count").unwrap_or(0);
    let needed = target.connections + target.connections / 10 + others.min(1 << 40);
    let reading = at_least(host, file, needed);
    if others == 0 {
        // Loaded, but no rule of this network namespace asks for it: our own connections would be in it otherwise.
        return reading.severity(Severity::Hint).note("the tracker is loaded but tracks nothing now");
    }
    reading.note(format!(
        "{} + 10 % that are closing + {} tracked now = {} entries, {} of memory",
        of(target.connections, "connection"),
        grouped(others),
        grouped(needed),
        bytes(needed * 320)
    ))
}
