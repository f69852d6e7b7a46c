//! The file that says where each Atoti node is.

use std::collections::BTreeMap;

use url::Url;

use super::check::base_url;

/// The longest name of a node.
const LONGEST_NAME: usize = 128;

/// Reads a JSON object of base URLs by `nodeName`: `{"node-1": "http://atoti-1:9090", ...}`.
///
/// # Errors
///
/// What is wrong with it and what to write instead.
pub fn nodes(content: &[u8]) -> Result<BTreeMap<String, Url>, String> {
    let entries: BTreeMap<String, String> = serde_json::from_slice(content).map_err(|error| {
        // What is of another type would be quoted, and a URL may hold a password.
        let what = if error.is_data() { "it is no object of texts".to_owned() } else { error.to_string() };
        format!(r#"{what}; write for example {{"node-1": "http://atoti-1.example:9090"}}"#)
    })?;
    if entries.is_empty() {
        return Err(
            r#"it names no node; write for example {"node-1": "http://atoti-1.example:9090"}"#.to_owned()
        );
    }
    let node = |(name, url): (String, String)| {
        if name.is_empty() || name.chars().count() > LONGEST_NAME {
            return Err(format!("the name of a node has 1 to {LONGEST_NAME} characters"));
        }
        base_url(&url).map(|url| (name.clone(), url)).map_err(|mend| format!("node {name:?}: {mend}"))
    };
    entries.into_iter().map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_base_urls_by_name() {
        let read = nodes(br#"{"a": "http://a:9090", "b": "https://b/context"}"#).expect("good");
        assert_eq!(read["b"].as_str(), "https://b/context");
        for (content, mend) in [
            ("", "write for example"),
            ("{}", "names no node"),
            (r#"["http://a"]"#, "write for example"),
            (r#"{"a": 1}"#, "write for example"),
            (r#"{"": "http://a"}"#, "1 to 128 characters"),
            (r#"{"a": "ftp://a"}"#, "node \"a\": the scheme"),
            (r#"{"a": "http://u:s3cret@a"}"#, "credentials do not belong"),
            (r#""http://u:s3cret@a""#, "no object of texts"),
        ] {
            let told = nodes(content.as_bytes()).expect_err(content);
            assert!(told.contains(mend) && !told.contains("s3cret"), "{content}: {told}");
        }
    }
}
