//! Temporary.
use clap::Parser as _;
use gyre_loadtest::{live::Live, load, options::{Cli, Command}, plan};
fn main() {
    let Command::Run(run) = Cli::parse().command else { return };
    let (workload, common) = run.split();
    let draft = plan::check(&workload, &common).unwrap();
    for line in &draft.lines { println!("{line}"); }
    println!("{:?}", draft.refusals);
    let live = Live::new(draft.plan.cores);
    signal_hook::flag::register(signal_hook::consts::SIGINT, live.stop_flag()).unwrap();
    let seen = live.clone();
    std::thread::spawn(move || loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
        let s = seen.take();
        let c = &s.counts;
        println!("{} open {} sub {} pub {} exp {} del {} lost {} pings {} p50 {} p99 {} lag99 {} err {:?}", seen.phase(), c.open, c.subscribed, c.published, c.expected, c.delivered, c.lost, c.pings, s.interval.delivery.value_at_quantile(0.5), s.interval.delivery.value_at_quantile(0.99), s.interval.lag.value_at_quantile(0.99), c.errors);
    });
    let outcome = load::run(&draft.plan, &workload, &common, live).unwrap();
    println!("{:?}\n{:?}\nviolations {:#?}\nnotes {:#?}", outcome.phases, outcome.totals, outcome.violations, outcome.notes);
    for (name, h) in &outcome.latencies { println!("{name} n {} p50 {} p99 {} p999 {} max {}", h.len(), h.value_at_quantile(0.5), h.value_at_quantile(0.99), h.value_at_quantile(0.999), h.max()); }
}
