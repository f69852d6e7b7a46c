//! The rules of the house that a compiler does not check: which room may know which, and how a file opens.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms, each with those of ours it may import. `crate::` paths of files below count as their room's.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("client", &["proto"]),
    ("files", &[]),
    ("tls", &["files"]),
    ("config", &["files", "tls"]),
    ("simulator", &[]),
    ("telemetry", &["config", "files"]),
    ("audit", &["config", "files", "telemetry"]),
    ("atoti", &["config", "files", "telemetry", "tls"]),
    ("status", &["atoti"]),
    ("service", &["atoti", "audit", "config", "proto", "status", "telemetry"]),
    ("server", &["config", "files", "proto", "service", "status", "telemetry", "tls"]),
    ("fuzzing", &["atoti", "audit", "config", "proto", "service", "status", "telemetry"]),
    (
        "cli",
        &[
            "atoti",
            "audit",
            "config",
            "files",
            "proto",
            "server",
            "service",
            "simulator",
            "status",
            "telemetry",
            "tls",
        ],
    ),
];

fn sources(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each source file: its path below `src`, its text without tests.
fn house() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    assert!(paths.len() > 20, "the house was found");
    let file = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let name = path.strip_prefix(&root).expect("below src").to_str().expect("ASCII").to_owned();
        (name, text.split("#[cfg(test)]\nmod tests").next().expect("a first part").to_owned())
    };
    paths.into_iter().map(file).collect()
}

/// The rooms that a text imports, however the `use` is grouped.
fn imports(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut rooms = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let grouped = rest.strip_prefix('{');
        let (mut depth, mut word) = (0, String::new());
        for c in grouped.unwrap_or(rest).chars() {
            match c {
                _ if depth == 0 && (c.is_ascii_alphanumeric() || c == '_') => word.push(c),
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' if depth == 0 && grouped.is_some() => rooms.push(std::mem::take(&mut word)),
                // Behind `room::` everything up to the next comma belongs to it.
                ':' if grouped.is_some() => {
                    if !word.is_empty() {
                        rooms.push(std::mem::take(&mut word));
                    }
                }
                ' ' if grouped.is_some() => {}
                _ if depth > 0 => {}
                _ => break,
            }
        }
        rooms.push(word);
    }
    rooms
}

#[test]
fn imports_go_one_way() {
    for (name, text) in house() {
        let room = name.split(['/', '.']).next().expect("a room");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(known, _)| *known == room)
            .unwrap_or_else(|| panic!("{name} belongs to no room: add {room} to the list"));
        for import in imports(&text) {
            let is_room = MAY_IMPORT.iter().any(|(known, _)| *known == import);
            assert!(
                !is_room || import == room || allowed.contains(&import.as_str()),
                "src/{name} imports {import}, which {room} must not know"
            );
        }
    }
}

#[test]
fn the_check_of_imports_sees_every_way_to_write_one() {
    assert_eq!(imports("use crate::atoti::Atoti;"), ["atoti"]);
    let grouped = "use crate::{\n    atoti::{self, Call},\n    audit,\n    status::Failure,\n};";
    let found: Vec<_> =
        imports(grouped).into_iter().filter(|room| MAY_IMPORT.iter().any(|(r, _)| r == room)).collect();
    assert_eq!(found, ["atoti", "audit", "status"]);
    assert_eq!(imports("let x = crate::server::run();"), ["server"]);
    assert!(imports("// see crate::server").is_empty());
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for (name, text) in house() {
        assert!(text.starts_with("//! "), "src/{name} does not open with //!");
    }
}

/// A row without a test is a promise nobody keeps.
#[test]
fn every_reason_of_the_status_page_is_met_in_some_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    sources(&root.join("tests/suite"), &mut paths);
    let tests: String = paths.iter().map(|path| fs::read_to_string(path).expect("a test")).collect();
    let page = fs::read_to_string(root.join("docs/STATUS.md")).expect("the page");
    let is_reason =
        |word: &&str| word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let reasons: Vec<_> = page.split('`').filter(is_reason).collect();
    assert!(reasons.len() > 40, "the reasons were found: {reasons:?}");
    for reason in reasons {
        assert!(tests.contains(&format!("\"{reason}\"")), "no test meets {reason}");
    }
}

/// What the threat model says of tests must be true.
#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("SECURITY.md")).expect("the page");
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        if let Some((place, test)) = word.split_once("::") {
            let file =
                if place.ends_with(".rs") { place.to_owned() } else { format!("tests/suite/{place}.rs") };
            let text = fs::read_to_string(root.join(&file)).unwrap_or_else(|_| panic!("there is no {file}"));
            assert!(text.contains(&format!("fn {test}(")), "{file} has no test {test}");
            named += 1;
        } else if word.contains('/') {
            assert!(root.join(word).exists(), "there is no {word}");
        }
    }
    assert!(named > 50, "the tests were found: {named}");
    // No row without its evidence.
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let shown = row.trim_end_matches('|').rsplit('|').next().expect("a last column");
        assert!(shown.contains('`') || row.contains("Shown by"), "nothing shows it: {row}");
    }
}

fn operations() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    fs::read_to_string(path).expect("the page for operators")
}

#[test]
fn every_log_line_is_explained_to_operators() {
    let page = operations();
    let mut told = 0;
    for (name, text) in house() {
        for level in ["info!(", "warn!(", "error!("] {
            for event in text.split(&format!("tracing::{level}")).skip(1) {
                // The message is the last text of the event.
                let event = event.split(");").next().expect("an event");
                let message = event.rsplit('"').nth(1).expect("a message");
                assert!(
                    page.contains(&format!("`{message}`")),
                    "{name}: {message:?} is not in docs/OPERATIONS.md"
                );
                told += 1;
            }
        }
    }
    assert!(told > 10, "the log lines were found: {told}");
    assert!(page.contains("`call ended`"), "whose level is chosen in place");
}

#[test]
fn every_reason_comes_with_what_to_do() {
    let page = operations();
    for reason in atoti_grpc_bridge::status::Reason::ALL {
        assert!(
            page.contains(&format!("`{}`", reason.as_str())),
            "{} is not in docs/OPERATIONS.md",
            reason.as_str()
        );
    }
}

#[test]
fn every_setting_is_explained_to_operators() {
    let output = crate::support::bridge::command()
        .args(["serve", "--help"])
        .stdout(std::process::Stdio::piped())
        .output()
        .expect("it runs");
    let (help, page) = (String::from_utf8(output.stdout).expect("text"), operations());
    let named = |word: &&str| word.starts_with("ATOTI_BRIDGE_") && word.contains('=');
    let variables: Vec<_> =
        help.split_whitespace().filter(named).filter_map(|word| word.split('=').next()).collect();
    assert!(variables.len() > 20, "{help}");
    for variable in variables {
        assert!(page.contains(&format!("`{variable}`")), "{variable} is not in docs/OPERATIONS.md");
    }
}

#[tokio::test]
async fn every_metric_is_explained_to_operators() {
    let bridge = crate::support::bridge::Bridge::start("http://127.0.0.1:1").await;
    // Those with labels are there when something has been counted.
    let client = bridge.client().await;
    assert_eq!(client.cancel(&crate::support::client::cancel("42")).await.code(), 14);
    let (metrics, page) = (bridge.metrics().await, operations());
    let types: Vec<_> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(types.len() >= 10, "{metrics}");
    for line in types {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        assert!(page.contains(&format!("`{name}{suffix}`")), "{name} is not in docs/OPERATIONS.md");
    }
}
