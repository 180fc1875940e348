//! The rules of this source tree that neither the compiler nor clippy checks, as one test per rule.
//!
//! Only reads files of the checkout. A rule that makes a piece of code worse gets an exception here, with its reason.
//! This file is exempt from the rules on words, because it has to spell them.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

const RUST_LINES_MAX: usize = 400;
const PACKAGES: [&str; 7] = [
    "proto/src/lib.rs",
    "engine/src/lib.rs",
    "io/src/lib.rs",
    "src/main.rs",
    "tuning/src/lib.rs",
    "loadtest/src/lib.rs",
    "loadtest/src/main.rs",
];
const THIS_FILE: &str = "tests/tidy.rs";

/// A file of the tree: path relative to the root with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Numbered lines without comments and without blank ones. Strings stay in: naming something there counts too.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines
            .map(|(number, line)| (number, line.split_once("//").map_or(line, |(code, _)| code).trim()))
            .filter(|(_, line)| !line.is_empty())
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the tree, without what is built or installed.
fn sources() -> Vec<Source> {
    const SKIPPED: [&str; 7] =
        [".git", "target", "node_modules", ".venv", ".test-deps", "__pycache__", ".pytest_cache"];
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the tree").flatten() {
            let path = entry.path();
            if SKIPPED.iter().any(|skipped| path.file_name().is_some_and(|name| name == *skipped)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.iter().filter(|source| source.is_rust()).count() > 50, "the tree was not found");
    found
}

fn rust() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(|source| source.is_rust() && source.path != THIS_FILE)
}

/// Fails with all findings at once.
fn none<T: Display>(rule: &str, findings: impl IntoIterator<Item = T>) {
    let findings: Vec<String> = findings.into_iter().map(|finding| finding.to_string()).collect();
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// Lines of code that hold one of the words, as `path:line: text`.
fn lines_with(sources: impl Iterator<Item = Source>, words: &[&str]) -> Vec<String> {
    sources
        .flat_map(|source| {
            let hit = |line: &str| words.iter().any(|word| holds_word(line, word));
            let found = source.code().filter(|(_, line)| hit(line));
            found.map(|(number, line)| format!("{}:{number}: {line}", source.path)).collect::<Vec<_>>()
        })
        .collect()
}

/// `word` in `line`, not as a part of a longer identifier.
fn holds_word(line: &str, word: &str) -> bool {
    let is_inner = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(start, _)| {
        let open_end = !word.ends_with(|c: char| c.is_alphanumeric());
        let before = line[..start].chars().next_back();
        !is_inner(before) && (open_end || !is_inner(line[start + word.len()..].chars().next()))
    })
}

#[test]
fn files_are_short() {
    let long = rust().map(|source| (source.text.lines().count(), source.path));
    let long = long.filter(|(lines, _)| *lines > RUST_LINES_MAX);
    none("one idea per file, 400 lines at most", long.map(|(lines, path)| format!("{path}: {lines} lines")));
}

#[test]
fn modules_say_why_they_exist() {
    let silent = rust().filter(|source| !source.text.starts_with("//!"));
    none("a module starts with its `//!` comment", silent.map(|source| source.path));
}

#[test]
fn unsafe_code_stays_in_io() {
    let outside = rust().filter(|source| !source.path.starts_with("io/"));
    none("`unsafe` only in io", lines_with(outside, &["unsafe"]));
    let open = PACKAGES.iter().filter(|path| !path.starts_with("io/")).filter(|path| {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        !text.contains("#![forbid(unsafe_code)]")
    });
    none("the compiler checks it too: #![forbid(unsafe_code)]", open);
}

#[test]
fn nothing_is_left_unfinished() {
    none("finished code only", lines_with(rust(), &["todo!", "unimplemented!", "dbg!"]));
}

#[test]
fn the_backend_is_named_in_one_place() {
    let outside = rust().filter(|source| !source.path.starts_with("io/src/backend/"));
    let words = ["glommio", "io_uring::", "use io_uring"];
    none("only io/src/backend knows the executor and the ring", lines_with(outside, &words));
    let data_side = rust().filter(|source| !source.path.starts_with("src/control_plane/"));
    none("only the control plane knows Tokio", lines_with(data_side, &["tokio"]));
    let no_chart =
        rust().filter(|source| source.path != "loadtest/src/report/chart.rs" && !source.path.starts_with("bench/"));
    none("one file draws", lines_with(no_chart, &["plotters"]));
}

