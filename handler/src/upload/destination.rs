//! Where a report goes, and which of the field's dialects is spoken there.

use std::fmt;

use reqwest::Url;

/// A kind of dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Breakpad's form, which Crashpad, Socorro, Electron and most others took over.
    Breakpad,
    /// Sentry's minidump endpoint.
    Sentry,
}

impl Format {
    /// The name used in reports and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Breakpad => "breakpad",
            Format::Sentry => "sentry",
        }
    }
}

/// A dashboard to send reports to. Its address may hold a key: only the [`fmt::Display`] form is for eyes and files.
#[derive(Clone, PartialEq, Eq)]
pub enum Profile {
    /// A server that takes Breakpad's form.
    Breakpad {
        /// Where to post.
        url: Url,
        /// Fields that this server wants besides ours (a token, a database name), sent first.
        fields: Vec<(String, String)>,
    },
    /// A Sentry project's minidump endpoint, key included.
    Sentry {
        /// `https://HOST/api/PROJECT/minidump/?sentry_key=KEY`
        url: Url,
    },
}

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDestination {
    /// It is no URL at all.
    #[error("this is not an address: {0}")]
    NotAUrl(String),
    /// It names another protocol than HTTP.
    #[error("reports go to http:// or https:// addresses, not to {0}://")]
    NotHttp(String),
    /// It was given as Sentry's but is neither a DSN nor a minidump endpoint.
    #[error(
        "Sentry wants a DSN (https://KEY@HOST/PROJECT) or its minidump address (https://HOST/api/PROJECT/minidump/?sentry_key=KEY)"
    )]
    NotSentry,
    /// It holds a password, which would be sent in clear to whoever answers there.
    #[error("this address holds a password; give the server's token as a field or in the query instead")]
    Password,
}

impl Profile {
    /// The profile for an address: `format` decides if given, else a DSN or a `/api/PROJECT/minidump` path is Sentry's and
    /// anything else Breakpad's.
    pub fn parse(address: &str, format: Option<Format>) -> Result<Profile, BadDestination> {
        let mut url = Url::parse(address).map_err(|error| BadDestination::NotAUrl(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadDestination::NotHttp(url.scheme().to_owned()));
        }
        // Fragments are for browsers.
        url.set_fragment(None);
        let sentry = if url.username().is_empty() && url.password().is_none() {
            is_minidump_endpoint(&url).then(|| url.clone())
        } else {
            endpoint_of_dsn(&url)
        };
        match (format, sentry) {
            (None | Some(Format::Sentry), Some(url)) => Ok(Profile::Sentry { url }),
            (Some(Format::Sentry), None) => Err(BadDestination::NotSentry),
            (Some(Format::Breakpad) | None, _) if url.username().is_empty() && url.password().is_none() => {
                Ok(Profile::Breakpad { url, fields: Vec::new() })
            }
            (Some(Format::Breakpad) | None, _) => Err(BadDestination::Password),
        }
    }

    /// Which dialect is spoken.
    pub fn format(&self) -> Format {
        match self {
            Profile::Breakpad { .. } => Format::Breakpad,
            Profile::Sentry { .. } => Format::Sentry,
        }
    }

    /// Whether nobody on the way can read along: TLS, or a way that does not leave this machine.
    pub fn is_private(&self) -> bool {
        self.url().scheme() == "https" || super::client::is_loopback(self.url())
    }

    pub(super) fn url(&self) -> &Url {
        match self {
            Profile::Breakpad { url, .. } | Profile::Sentry { url } => url,
        }
    }
}

/// Sentry's paths: `/api/PROJECT/minidump` with or without a slash at the end, behind any prefix.
fn is_minidump_endpoint(url: &Url) -> bool {
    let path = url.path().trim_end_matches('/');
    let mut segments = path.rsplit('/');
    segments.next() == Some("minidump")
        && segments.next().is_some_and(|project| !project.is_empty())
        && segments.next() == Some("api")
}

