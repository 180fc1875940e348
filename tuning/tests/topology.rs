//! The CPU topology as read from recorded trees of other machines (`tests/topology/`).

use gyre_tuning::Host;
use gyre_tuning::topology::{Cpu, CpuList, Topology};

fn read(tree: &str, affinity: &[usize]) -> Topology {
    let tree = format!("{}/tests/topology/{tree}", env!("CARGO_MANIFEST_DIR"));
    assert!(std::path::Path::new(&tree).exists(), "{tree}");
    Topology::read(&Host::at(tree), affinity)
}

fn every(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// CPUs for which `is_in` holds, as a list.
fn list(topology: &Topology, is_in: impl Fn(&Cpu) -> bool) -> String {
    let cpus: Vec<usize> = topology.cpus.iter().filter(|cpu| is_in(cpu)).map(|cpu| cpu.cpu).collect();
    CpuList(&cpus).to_string()
}

/// Cores would be put on the two threads of one physical core, or on the far side of the machine.
#[test]
fn two_nodes_with_smt() {
    let topology = read("two-nodes-smt", &every(32));
    assert_eq!(list(&topology, |_| true), "0-31");
    assert_eq!(list(&topology, |cpu| cpu.smt == 0), "0-15");
    assert_eq!(list(&topology, |cpu| cpu.node == 0), "0-7,16-23");
    assert_eq!(list(&topology, |cpu| cpu.core == 9), "9,25");
    assert_eq!((topology.quota, topology.is_flat), (None, false));
}

/// `taskset 16-19 gyre`: the second thread of a core is the first that may be used.
#[test]
fn smt_positions_count_usable_threads_only() {
    let topology = read("two-nodes-smt", &[1, 16, 17, 18]);
    assert_eq!(list(&topology, |cpu| cpu.smt == 0), "1,16,18");
    assert_eq!(list(&topology, |cpu| cpu.core == 1), "1,17");
}

/// Half the machine would stay idle if single-threaded cores were taken for siblings.
#[test]
fn one_node_without_smt() {
    let topology = read("one-node-no-smt", &every(8));
    assert!(topology.cpus.iter().all(|cpu| cpu.smt == 0 && cpu.core == cpu.cpu && cpu.node == 0));
}

/// A node in a container would start cores on CPUs it may not use, or not know that it is throttled.
#[test]
fn limits_of_a_container() {
    let topology = read("container", &every(8));
    assert_eq!(list(&topology, |_| true), "2-5");
    assert_eq!(list(&topology, |cpu| cpu.core == 2), "4-5");
    assert_eq!(topology.quota, Some(1.5), "the pod's, which is tighter than the container's");

    let topology = read("container-v1", &every(4));
    assert_eq!(list(&topology, |_| true), "1-3");
    assert_eq!(topology.quota, Some(2.5));
}

/// A core pinned to an offline CPU cannot start.
#[test]
fn offline_cpus_are_left_out() {
    let topology = read("offline", &every(8));
    assert_eq!(list(&topology, |_| true), "0-2,4,6");
    assert_eq!(list(&topology, |cpu| cpu.smt == 0), "0-2");
    assert_eq!(list(&topology, |cpu| cpu.core == 1), "1");
}

/// A sandbox that shows no sysfs must not keep the node from starting.
#[test]
fn nothing_shown_is_flat() {
    let topology = read("nothing-shown", &[3, 4]);
    let flat = |cpu, core| Cpu { cpu, core, node: 0, smt: 0 };
    assert_eq!(topology, Topology { cpus: vec![flat(3, 0), flat(4, 1)], quota: None, is_flat: true });
    assert_eq!(list(&read("nothing-shown", &[]), |_| true), "0");
}

/// The machine of whoever runs the tests: whatever it is, there is a CPU to run on.
#[test]
fn this_machine() {
    assert!(!Topology::read(&Host::real(), &[]).cpus.is_empty());
}
