//! What the environment says of traces, in OpenTelemetry's own variables, checked before anything is started.
//!
//! The SDK reads most of them itself, and passes over what it cannot use with a word in a log that nobody reads. Here a
//! value that cannot be used is a fault, like one in the bridge's own settings.

use std::env;

use url::Url;

use crate::files;

/// Spans that wait to be sent, where `OTEL_BSP_MAX_QUEUE_SIZE` does not say how many: the specification's default.
const QUEUE: usize = 2048;
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Traces are wanted, and how.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The authorities that the collector's certificate may come from, as PEM; else the system's.
    pub(super) authorities: Option<Vec<u8>>,
    /// Spans that may wait to be sent.
    pub(super) queue: usize,
}

impl TraceSettings {
    /// Reads the environment: nothing, where it asks for no traces. It does by naming a collector
    /// (`OTEL_EXPORTER_OTLP_ENDPOINT`) or the exporter (`OTEL_TRACES_EXPORTER=otlp`).
    ///
    /// # Errors
    ///
    /// Every variable that cannot be used, and what to write instead.
    pub fn from_environment() -> Result<Option<Self>, Vec<String>> {
        read(|name| env::var(name).ok())
    }
}

fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<TraceSettings>, Vec<String>> {
    let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    // What holds for traces, or else for everything.
    let otlp = |name: &str| {
        let find = |name: String| variable(&name).map(|value| (name, value));
        find(format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
            .or_else(|| find(format!("OTEL_EXPORTER_OTLP_{name}")))
    };
    let mut faults = Vec::new();
    let mut fault = |name: &str, value: &str, mend: &str| faults.push(format!("{name} = {value:?}: {mend}"));

    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    match variable("OTEL_TRACES_EXPORTER").as_deref() {
        None if otlp("ENDPOINT").is_none() => return Ok(None),
        Some("none") => return Ok(None),
        None | Some("otlp") => {}
        Some(other) => fault("OTEL_TRACES_EXPORTER", other, "write otlp or none"),
    }
    if let Some((name, protocol)) = otlp("PROTOCOL").filter(|(_, protocol)| protocol != "grpc") {
        let mend = "traces are sent as OTLP over gRPC; write grpc, and the collector's gRPC port, mostly 4317, \
            into the endpoint";
        fault(&name, &protocol, mend);
    }
    if let Some((name, endpoint)) = otlp("ENDPOINT") {
        let fits = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        if !endpoint.parse().is_ok_and(|url| fits(&url)) {
            fault(&name, &endpoint, "write for example http://collector.example:4317");
        }
    }
    if let Some((name, compression)) = otlp("COMPRESSION").filter(|(_, value)| value != "gzip") {
        fault(&name, &compression, "write gzip, or leave it out");
    }
    let authorities = otlp("CERTIFICATE").map(|(name, path)| {
        files::read(path.as_ref()).map_err(|why| fault(&name, &path, &why)).unwrap_or_default()
    });
    if let Some(sampler) = variable("OTEL_TRACES_SAMPLER") {
        if !SAMPLERS.contains(&&*sampler) {
            fault("OTEL_TRACES_SAMPLER", &sampler, &format!("write one of {}", SAMPLERS.join(", ")));
        }
        let argument = variable("OTEL_TRACES_SAMPLER_ARG").unwrap_or_default();
        let is_ratio = argument.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio));
        if sampler.ends_with("traceidratio") && !is_ratio {
            fault("OTEL_TRACES_SAMPLER_ARG", &argument, "write a number from 0 to 1");
        }
    }
    for name in ["MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "SCHEDULE_DELAY", "EXPORT_TIMEOUT"] {
        let name = format!("OTEL_BSP_{name}");
        if let Some(value) = variable(&name).filter(|value| value.parse::<u32>().is_err()) {
            fault(&name, &value, "write a whole number");
        }
    }
    let queue = variable("OTEL_BSP_MAX_QUEUE_SIZE").and_then(|size| size.parse().ok()).unwrap_or(QUEUE);
    if faults.is_empty() { Ok(Some(TraceSettings { authorities, queue })) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(environment: &[(&str, &str)]) -> Result<bool, Vec<String>> {
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        read(variable).map(|settings| settings.is_some())
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    #[test]
    fn traces_are_off_until_the_environment_asks_for_them() {
        for (environment, on) in [
            (&[][..], false),
            (&[ENDPOINT], true),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector")], true),
            (&[("OTEL_TRACES_EXPORTER", "otlp")], true),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], false),
            (&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")], false),
            (&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")], false),
            (&[ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.1")], true),
            // The particular counts before the general.
            (
                &[
                    ENDPOINT,
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
                    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
                ],
                true,
            ),
        ] {
            assert_eq!(of(environment), Ok(on), "{environment:?}");
        }
    }

    #[test]
    fn every_fault_is_told_with_its_variable() {
        let faults = of(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such"),
            ("OTEL_TRACES_SAMPLER", "sometimes_traceidratio"),
            ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
        ]);
        let faults = faults.expect_err("faults").join("\n");
        for told in [
            "OTEL_EXPORTER_OTLP_ENDPOINT = \"collector:4317\"",
            "OTEL_TRACES_EXPORTER",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "/no/such: ",
            "OTEL_TRACES_SAMPLER =",
            "OTEL_TRACES_SAMPLER_ARG",
            "OTEL_BSP_SCHEDULE_DELAY",
        ] {
            assert!(faults.contains(told), "{told}: {faults}");
        }
    }
}
