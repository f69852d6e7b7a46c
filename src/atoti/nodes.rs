//! Several Atoti nodes: where each can be reached, so that a cancel gets to the node that runs the query.

use std::{collections::BTreeMap, path::Path};

use super::{Atoti, base::Base};
use crate::{config, files::FromFiles};

/// Where they are, by `nodeName`.
pub(super) type Nodes = BTreeMap<String, Base>;

/// One node of Atoti.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// As the history calls it.
    pub name: String,
    pub(super) base: Base,
}

pub(super) fn follow(path: &Path) -> Result<FromFiles<Nodes>, String> {
    let parse = |contents: &[Vec<u8>]| {
        let nodes = config::nodes(&contents.concat())?;
        Ok(nodes.into_iter().map(|(name, url)| (name, Base::new(url))).collect())
    };
    FromFiles::load("the Atoti nodes", vec![path.to_owned()], parse)
}

impl Atoti {
    /// The node of a name, if the bridge has been told of it, and that it is elsewhere than the base URL.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Node> {
        let base = self.nodes.as_ref()?.current().get(name)?.clone();
        (base != self.base).then(|| Node { name: name.to_owned(), base })
    }

    /// Every node that is elsewhere than the base URL.
    #[must_use]
    pub fn nodes_elsewhere(&self) -> Vec<Node> {
        let mut nodes = self.nodes();
        nodes.retain(|node| node.base != self.base);
        nodes
    }

    /// Every node that the bridge has been told of, by name.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let Some(nodes) = &self.nodes else { return Vec::new() };
        let node = |(name, base): (&String, &Base)| Node { name: name.clone(), base: base.clone() };
        nodes.current().iter().map(node).collect()
    }
}
