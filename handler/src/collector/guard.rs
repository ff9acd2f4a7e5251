//! Who may ask: programs on this machine, and pages of the collector itself. Not other websites through the user's browser,
//! which can reach the loopback address (cross-site requests) and pose as any name (DNS rebinding).

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, StatusCode, header};

use super::refusal::Refusal;

/// Lets a request through, or says why not. `remote` is whether the collector was told to serve other machines: then it can't
/// know by which names it is called, and only foreign origins are refused.
pub(super) fn check(method: &Method, headers: &HeaderMap, remote: bool) -> Result<(), Refusal> {
    let forbidden = |reason: &str| Err(Refusal::new(StatusCode::FORBIDDEN, reason));
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else {
        return Err(Refusal::bad("the request needs one Host header"));
    };
    if !remote && !is_loopback(host_name(host)) {
        return forbidden("this collector answers to 127.0.0.1, [::1] and localhost only");
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        // Only browsers send these two; programs that upload do not.
        if let Some(origin) = headers.get(header::ORIGIN) {
            let own = origin.to_str().is_ok_and(|origin| {
                let (_, authority) = origin.split_once("://").unwrap_or(("", ""));
                !authority.is_empty() && authority.eq_ignore_ascii_case(host)
            });
            if !own {
                return forbidden("another website may not send crashes here");
            }
        }
        let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
        if matches!(site, Some(b"cross-site" | b"same-site")) {
            return forbidden("another website may not send crashes here");
        }
    }
    Ok(())
}

/// A Host header without its port.
fn host_name(host: &str) -> &str {
    if let Some(end) = host.find(']') {
        return &host[..=end];
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        // Browsers resolve these to the loopback address themselves (RFC 6761, section 6.3).
        Err(_) => {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, headers: &[(&'static str, &str)], remote: bool) -> Result<(), u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        check(&method, &map, remote).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn the_collectors_own_names_are_let_through() {
        for host in [
            "127.0.0.1:80",
            "127.1.2.3",
            "localhost:1",
            "LOCALHOST",
            "a.localhost:1",
            "[::1]:80",
            "[::1]",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(status(Method::GET, &[("host", host)], false), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_foreign_name_for_this_address_is_refused() {
        for host in [
            "evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]:80",
            "",
            "]",
        ] {
            assert_eq!(status(Method::GET, &[("host", host)], false), Err(403), "{host}");
            assert_eq!(status(Method::POST, &[("host", host)], false), Err(403), "{host}");
        }
        assert_eq!(status(Method::GET, &[], false), Err(400));
        assert_eq!(status(Method::GET, &[("host", "localhost"), ("host", "evil.example")], false), Err(400));
        assert_eq!(status(Method::GET, &[("host", "crashes.example:80")], true), Ok(()));
    }

    #[test]
    fn a_website_can_send_nothing() {
        let host = ("host", "127.0.0.1:80");
        for origin in ["http://evil.example", "null", "", "http://127.0.0.1:81", "http://localhost:80"] {
            assert_eq!(status(Method::POST, &[host, ("origin", origin)], false), Err(403), "{origin}");
            assert_eq!(status(Method::POST, &[host, ("origin", origin)], true), Err(403), "{origin}");
        }
        assert_eq!(status(Method::POST, &[host, ("sec-fetch-site", "cross-site")], false), Err(403));
        assert_eq!(status(Method::POST, &[host, ("origin", "http://127.0.0.1:80")], false), Ok(()));
        assert_eq!(status(Method::POST, &[host], false), Ok(()));
    }
}
