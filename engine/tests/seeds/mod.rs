//! Runs a simulation with many seeds, and shows how the first that failed went.

use std::collections::VecDeque;

/// Runs seeds 0 to `usual`. `GYRE_SIM_SEED=n` runs one, `GYRE_SIM_SEEDS=n` or `from..to` others. `run` writes its last
/// actions into the trace, if there is one.
pub(crate) fn for_every_seed(usual: u64, run: impl Fn(u64, Option<&mut VecDeque<String>>) -> std::thread::Result<()>) {
    let variable = |name| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let seeds = match (variable("GYRE_SIM_SEED"), variable("GYRE_SIM_SEEDS")) {
        (Some(seed), _) => number(&seed)..number(&seed) + 1,
        (None, Some(seeds)) => match seeds.split_once("..") {
            Some((from, to)) => number(from)..number(to),
            None => 0..number(&seeds),
        },
        (None, None) => 0..usual,
    };
    let mut failed = Vec::new();
    for seed in seeds {
        if run(seed, None).is_err() {
            failed.push(seed);
            if failed.len() >= 20 {
                break;
            }
        }
    }
    let Some(&first) = failed.first() else { return };
    let mut trace = VecDeque::new();
    let _ = run(first, Some(&mut trace));
    for line in &trace {
        eprintln!("{line}");
    }
    panic!("failed seeds: {failed:?}; above: the last actions of GYRE_SIM_SEED={first}");
}