/// `https://KEY[:SECRET]@HOST[/PREFIX]/PROJECT` to `https://HOST[/PREFIX]/api/PROJECT/minidump/?sentry_key=KEY`. The secret of
/// old DSNs has had no use since Sentry 9 and stays out.
fn endpoint_of_dsn(dsn: &Url) -> Option<Url> {
    let path = dsn.path().trim_end_matches('/');
    let (prefix, project) = path.rsplit_once('/')?;
    let numeric = !project.is_empty() && project.bytes().all(|byte| byte.is_ascii_digit());
    if dsn.username().is_empty() || !numeric {
        return None;
    }
    let mut url = dsn.clone();
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_path(&format!("{prefix}/api/{project}/minidump/"));
    url.set_query(None);
    url.query_pairs_mut().append_pair("sentry_key", dsn.username());
    Some(url)
}

/// The address without anything that may be a key: values of the query, and parts of the path that look like tokens
/// (Backtrace and others keep theirs there).
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url();
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or("?"))?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        for segment in url.path().split('/').skip(1) {
            f.write_str("/")?;
            f.write_str(if looks_secret(segment) { "***" } else { segment })?;
        }
        for (index, (key, _)) in url.query_pairs().enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            f.write_str(if looks_secret(&key) { "***" } else { &key })?;
            f.write_str("=***")?;
        }
        Ok(())
    }
}

/// Never derived: a debug print of a profile must not hold its key either.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {self}", self.format().name())
    }
}

/// Long, and with a digit: words of an API's path have none, keys and tokens all do.
fn looks_secret(segment: &str) -> bool {
    segment.len() >= 16 && segment.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_dsn_becomes_the_minidump_endpoint_of_its_project() {
        let cases = [
            ("https://KEY@o1.ingest.sentry.io/42", "https://o1.ingest.sentry.io/api/42/minidump/?sentry_key=KEY"),
            ("https://KEY@host:9000/42/", "https://host:9000/api/42/minidump/?sentry_key=KEY"),
            ("http://KEY:SECRET@host/pre/fix/7", "http://host/pre/fix/api/7/minidump/?sentry_key=KEY"),
        ];
        for (dsn, endpoint) in cases {
            let profile = Profile::parse(&dsn.replace("KEY", KEY), None).unwrap();
            assert_eq!(profile.format(), Format::Sentry, "{dsn}");
            assert_eq!(profile.url().as_str(), endpoint.replace("KEY", KEY), "{dsn}");
        }
    }

    #[test]
    fn the_kind_of_an_address_shows_in_its_form() {
        let kinds = [
            ("http://127.0.0.1:8080/submit", Format::Breakpad),
            ("http://127.0.0.1:8080", Format::Breakpad),
            ("https://submit.example.com/universe/token/minidump", Format::Breakpad),
            ("https://sentry.example.com/api/5/minidump?sentry_key=a", Format::Sentry),
            ("https://sentry.example.com/prefix/api/5/minidump/", Format::Sentry),
        ];
        for (address, format) in kinds {
            assert_eq!(Profile::parse(address, None).unwrap().format(), format, "{address}");
        }
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_with_the_reason() {
        assert!(matches!(Profile::parse("not a url", None), Err(BadDestination::NotAUrl(_))));
        assert_eq!(Profile::parse("ftp://host/x", None), Err(BadDestination::NotHttp("ftp".into())));
        assert_eq!(Profile::parse("file:///etc/passwd", None), Err(BadDestination::NotHttp("file".into())));
        assert_eq!(Profile::parse("https://host/submit", Some(Format::Sentry)), Err(BadDestination::NotSentry));
        assert_eq!(Profile::parse("https://key@host/no-number", Some(Format::Sentry)), Err(BadDestination::NotSentry));
        assert_eq!(Profile::parse("https://user:pass@host/submit", None), Err(BadDestination::Password));
    }

    #[test]
    fn no_key_shows_when_a_profile_is_printed() {
        let addresses = [
            format!("https://{KEY}@host/42"),
            format!("https://host/api/42/minidump/?sentry_key={KEY}"),
            format!("https://submit.example.com/universe/{KEY}/minidump"),
            format!("https://host/post?token={KEY}&format=minidump"),
            format!("https://host/post?{KEY}"),
        ];
        for address in addresses {
            let profile = Profile::parse(&address, None).unwrap();
            for shown in [format!("{profile}"), format!("{profile:?}")] {
                assert!(!shown.contains(KEY), "{shown}");
            }
        }
    }
}
