//! Where an Atoti node is, and what can be asked there: URLs below its base, each with the bounded words for it that
//! metrics and spans use.

use http::Method;
use url::Url;

use super::QueryId;
use crate::telemetry::{Destination, Target};

/// Where the API lives below the context path.
const API: &str = "activeviam/query-history/rest/v1";
/// Where a JSON Web Token is had for a login.
const TOKEN: &str = "activeviam/jwt/rest/v3/token";

/// The base URL of one node, its context path included.
#[derive(Clone, Debug)]
pub(super) struct Base {
    url: Url,
    destination: Destination,
}

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) target: Target,
}

impl PartialEq for Base {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl Eq for Base {}

impl Base {
    /// The settings accept only URLs with a host, and http and https have default ports.
    pub(super) fn new(url: Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let destination = Destination::new(host, port);
        Self { url, destination }
    }

    /// One query.
    pub(super) fn query(&self, method: Method, id: &QueryId) -> Asked {
        self.asked(method, "/query/{id}", self.below(API.split('/').chain(["query", id.as_str()])))
    }

    /// The plan of one query, with parameters.
    pub(super) fn query_plan(&self, id: &QueryId, parameters: &str) -> Asked {
        let mut url = self.below(API.split('/').chain(["query", id.as_str(), "query-plan"]));
        url.set_query(Some(parameters));
        self.asked(Method::GET, "/query/{id}/query-plan", url)
    }

    /// Queries, by parameters.
    pub(super) fn queries(&self, method: Method, parameters: &str) -> Asked {
        let mut url = self.below(API.split('/').chain(["queries"]));
        url.set_query(Some(parameters).filter(|parameters| !parameters.is_empty()));
        self.asked(method, "/queries", url)
    }

    /// The discovery document.
    pub(super) fn versions(&self) -> Asked {
        self.asked(Method::GET, "/versions/rest", self.below(["versions", "rest"]))
    }

    /// A token.
    pub(super) fn token(&self) -> Asked {
        self.asked(Method::GET, "/token", self.below(TOKEN.split('/')))
    }

    fn asked(&self, method: Method, template: &'static str, url: Url) -> Asked {
        let name = match method {
            Method::GET => "GET",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            // OpenTelemetry's word for what is not among those known.
            _ => "_OTHER",
        };
        Asked {
            method,
            url,
            target: Target { method: name, template, destination: self.destination.clone() },
        }
    }

    /// A path below the base.
    fn below<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .expect("http and https URLs have a path, and config accepts no others")
            .pop_if_empty()
            .extend(segments);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_the_base_url_and_the_path_with_one_slash_between() {
        for (base, path) in [
            ("http://atoti:9090", "/activeviam/query-history/rest/v1/query/42"),
            ("http://atoti:9090/", "/activeviam/query-history/rest/v1/query/42"),
            ("http://atoti:9090/a/b", "/a/b/activeviam/query-history/rest/v1/query/42"),
            ("http://atoti:9090/a/b/", "/a/b/activeviam/query-history/rest/v1/query/42"),
        ] {
            let base = Base::new(Url::parse(base).expect("a URL"));
            let id = QueryId::parse("42").expect("an id");
            assert_eq!(base.query(Method::GET, &id).url.path(), path, "{base:?}");
        }
    }
}
