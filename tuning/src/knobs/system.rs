//! Knobs of the kernel that decide how many connections fit: io_uring, limits, memory, TCP.

use crate::Role;
use crate::knob::{Knob, Severity};
use crate::readers::{limits, memory, network};

pub(super) static KNOBS: &[Knob] = &[
    Knob {
        id: "io_uring",
        setting: "kernel.io_uring_disabled",
        title: "io_uring is there and allowed",
        why: "Every socket of Gyre is served by an io_uring of its core. Kernel 6.1 is the first with all that the driver \
              uses: multishot accept and receive, and completions that run on the core's own thread. Three parties can \
              forbid it: a kernel that is too old, the sysctl kernel.io_uring_disabled (1 allows privileged processes and \
              one group, 2 nobody), and the seccomp profile of a container runtime, which only an attempt shows: the \
              server tries at its start and names the cause.",
        role: None,
        severity: Severity::Fatal,
        read: limits::io_uring,
    },
    Knob {
        id: "memlock",
        setting: "RLIMIT_MEMLOCK",
        title: "locked memory",
        why: "The executor of each core refuses to start below 512 KiB, and registers a buffer of 64 KiB that counts as \
              locked memory of the user. The systemd default of 8 MiB is enough for 128 cores; old distributions and \
              some containers give 64 KiB. Gyre raises the soft limit to the hard one itself. A limit belongs to whoever starts the process: a unit, a login, a container.",
        role: None,
        severity: Severity::Fatal,
        read: limits::memlock,
    },
    Knob {
        id: "nofile",
        setting: "RLIMIT_NOFILE",
        title: "open files",
        why: "Connections are direct descriptors: they live in a table of their core's ring and take no file descriptor of \
              the process, but the kernel lets each table hold no more than RLIMIT_NOFILE. N connections therefore need \
              cores x RLIMIT_NOFILE >= N, and since the kernel spreads connections by a hash, one percent more. Gyre \
              raises the soft limit to the hard one itself, so only the hard one counts. Where it cannot be raised, more \
              cores help, even more cores than CPUs. Descriptors are for Gyre's own files, for connections to backends \
              and for the gRPC API: their sum has to be within the limit too, and more cores do not help there.",
        role: None,
        severity: Severity::Capacity,
        read: limits::nofile,
    },
    Knob {
        id: "nr_open",
        setting: "fs.nr_open",
        title: "highest limit of open files",
        why: "No process, privileged or not, can have an RLIMIT_NOFILE above fs.nr_open; a unit that asks for more does not \
              start. The kernel's default of 1,048,576 is what one core can use. It only has to be looked at where \
              somebody has lowered it.",
        role: None,
        severity: Severity::Warning,
        read: limits::nr_open,
    },
    Knob {
        id: "file_max",
        setting: "fs.file-max",
        title: "open files of the whole host",
        why: "Every connection is an open file for the kernel, also where the process has no descriptor for it. When the \
              whole host reaches fs.file-max, accepting fails with \"too many open files in system\" and other programs \
              fail with it. Recent kernels have no practical bound; older ones take a tenth of the memory, about 100,000 \
              files per GiB.",
        role: None,
        severity: Severity::Capacity,
        read: limits::file_max,
    },
    Knob {
        id: "memory",
        setting: "memory",
        title: "memory for the connections",
        why: "An idle connection takes about 4 KiB in the kernel (socket, file, inode) and at most 1 KiB in Gyre; buffers \
              come only with traffic. A container's limit counts both, so the kernel's part must be planned into it: a \
              node that is killed for memory drops all of its connections at once.",
        role: None,
        severity: Severity::Capacity,
        read: memory::memory,
    },
    Knob {
        id: "tcp_mem",
        setting: "net.ipv4.tcp_mem",
        title: "memory of all socket buffers",
        why: "Three numbers in pages of 4 KiB for the whole host: below the first all is well, above the second the kernel \
              shrinks windows and buffers of every socket, above the third it drops. Idle connections count nothing, but \
              a broadcast queues at least a page on each connection at the same moment, so the second number must reach \
              the planned connections. The kernel's default follows from its memory alone.",
        role: None,
        severity: Severity::Warning,
        read: network::tcp_mem,
    },
    Knob {
        id: "conntrack",
        setting: "net.netfilter.nf_conntrack_max",
        title: "tracked connections",
        why: "If a firewall or a container network tracks connections, each of ours takes an entry of about 320 bytes, and \
              a full table drops new connections without an answer: clients see time-outs and the log of the kernel \
              says \"nf_conntrack: table full\". Either the table is large enough, or rules with NOTRACK keep Gyre's \
              port out of it, which also saves CPU.",
        role: None,
        severity: Severity::Capacity,
        read: network::conntrack,
    },
    Knob {
        id: "somaxconn",
        setting: "net.core.somaxconn",
        title: "accept queue",
        why: "Each core listens with a backlog of 65,535: connections that the kernel has completed and the core has not \
              taken yet. The kernel silently cuts it to net.core.somaxconn, usually 4,096. After a restart or a network \
              failure all clients come back at once; those that find the queue full retry after a second, then two, then \
              four, and the storm lasts minutes instead of seconds. An unused queue costs nothing.",
        role: Some(Role::Server),
        severity: Severity::Warning,
        read: network::somaxconn,
    },
    Knob {
        id: "syn_backlog",
        setting: "net.ipv4.tcp_max_syn_backlog",
        title: "half-open connections",
        why: "Connections whose handshake is under way wait here. When it is full the kernel answers with SYN cookies, \
              which work but lose window scaling and selective acknowledgement when timestamps are off, or drops the \
              attempt where cookies are off. It should be as long as the accept queue behind it.",
        role: Some(Role::Server),
        severity: Severity::Hint,
        read: network::syn_backlog,
    },
    Knob {
        id: "device_backlog",
        setting: "net.core.netdev_max_backlog",
        title: "packets waiting per CPU",
        why: "Packets that arrive faster than a CPU takes them from the queue between interface and protocols are dropped. \
              The queue is used by loopback and by receive steering (RPS); a broadcast and the acknowledgements of a \
              million clients fill the default of 1,000 within a millisecond. Drops show in the second column of \
              /proc/net/softnet_stat.",
        role: None,
        severity: Severity::Hint,
        read: network::device_backlog,
    },
    Knob {
        id: "tcp_rmem",
        setting: "net.ipv4.tcp_rmem",
        title: "receive buffers: minimum and default",
        why: "The minimum is granted to every socket even when memory is short, so times the number of connections it must \
              fit; the default is the first window offered to a peer, and what it may park with us before we read. The \
              kernel's 4,096 and 131,072 are right; guides for a few fast transfers raise them far beyond what a million \
              connections can have. The third number, the maximum, is left alone.",
        role: None,
        severity: Severity::Hint,
        read: network::tcp_rmem,
    },
    Knob {
        id: "tcp_wmem",
        setting: "net.ipv4.tcp_wmem",
        title: "send buffers: minimum and default",
        why: "As for receiving, the minimum is granted even when memory is short. The default is what a client that stopped \
              reading holds in the kernel before its outbox in Gyre grows and it is disconnected as slow: a large one \
              hides slow clients and multiplies by their number. The kernel's 4,096 and 16,384 are right.",
        role: None,
        severity: Severity::Hint,
        read: network::tcp_wmem,
    },
    Knob {
        id: "port_range",
        setting: "net.ipv4.ip_local_port_range",
        title: "source ports",
        why: "A connection is told apart by source address and port when the other end is always the same, so one source \
              address can open as many as there are ports in this range, 28,232 by default. A load generator needs \
              connections / ports source addresses (on one host 127.0.0.0/8 has plenty). Ports of local services in the \
              range should be named in net.ipv4.ip_local_reserved_ports.",
        role: Some(Role::Generator),
        severity: Severity::Hint,
        read: network::port_range,
    },
    Knob {
        id: "tw_reuse",
        setting: "net.ipv4.tcp_tw_reuse",
        title: "ports of closed connections",
        why: "The side that closes first keeps the port for a minute. A generator that reconnects 1,000 times a second \
              would have 60,000 ports in that state and none left. With 1 the kernel takes such a port again once the \
              timestamps say that nothing old can arrive; 2 does so on loopback only, which is enough for tests on one \
              host.",
        role: Some(Role::Generator),
        severity: Severity::Hint,
        read: network::tw_reuse,
    },
];
