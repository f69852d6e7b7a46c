//! A whole `authorization` from a file, as `check` and `query` send it: never on the command line, where everybody on
//! the machine sees it.

use http::HeaderValue;

use crate::config;

/// Reads a whole `authorization`; what it should be and never what it is, when it is none.
pub(super) fn read(content: &[u8]) -> Result<HeaderValue, String> {
    const MEND: &str = "write the whole value of an authorization header into it, such as Basic dXNlcjp1c2Vy";

    let line = config::one_line(content)?;
    let scheme = line.split_once(' ').map(|(scheme, _)| scheme).unwrap_or_default();
    if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(MEND.to_owned());
    }
    let mut value = HeaderValue::from_str(line).map_err(|_| MEND.to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authorization_is_a_scheme_and_more_on_one_line_and_is_never_quoted() {
        for good in ["Basic czNjcmV0\r\n", "Bearer a.b.c", "Jwt a.b.c\n"] {
            let value = read(good.as_bytes()).expect(good);
            assert_eq!(value.as_bytes(), good.trim_end().as_bytes());
            assert!(value.is_sensitive());
        }
        for bad in ["", "s3cret", "ada:s3cret x", "authorization: Basic s3cret", "Basic s3cret\nx", " s3cret"]
        {
            let told = read(bad.as_bytes()).expect_err(bad);
            assert!(!told.contains("s3cret"), "{told}");
        }
    }
}
