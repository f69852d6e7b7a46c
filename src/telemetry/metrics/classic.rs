//! Prometheus' classic text format (0.0.4), made from OpenMetrics text: for scrapers and tools that do not know the
//! newer one. The library writes only that.
//!
//! What differs: types and help belong to the name of the sample (`..._total`, `..._info`), an info is a gauge, and
//! there are no units, no exemplars and no end mark.

/// Turns what the Prometheus client library writes into the classic format.
pub(super) fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            // The type follows, and decides by what name the two go.
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
            let (Some((name, help)), Some((_, kind))) =
                (help.split_once(' '), kind.and_then(|kind| kind.split_once(' ')))
            else {
                continue;
            };
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            text.extend(["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            // No label of ours holds " # ", and values never do.
            let sample = line.split_once(" # ").map_or(line, |(sample, _exemplar)| sample);
            text.extend([sample, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_between_the_formats_is_made() {
        let open_metrics = "# HELP a Calls.\n# TYPE a counter\na_total{b=\"c\"} 1 # {trace_id=\"x\"} 0.5\n\
            # HELP d_seconds Time.\n# TYPE d_seconds histogram\n# UNIT d_seconds seconds\nd_seconds_count 2\n\
            # HELP e What.\n# TYPE e info\ne_info{f=\"g\"} 1\n# EOF\n";
        let expected = "# HELP a_total Calls.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n\
            # HELP d_seconds Time.\n# TYPE d_seconds histogram\nd_seconds_count 2\n\
            # HELP e_info What.\n# TYPE e_info gauge\ne_info{f=\"g\"} 1\n";
        assert_eq!(classic(open_metrics), expected);
    }
}
