//! All knobs in the order of the table: what may stop a node first, what only costs speed last.

mod machine;
mod system;

use crate::Role;
use crate::knob::Knob;

/// Every knob, whatever the role.
pub fn all() -> impl Iterator<Item = &'static Knob> {
    system::KNOBS.iter().chain(machine::KNOBS)
}

/// The knobs of one side.
pub fn of(role: Role) -> impl Iterator<Item = &'static Knob> {
    all().filter(move |knob| knob.role.is_none_or(|only| only == role))
}

/// By id, or by the name an administrator knows: `somaxconn` or `net.core.somaxconn`.
#[must_use]
pub fn named(name: &str) -> Option<&'static Knob> {
    all().find(|knob| knob.id.eq_ignore_ascii_case(name) || knob.setting.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two knobs of one name: the second could never be applied or explained.
    #[test]
    fn names_are_unique_and_texts_complete() {
        let mut ids: Vec<&str> = all().map(|knob| knob.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for knob in all() {
            assert!(knob.why.len() > 150 && knob.why.ends_with('.'), "{}: why", knob.id);
            assert!(!knob.why.contains("  ") && !knob.why.contains('\n'), "{}: one paragraph", knob.id);
            assert!(knob.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", knob.id);
            assert_eq!(named(knob.setting).map(|found| found.id), Some(knob.id));
        }
    }
}