#[test]
fn packages_keep_to_their_side() {
    let engine = rust().filter(|source| source.path.starts_with("engine/src/"));
    let words = ["Instant", "SystemTime", "std::net", "std::fs"];
    none("the engine is told the time and does no I/O", lines_with(engine, &words));
    let manifest = |path: &str| fs::read_to_string(root().join(path)).expect("a manifest");
    let depends = |path: &str, on: &str| manifest(path).lines().any(|line| line.starts_with(on));
    assert!(!depends("engine/Cargo.toml", "gyre-io"), "engine must not know io");
    assert!(!depends("io/Cargo.toml", "gyre-engine"), "io must not know engine");
    assert!(!depends("proto/Cargo.toml", "gyre-"), "proto knows nobody");
    assert!(!depends("loadtest/Cargo.toml", "gyre-engine"), "the load generator is an independent witness");
    assert!(!depends("tuning/Cargo.toml", "gyre-"), "tuning knows nobody");
}

#[test]
fn licence_is_there() {
    let text = fs::read_to_string(root().join("LICENSE")).expect("LICENSE at the root");
    assert!(text.contains("Apache License") && text.contains("Version 2.0"), "LICENSE is not Apache-2.0");
}

/// A lock file must install from whatever registry the machine is set up for, and from no other by surprise.
#[test]
fn lock_files_name_no_host() {
    let crates_io = "registry+https://github.com/rust-lang/crates.io-index";
    let hosts = sources().into_iter().flat_map(|source| {
        let is_lock = ["Cargo.lock", "package-lock.json", "requirements.txt"].iter().any(|n| source.path.ends_with(n));
        let lines = source.text.lines().enumerate();
        let named = lines.filter(|(_, line)| is_lock && line.contains("://") && !line.contains(crates_io));
        named.map(|(index, line)| format!("{}:{}: {line}", source.path, index + 1)).collect::<Vec<_>>()
    });
    none("no registry hosts in lock files", hosts);
}

#[test]
fn no_paths_of_one_machine() {
    let words = ["/home/", "/root/", "/Users/"];
    let named = sources().into_iter().filter(|source| source.path != THIS_FILE).flat_map(|source| {
        let hits = source.text.lines().enumerate().filter(|(_, line)| words.iter().any(|word| holds_word(line, word)));
        hits.map(|(index, line)| format!("{}:{}: {line}", source.path, index + 1)).collect::<Vec<_>>()
    });
    none("no paths of one machine", named);
}

#[test]
fn links_resolve() {
    let broken = sources().into_iter().filter(Source::is_markdown).flat_map(|source| {
        let folder = root().join(&source.path).parent().expect("a folder").to_owned();
        let is_dead = |link: &&str| {
            let file = link.split('#').next().unwrap_or_default();
            !link.contains("://") && !file.is_empty() && !folder.join(file).exists()
        };
        let links = source.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.filter(is_dead).map(|link| format!("{}: {link}", source.path)).collect::<Vec<_>>()
    });
    none("relative links lead somewhere", broken);
}

/// Whatever looks like a source file or a folder between backticks must be the end of some path of the tree.
#[test]
fn documents_name_files_that_exist() {
    const ENDINGS: [&str; 7] = [".rs", ".md", ".py", ".mjs", ".toml", ".yml", "/"];
    let sources = sources();
    let mut paths: Vec<String> = sources.iter().map(|source| format!("/{}", source.path)).collect();
    let folders = paths.iter().flat_map(|path| path.match_indices('/').map(|(end, _)| path[..=end].to_owned()));
    let folders: Vec<String> = folders.collect();
    paths.extend(folders);
    let missing = sources.iter().filter(|source| source.is_markdown()).flat_map(|source| {
        let prose = source.text.split("```").step_by(2).flat_map(str::lines);
        let names = prose.flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|name| {
            let is_path = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
            let is_ours = !name.starts_with(['/', '.']) && !name.starts_with("target/");
            is_path && is_ours && ENDINGS.iter().any(|ending| name.ends_with(ending))
        });
        let gone = names.filter(|name| !paths.iter().any(|path| path.ends_with(&format!("/{name}"))));
        gone.map(|name| format!("{}: {name}", source.path)).collect::<Vec<_>>()
    });
    none("documents name files that exist", missing);
}

/// A guarantee whose test was renamed or removed would look as if something held it.
#[test]
fn documents_name_tests_that_exist() {
    let sources = sources();
    let has = |file: &str, test: &str| {
        let starts = [format!("fn {test}("), format!("def {test}(")];
        let files = sources.iter().filter(|source| format!("/{}", source.path).ends_with(&format!("/{file}")));
        files.flat_map(|source| source.text.lines()).any(|line| starts.iter().any(|start| line.contains(start)))
    };
    let missing = sources.iter().filter(|source| source.is_markdown()).flat_map(|source| {
        let names = source.text.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::"));
        let of_tests = names.filter(|(file, _)| file.ends_with(".rs") || file.ends_with(".py"));
        let gone = of_tests.filter(|(file, test)| !has(file, test));
        gone.map(|(file, test)| format!("{}: {file}::{test}", source.path)).collect::<Vec<_>>()
    });
    none("documents name tests that exist", missing);
}
