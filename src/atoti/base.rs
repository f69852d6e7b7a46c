//! Where an Atoti node is, and what can be asked there: URLs below its base, each with the bounded words for it that
//! metrics and spans use.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header, uri::PathAndQuery};
use url::Url;

use super::{QueryId, connect::Origin};
use crate::telemetry::{Destination, Target};

/// Where the API lives below the context path.
const API: &str = "/activeviam/query-history/rest/v1";
const USER_AGENT: &str = concat!("atoti-grpc-bridge/", env!("CARGO_PKG_VERSION"));
/// As many as a request has, so that there is room for them from the start.
const MOST_HEADERS: usize = 12;
/// Where a JSON Web Token is had for a login.
const TOKEN: &str = "/activeviam/jwt/rest/v3/token";

/// The base URL of one node, its context path included. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Base(Arc<Parts>);

/// What every request to the node needs, worked out once.
#[derive(Debug)]
struct Parts {
    url: Url,
    origin: Origin,
    /// `Host`, as text.
    host: String,
    /// What every request says.
    headers: HeaderMap,
    /// The context path, without a slash at its end.
    context: String,
    asked_for: Targets,
}

/// What is asked for, in words for metrics and spans.
#[derive(Debug)]
struct Targets {
    get_query: Arc<Target>,
    cancel_query: Arc<Target>,
    delete_query: Arc<Target>,
    query_plan: Arc<Target>,
    get_queries: Arc<Target>,
    cancel_queries: Arc<Target>,
    delete_queries: Arc<Target>,
    versions: Arc<Target>,
    token: Arc<Target>,
}

impl Targets {
    fn at(destination: &Destination) -> Self {
        let target = |method, template| Arc::new(Target::new(method, template, destination.clone()));
        Self {
            get_query: target("GET", "/query/{id}"),
            cancel_query: target("PATCH", "/query/{id}"),
            delete_query: target("DELETE", "/query/{id}"),
            query_plan: target("GET", "/query/{id}/query-plan"),
            get_queries: target("GET", "/queries"),
            cancel_queries: target("PATCH", "/queries"),
            delete_queries: target("DELETE", "/queries"),
            versions: target("GET", "/versions/rest"),
            token: target("GET", "/token"),
        }
    }
}

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) target: Arc<Target>,
    base: Base,
}

/// The URL. Worked out only where somebody wants to see it.
impl fmt::Display for Asked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { url, host, .. } = &*self.base.0;
        write!(out, "{}://{host}{}", url.scheme(), self.path)
    }
}

impl Asked {
    pub(super) fn url(&self) -> Option<Url> {
        Url::parse(&self.to_string()).ok()
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.base.0.origin
    }

    /// The headers that every request has, and room for more.
    pub(super) fn headers(&self) -> HeaderMap {
        self.base.0.headers.clone()
    }
}

impl PartialEq for Base {
    fn eq(&self, other: &Self) -> bool {
        self.0.url == other.0.url
    }
}

impl Eq for Base {}

impl Base {
    /// The settings accept only URLs with a host, and http and https have default ports.
    pub(super) fn new(url: Url) -> Self {
        let name = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let value = HeaderValue::from_str(&host).expect("the host of a URL is ASCII without controls");
        let mut headers = HeaderMap::with_capacity(MOST_HEADERS);
        headers.insert(header::HOST, value);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        // `text/plain` alone breaks the rendering of errors in Spring.
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, */*"));
        Self(Arc::new(Parts {
            origin: Origin::of(&url),
            host,
            headers,
            context: url.path().trim_end_matches('/').to_owned(),
            asked_for: Targets::at(&Destination::new(name, port)),
            url,
        }))
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.0.origin.is_encrypted()
    }

    /// One query.
    pub(super) fn get_query(&self, id: &QueryId) -> Asked {
        self.one(Method::GET, &self.0.asked_for.get_query, id)
    }

    /// An end to one query.
    pub(super) fn cancel_query(&self, id: &QueryId) -> Asked {
        self.one(Method::PATCH, &self.0.asked_for.cancel_query, id)
    }

    /// No more of one query.
    pub(super) fn delete_query(&self, id: &QueryId) -> Asked {
        self.one(Method::DELETE, &self.0.asked_for.delete_query, id)
    }

    /// The plan of one query, with parameters.
    pub(super) fn query_plan(&self, id: &QueryId, parameters: &str) -> Asked {
        let path = [API, "/query/", id.as_str(), "/query-plan?", parameters];
        self.asked(Method::GET, &self.0.asked_for.query_plan, &path)
    }

    /// Queries, by parameters.
    pub(super) fn get_queries(&self, parameters: &str) -> Asked {
        self.several(Method::GET, &self.0.asked_for.get_queries, parameters)
    }

    /// An end to queries, by parameters.
    pub(super) fn cancel_queries(&self, parameters: &str) -> Asked {
        self.several(Method::PATCH, &self.0.asked_for.cancel_queries, parameters)
    }

    /// No more of queries, by parameters.
    pub(super) fn delete_queries(&self, parameters: &str) -> Asked {
        self.several(Method::DELETE, &self.0.asked_for.delete_queries, parameters)
    }

    /// The discovery document.
    pub(super) fn versions(&self) -> Asked {
        self.asked(Method::GET, &self.0.asked_for.versions, &["/versions/rest"])
    }

    /// A token.
    pub(super) fn token(&self) -> Asked {
        self.asked(Method::GET, &self.0.asked_for.token, &[TOKEN])
    }

    fn one(&self, method: Method, target: &Arc<Target>, id: &QueryId) -> Asked {
        self.asked(method, target, &[API, "/query/", id.as_str()])
    }

    fn several(&self, method: Method, target: &Arc<Target>, parameters: &str) -> Asked {
        let question_mark = if parameters.is_empty() { "" } else { "?" };
        self.asked(method, target, &[API, "/queries", question_mark, parameters])
    }

    /// A path below the base, from parts that need no escaping: ids are made of unreserved characters, parameters have
    /// been encoded.
    fn asked(&self, method: Method, target: &Arc<Target>, path: &[&str]) -> Asked {
        let context = self.0.context.as_str();
        let length = context.len() + path.iter().map(|part| part.len()).sum::<usize>();
        let mut text = String::with_capacity(length);
        text.push_str(context);
        text.extend(path.iter().copied());
        let path = PathAndQuery::from_maybe_shared(Bytes::from(text));
        let path = path.expect("the path of a URL, and what needs no escaping");
        Asked { method, path, target: Arc::clone(target), base: self.clone() }
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
            let asked = base.get_query(&id);
            assert_eq!(asked.path, path, "{base:?}");
            assert_eq!(asked.to_string(), format!("http://atoti:9090{path}"));
        }
    }

    #[test]
    fn every_url_is_fit_for_a_request() {
        let everything: String =
            (' '..='~').filter(|c| !matches!(c, '?' | '#')).chain("é\u{202e}".chars()).collect();
        for host in ["atoti", "[::1]", "10.0.0.1:8080", "bücher.example"] {
            let url = Url::parse(&format!("https://{host}/{everything}")).expect("a URL");
            let asked = Base::new(url.clone()).versions();
            let seen = asked.url().expect("a URL");
            assert_eq!(seen.as_str(), format!("{}/versions/rest", url.as_str().trim_end_matches('/')));
        }
    }
}
