//! Random addresses: none may stop the program, and no error or `Debug` text may hold a piece of a password.

use super::*;

/// No three characters of it occur in any text of the program.
const PASSWORD: &str = "Zq9xVw3kJ7";

/// Numbers that repeat with their seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

fn leaks(text: &str) -> bool {
    (0..PASSWORD.len() - 2).any(|start| text.contains(&PASSWORD[start..start + 3]))
}

/// What the program says about an entry in each of the three lists.
struct Checker(Redis);

impl Checker {
    fn new() -> Self {
        let nothing: [&str; 0] = [];
        Self(redis(json!({"address": nothing, "sentinel_master_name": "m", "password": PASSWORD})))
    }

    /// An entry that is understood may have the password as its host or user, if it is broken in that way.
    fn check(&self, entry: &str, is_broken: bool) {
        for list in 0..3 {
            let mut redis = self.0.clone();
            let lists = [&mut redis.address, &mut redis.cluster_address, &mut redis.sentinel_address];
            lists.into_iter().nth(list).unwrap().push(Secret::new(entry.to_owned()));
            match RedisOptions::new(&redis) {
                Ok(_) if is_broken => {}
                Ok(options) => assert!(!leaks(&format!("{redis:?} {options:?} {}", options.mode())), "{entry}"),
                Err(mistake) => assert!(!leaks(&format!("{redis:?} {mistake:?}")), "{entry}: {mistake:?}"),
            }
        }
    }
}

/// A log that is sent to somebody for help must not hand over the password.
#[test]
fn passwords_stay_out_of_texts() {
    let checker = Checker::new();
    for entry in [
        "redis://u:PASS@a:1",
        "redis://u:PASS@a:x",
        "redis://:PASS@a/x",
        "unix://u:PASS@/s",
        "redis+cluster://u:PASS@a,b",
        "redis://a?sentinel_master_name=m&sentinel_password=PASS",
        "redis+sentinel://u:PASS@a?sentinel_master_name=m&sentinel_password=PASS&io_timeout=x",
    ] {
        checker.check(&entry.replace("PASS", PASSWORD), false);
    }
}

/// The same when the address is so broken that the password stands where something else is expected.
#[test]
fn broken_addresses_neither_panic_nor_leak() {
    const PIECES: [&str; 34] = [
        PASSWORD,
        PASSWORD,
        "redis://",
        "rediss://",
        "unix://",
        "redis+sentinel://",
        "redis+cluster://",
        "tcp://",
        "a",
        "b",
        "6379",
        "0",
        "-",
        ":",
        ":",
        "@",
        "@",
        "/",
        "/",
        "?",
        "?",
        "&",
        "=",
        ",",
        "[",
        "]",
        "::1",
        "#",
        "%",
        "%41",
        " ",
        "é",
        "sentinel_master_name=m",
        "io_timeout=",
    ];
    let checker = Checker::new();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..30_000 {
        let pieces = 1 + dice.below(12);
        let entry: String = (0..pieces).map(|_| dice.pick(&PIECES)).collect();
        checker.check(&entry, true);
    }
}

/// And when one slip was made in a good one.
#[test]
fn slips_neither_panic_nor_leak() {
    const SLIPS: [&str; 12] = ["", "", "", ":", "/", "?", "@", "%", "#", "&", " ", "é"];
    let good =
        format!("redis+sentinel://us:{PASSWORD}@a:1,[::1]:2/3?sentinel_master_name=m&sentinel_password={PASSWORD}");
    let checker = Checker::new();
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    for _ in 0..10_000 {
        let mut entry: Vec<char> = good.chars().collect();
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(entry.len());
            let until = (at + dice.below(2)).min(entry.len());
            entry.splice(at..until, dice.pick(&SLIPS).chars());
        }
        checker.check(&entry.into_iter().collect::<String>(), true);
    }
}
