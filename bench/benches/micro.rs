//! All cases by the wall clock: `cargo bench -p gyre-bench`, or one of them by name. Noisy on a shared machine; the
//! instruction counts (`gyre-bench instructions`) are what tells a regression.

use criterion::{Criterion, Throughput};
use gyre_bench::cases;

/// As in the product: its allocations are part of what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in cases::all() {
        let mut group = criterion.benchmark_group(case.name);
        group.throughput(Throughput::Elements(case.operations));
        let mut round = (case.prepare)();
        group.bench_function(case.unit, |bencher| bencher.iter(&mut round));
        group.finish();
    }
    criterion.final_summary();
}
