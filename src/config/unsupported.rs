//! Options that are known but not honoured by this version, when they are set to something that would matter.
//!
//! A feature with a switch is named once, by the switch; while it is off, its other options do not matter.

use super::layers::join;
use super::schema::{Field, Kind, ROOT, each, find};
use super::{Object, Warning};
use serde_json::Value;

pub(super) fn report(tree: &Object, warnings: &mut Vec<Warning>) {
    object(ROOT, tree, "", true, warnings);
}

fn object(fields: &'static [Field], tree: &Object, path: &str, is_honoured: bool, warnings: &mut Vec<Warning>) {
    let switch = find(fields, "enabled").filter(|switch| !switch.honoured || !is_honoured);
    if let (Some(_), Some(is_on)) = (switch, tree.get("enabled").and_then(Value::as_bool)) {
        if is_on {
            warnings.push(Warning::NotSupported { key: join(path, "enabled") });
        }
        return;
    }
    for field in each(fields) {
        let Some(value) = tree.get(field.name) else { continue };
        let at = join(path, field.name);
        let is_honoured = is_honoured && field.honoured;
        match (field.kind, value) {
            (Kind::Object(fields), Value::Object(tree)) => object(fields, tree, &at, is_honoured, warnings),
            (Kind::Named(fields) | Kind::Items(fields), Value::Array(items)) if is_honoured => {
                for (index, item) in items.iter().filter_map(Value::as_object).enumerate() {
                    object(fields, item, &format!("{at}.[{index}]"), true, warnings);
                }
            }
            (_, value) if is_honoured || *value == field.default_value() => {}
            (_, Value::String(word)) if field.neutral.contains(&word.as_str()) => {}
            _ => warnings.push(Warning::NotSupported { key: at }),
        }
    }
}
