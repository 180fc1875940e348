//! The cases: each prepares its state once and then repeats one round of pure code, without sockets and clocks.
//!
//! One list for wall clock and instruction counts, so that both speak of the same code. What a round returns to the
//! caller goes through `black_box`: the compiler must not see that nobody reads it.

mod codec;
mod engine;
mod hands;
mod io;

/// One thing whose cost is known by name.
pub struct Case {
    /// Unique; what the command line and the baseline say.
    pub name: &'static str,
    /// What one operation is.
    pub unit: &'static str,
    /// Operations in a round.
    pub operations: u64,
    /// Makes the state and hands back the round.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// All cases, those of the lower layers first.
pub fn all() -> Vec<Case> {
    [codec::CASES, io::CASES, engine::CASES].into_iter().flat_map(<[Case]>::iter).map(Case::again).collect()
}

impl Case {
    fn again(&self) -> Self {
        Self { ..*self }
    }
}
