//! Knobs of the machine: CPUs, their neighbours, network hardware. They decide how fast, not how many.

use crate::Role;
use crate::knob::{Knob, Severity};
use crate::readers::{cgroup, cpu, interrupts, memory, nic};

pub(super) static KNOBS: &[Knob] = &[
    Knob {
        id: "cpu_set",
        setting: "cpuset",
        title: "CPUs for the cores",
        why: "A core is a thread that expects a CPU of its own. With more cores than usable CPUs they take turns of several \
              milliseconds, and a message between two of them waits for the turn of the other. The CPU set of a \
              container or a unit and the affinity of the caller decide what is usable; gyre.cores = auto takes exactly \
              those. More cores are right for one purpose: each has a table of sockets of its own (see nofile).",
        role: None,
        severity: Severity::Warning,
        read: cgroup::cpu_set,
    },
    Knob {
        id: "cpu_quota",
        setting: "cpu.max",
        title: "CPU time of the cgroup",
        why: "A quota below the number of cores does not make them slower evenly: they use the period's time up together, \
              then all of them stand still until the next period, up to 100 ms. That is where tail latencies of exactly \
              such lengths come from. Whole CPUs without a quota (a CPU set; Guaranteed pods with the static CPU manager) \
              have no such pauses.",
        role: None,
        severity: Severity::Warning,
        read: cgroup::cpu_quota,
    },
    Knob {
        id: "clock_source",
        setting: "clocksource",
        title: "clock without a system call",
        why: "Cores look at the clock in every turn. With tsc, or the clock of the hypervisor, that takes 20 ns in user \
              space; with hpet, acpi_pm or xen each look is a system call of half a microsecond or more. The kernel falls \
              back to those when it finds the TSC unstable.",
        role: None,
        severity: Severity::Warning,
        read: cpu::clock,
    },
    Knob {
        id: "huge_pages",
        setting: "transparent_hugepage",
        title: "huge pages only where asked for",
        why: "With \"always\" the kernel backs sparsely used memory with pages of 2 MiB and merges small ones in the \
              background: the resident size of a node with a million small objects grows well beyond what it uses and \
              does not come back when connections leave. With \"madvise\" programs that want huge pages still get them.",
        role: None,
        severity: Severity::Warning,
        read: memory::huge_pages,
    },
    Knob {
        id: "governor",
        setting: "scaling_governor",
        title: "CPU frequency",
        why: "A core sleeps in the kernel between bursts, so governors that follow the load find it idle and lower the \
              frequency; the first messages of a burst are then served at a third of the speed. \"performance\" keeps the \
              clock up at the price of some power. On a laptop on battery leave it; measurements need it.",
        role: None,
        severity: Severity::Hint,
        read: cpu::governor,
    },
    Knob {
        id: "smt",
        setting: "SMT siblings",
        title: "cores on physical cores of their own",
        why: "Two hardware threads of one physical core share its execution units and caches: together they do perhaps 1.2 \
              times the work of one, each at 0.6 of the speed. For throughput all threads are right; for latency one \
              core per physical core is, with the siblings left to interrupts and the control thread: \
              gyre.cores = no-smt.",
        role: Some(Role::Server),
        severity: Severity::Hint,
        read: cpu::siblings,
    },
    Knob {
        id: "numa",
        setting: "NUMA nodes",
        title: "cores on one NUMA node",
        why: "Memory of another NUMA node is half again as far away, and every message between cores of different nodes \
              moves cache lines across the interconnect. Where one NUMA node's CPUs are enough, pin all cores there, best \
              the one with the network hardware (/sys/class/net/eth0/device/numa_node). Where they are not, one Gyre node \
              for each NUMA node shares less than one large one.",
        role: Some(Role::Server),
        severity: Severity::Hint,
        read: cpu::numa,
    },
    Knob {
        id: "receive_steering",
        setting: "rps_cpus",
        title: "receive queues match the cores",
        why: "Packets are processed by the CPU that takes the interrupt of their queue. With fewer queues than cores one \
              CPU does that work for several cores and is full long before the others. Receive packet steering (RPS) lets \
              the kernel hand packets on to all CPUs by a hash; more hardware queues (ethtool -L) are better where the \
              interface has them.",
        role: None,
        severity: Severity::Hint,
        read: nic::receive,
    },
    Knob {
        id: "transmit_steering",
        setting: "xps_cpus",
        title: "transmit queues match the cores",
        why: "A core sends on the queue that the kernel picks for its CPU. Without XPS on an interface with several queues, \
              packets of one core spread over all of them, and cores contend for the locks of the queues. Drivers of \
              recent hardware set it themselves; it is lost when the number of queues changes.",
        role: None,
        severity: Severity::Hint,
        read: nic::transmit,
    },
    Knob {
        id: "irq_affinity",
        setting: "smp_affinity",
        title: "network interrupts are spread",
        why: "When all interrupts of an interface land on one CPU, that CPU does the packet work of the whole node, and the \
              core on it falls behind the others. One interrupt per CPU, round robin, is a good start; the next step is to \
              reserve CPUs for interrupts (gyre.reserved_cores) and move all of them there. Not kept over a restart: \
              the numbers change.",
        role: None,
        severity: Severity::Hint,
        read: interrupts::affinity,
    },
    Knob {
        id: "irqbalance",
        setting: "irqbalance",
        title: "nobody moves interrupts about",
        why: "irqbalance moves interrupts to CPUs that look idle. A pinned core that sleeps between bursts looks idle, so \
              the interrupts of a disk arrive just where messages are served, and what was placed by hand is undone. \
              Either stop it, or ban it from the CPUs of the cores.",
        role: None,
        severity: Severity::Hint,
        read: interrupts::balancer,
    },
];
