//! What went wrong, in the five shapes an Atoti Server has for it.

use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How the body of an error looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Atoti's own: `{"errorChain":[{"message","type"},...],"stackTrace":"..."}`.
    ErrorChain,
    /// The same inside `{"status":"error","error":{...}}`.
    WrappedErrorChain,
    /// Spring Boot's: `{"timestamp","status","error","path"}`.
    Spring,
    /// A bare sentence, although the content type says JSON.
    Text,
    /// Tomcat's page.
    TomcatHtml,
    /// Nothing.
    Empty,
}

/// A refusal on its way to the caller.
///
/// Handlers return it; it travels in the extensions of an empty response until the place that knows the request's
/// path and `Accept` gives it its body.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) shape: Shape,
    /// The simple name of the Java exception.
    pub(super) kind: Cow<'static, str>,
    pub(super) message: String,
}

impl Problem {
    pub(super) const fn new(status: StatusCode, shape: Shape) -> Self {
        Self { status, shape, kind: Cow::Borrowed(""), message: String::new() }
    }

    /// A parameter or a state that does not allow it.
    pub(super) fn bad_request(message: String) -> Self {
        Self {
            kind: "BadRequestException".into(),
            message,
            ..Self::new(StatusCode::BAD_REQUEST, Shape::ErrorChain)
        }
    }

    /// No such query, or none that runs here.
    pub(super) fn not_found(message: String) -> Self {
        Self {
            kind: "NotFoundException".into(),
            message,
            ..Self::new(StatusCode::NOT_FOUND, Shape::ErrorChain)
        }
    }

    /// An exception that nobody caught.
    pub(super) fn unexpected(message: String) -> Self {
        let kind = "DateTimeParseException".into();
        Self { kind, message, ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, Shape::ErrorChain) }
    }

    /// A sentence without a wrapping.
    pub(super) fn bare(message: String) -> Self {
        Self { message, ..Self::new(StatusCode::BAD_REQUEST, Shape::Text) }
    }

    /// Spring's own refusal, before any handler.
    pub(super) const fn spring(status: StatusCode) -> Self {
        Self::new(status, Shape::Spring)
    }

    /// Any status at all, for reasons nobody will know.
    pub(super) fn simulated(status: StatusCode, shape: Shape) -> Self {
        Self {
            kind: "SimulatedException".into(),
            message: "A simulated fault".to_owned(),
            ..Self::new(status, shape)
        }
    }

    /// The body and its content type.
    pub(super) fn render(&self, path: &str) -> (&'static str, String) {
        let status = self.status.as_u16();
        let phrase = self.status.canonical_reason().unwrap_or("Http Status");
        match self.shape {
            Shape::ErrorChain => ("application/json", self.chain().to_string()),
            Shape::WrappedErrorChain => {
                ("application/json", json!({"status": "error", "error": self.chain()}).to_string())
            }
            Shape::Spring => {
                let timestamp = format!("{:.3}", Timestamp::now());
                let body = json!({"timestamp": timestamp, "status": status, "error": phrase, "path": path});
                ("application/json", body.to_string())
            }
            // The label is that of the original, and wrong there too.
            Shape::Text => ("application/json", self.message.clone()),
            Shape::TomcatHtml => ("text/html;charset=utf-8", tomcat_page(status, phrase)),
            Shape::Empty => ("", String::new()),
        }
    }

    fn chain(&self) -> serde_json::Value {
        let (kind, message) = (&self.kind, &self.message);
        json!({
            "errorChain": [
                {"message": message, "type": kind},
                {"message": format!("{kind}: {message}"), "type": "CompletionException"},
            ],
            "stackTrace": format!(
                "com.activeviam.{kind}: {message}\n\tat com.activeviam.history.QueryHistoryRestService.call(QueryHistoryRestService.java:142)\n"
            ),
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives a response its body, if it is a problem that still waits for one and the caller takes what it would be.
pub(super) fn write_out(response: &mut Response, path: &str, takes_json: bool) {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return };
    let (content_type, body) = problem.render(path);
    if content_type.is_empty() || (content_type == "application/json" && !takes_json) {
        return;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // That of the empty body, which axum has noted down already.
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
}

fn tomcat_page(status: u16, phrase: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><title>HTTP Status {status} – {phrase}</title>\
         <style type=\"text/css\">body {{font-family:Tahoma,Arial,sans-serif;}}</style></head><body>\
         <h1>HTTP Status {status} – {phrase}</h1><hr class=\"line\" /><p><b>Type</b> Status Report</p>\
         <h3>Apache Tomcat/10.1</h3></body></html>"
    )
}
