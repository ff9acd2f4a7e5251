//! What launchd is told about one product's handler.

use std::path::{Path, PathBuf};

use aftermach_protocol::product::Product;
use plist::{Dictionary, Value};

/// Seconds between SIGTERM and SIGKILL when launchd stops a busy handler: the 8 s that a capture may take, the 10 s that an
/// upload is waited for, and as much again for unwinding and writing on a loaded machine.
pub const EXIT_TIMEOUT: u32 = 30;

/// One product's job for one user: an agent that a message to its Mach service starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    product: Product,
    handler: String,
    store: Option<String>,
    bundles: Vec<String>,
}

/// Why no job can be defined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// launchd starts jobs in the root folder, so a relative path would mean another file.
    #[error("{0}: launchd needs an absolute path")]
    NotAbsolute(PathBuf),
    /// A property list is XML 1.0, which can't hold these characters.
    #[error("{0:?}: a property list can't hold a path that is not UTF-8 or has control characters")]
    NotText(PathBuf),
    /// Not a bundle identifier: letters, digits, '.' and '-' (`CFBundleIdentifier`).
    #[error("{0:?} is no bundle identifier")]
    NotABundle(String),
    /// The property list could not be written.
    #[error("the property list could not be written: {0}")]
    Unwritable(String),
}

impl Definition {
    /// The job that starts the program at `handler`, by its absolute path, for `product`.
    pub fn new(product: Product, handler: &Path) -> Result<Definition, DefinitionError> {
        Ok(Definition { product, handler: absolute(handler)?, store: None, bundles: Vec::new() })
    }

    /// With another store than the user's own, by its absolute path.
    pub fn with_store(mut self, store: &Path) -> Result<Definition, DefinitionError> {
        self.store = Some(absolute(store)?);
        Ok(self)
    }

    /// Shown in Login Items under the app with this identifier, if both are signed by one team (macOS 13 and later).
    pub fn with_bundle(mut self, identifier: String) -> Result<Definition, DefinitionError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        if identifier.is_empty() || !identifier.bytes().all(plain) {
            return Err(DefinitionError::NotABundle(identifier));
        }
        self.bundles.push(identifier);
        Ok(self)
    }

    /// Whose job it is.
    pub fn product(&self) -> &Product {
        &self.product
    }

    /// The handler's path.
    pub fn handler(&self) -> &Path {
        Path::new(&self.handler)
    }

    /// What the handler is started with, its own path first.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![self.handler.clone(), "serve".to_owned()];
        let mut option = |name: &str, value: &str| arguments.extend([name.to_owned(), value.to_owned()]);
        option("--group", self.product.group());
        option("--name", self.product.name());
        if !self.product.channel().is_empty() {
            option("--channel", self.product.channel());
        }
        if let Some(store) = &self.store {
            option("--store", store);
        }
        arguments
    }

    /// The property list, as XML.
    pub fn to_xml(&self) -> Result<Vec<u8>, DefinitionError> {
        let strings = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
        let mut job = Dictionary::new();
        let mut set = |key: &str, value: Value| job.insert(key.to_owned(), value);
        set("Label", self.product.label().into());
        set("ProgramArguments", strings(self.arguments()));
        // `true` is ResetAtClose and HideUntilCheckIn off: launchd owns the receive right from load on, and send rights stay
        // good when the handler ends. A message starts it, so there is no KeepAlive and no RunAtLoad.
        let mut services = Dictionary::new();
        services.insert(self.product.service(), true.into());
        set("MachServices", Value::Dictionary(services));
        // launchd.plist(5) keeps Interactive for jobs that an app's responsiveness depends on. A crashed program, and whoever
        // waits for it, stands still until the handler answers; anything less may run at priority 4 (`MAXPRI_THROTTLE`).
        set("ProcessType", "Interactive".into());
        // The handler holds a transaction from a message to the report's rename: idle, it may be killed at once.
        set("EnableTransactions", true.into());
        set("ExitTimeOut", EXIT_TIMEOUT.into());
        if !self.bundles.is_empty() {
            set("AssociatedBundleIdentifiers", strings(self.bundles.clone()));
        }
        let mut xml = Vec::new();
        let unwritable = |error: plist::Error| DefinitionError::Unwritable(error.to_string());
        Value::Dictionary(job).to_writer_xml(&mut xml).map_err(unwritable)?;
        xml.push(b'\n');
        Ok(xml)
    }
}

fn absolute(path: &Path) -> Result<String, DefinitionError> {
    if !path.is_absolute() {
        return Err(DefinitionError::NotAbsolute(path.to_owned()));
    }
    match path.to_str() {
        // U+FFFE and U+FFFF are the other ones that XML 1.0 (section 2.2) leaves out.
        Some(text)
            if !text.contains(|letter: char| letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}')) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(DefinitionError::NotText(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(channel: &str) -> Product {
        Product::new("TEAM.com.example", "Tunnel", channel).unwrap()
    }

    // By hand after launchd.plist(5); `plutil -lint` is the judge of the form, which is Apple's own.
    const CANARY: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>TEAM.com.example.Tunnel-canary.crashd</string>
	<key>ProgramArguments</key>
	<array>
		<string>/Applications/R&amp;D &lt;x&gt;/aftermach-handler</string>
		<string>serve</string>
		<string>--group</string>
		<string>TEAM.com.example</string>
		<string>--name</string>
		<string>Tunnel</string>
		<string>--channel</string>
		<string>canary</string>
		<string>--store</string>
		<string>/Users/ana/Crash Reports</string>
	</array>
	<key>MachServices</key>
	<dict>
		<key>TEAM.com.example.Tunnel-canary.crashd.v1</key>
		<true/>
	</dict>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>EnableTransactions</key>
	<true/>
	<key>ExitTimeOut</key>
	<integer>30</integer>
	<key>AssociatedBundleIdentifiers</key>
	<array>
		<string>com.example.tunnel</string>
	</array>
</dict>
</plist>
"#;

    #[test]
    fn a_definition_is_the_property_list_that_apple_documents() {
        let definition = Definition::new(product("canary"), Path::new("/Applications/R&D <x>/aftermach-handler"))
            .and_then(|definition| definition.with_store(Path::new("/Users/ana/Crash Reports")))
            .and_then(|definition| definition.with_bundle("com.example.tunnel".to_owned()))
            .unwrap();
        assert_eq!(String::from_utf8(definition.to_xml().unwrap()).unwrap(), CANARY);
    }

    #[test]
    fn a_stable_product_on_its_users_store_needs_neither_option() {
        let definition = Definition::new(product(""), Path::new("/opt/handler")).unwrap();
        let expected = ["/opt/handler", "serve", "--group", "TEAM.com.example", "--name", "Tunnel"];
        assert_eq!(definition.arguments(), expected);
    }

    #[test]
    fn a_path_that_launchd_or_xml_would_read_otherwise_is_refused() {
        for path in ["aftermach-handler", "./x", ""] {
            let refused = Definition::new(product(""), Path::new(path));
            assert_eq!(refused, Err(DefinitionError::NotAbsolute(path.into())));
        }
        for path in ["/a\u{1}b", "/a\nb", "/a\u{ffff}"] {
            assert_eq!(Definition::new(product(""), Path::new(path)), Err(DefinitionError::NotText(path.into())));
        }
        let definition = Definition::new(product(""), Path::new("/x")).unwrap();
        assert!(definition.clone().with_store(Path::new("reports")).is_err());
        assert!(definition.with_bundle("a b".to_owned()).is_err());
    }
}
