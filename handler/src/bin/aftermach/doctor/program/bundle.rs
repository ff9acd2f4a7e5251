//! What a path names: a bundle and what kind, or a plain program.
//!
//! Layout: Apple's "Placing content in a bundle". A bundle's property list is `Contents/Info.plist`, its program
//! `Contents/MacOS/<CFBundleExecutable>`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use plist::{Dictionary, Value};

use super::plist::{MAX_BYTES, dictionary};

/// Most bundles in a bundle that are named, and libraries in it that are looked into.
const MAX_EMBEDDED: usize = 64;

/// What kind of program it is, which decides where it runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// An app.
    App,
    /// An XPC service of an app.
    XpcService,
    /// An app extension, with its extension point.
    AppExtension(Option<String>),
    /// A system extension.
    SystemExtension(Extension),
    /// A driver.
    Driver,
    /// A program that is no bundle.
    Plain,
    /// A bundle of another kind, by its name's ending.
    Other(String),
}

/// What a system extension says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Extension {
    /// The key under which it says its Mach service, by which its kind is known.
    pub(super) key: Option<&'static str>,
    /// That service's name.
    pub(super) service: Option<String>,
    /// A network extension's providers, by their extension points.
    pub(super) providers: Vec<String>,
}

/// What was found at a path.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) identifier: Option<String>,
    /// Its program.
    pub(super) executable: PathBuf,
    /// Why its property list can't be read, if it can't.
    pub(super) info_problem: Option<String>,
    /// Bundles in it that are programs of their own.
    pub(super) embedded: Vec<PathBuf>,
    /// Libraries in it, which may have the client in its stead.
    pub(super) libraries: Vec<PathBuf>,
}

/// Looks at what is at `path`.
///
/// # Errors
/// There is nothing, or a bundle without a program.
pub(super) fn open(path: &Path) -> Result<Target, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(Target {
            kind: Kind::Plain,
            identifier: None,
            executable: path.to_owned(),
            info_problem: None,
            embedded: Vec::new(),
            libraries: Vec::new(),
        });
    }
    // A bundle as iOS has it is flat.
    let contents = Some(path.join("Contents")).filter(|contents| contents.is_dir()).unwrap_or_else(|| path.to_owned());
    let (info, info_problem) = match read_info(&contents.join("Info.plist")) {
        Ok(info) => (info, None),
        Err(why) => (Dictionary::new(), Some(why)),
    };
    let text = |key: &str| info.get(key).and_then(Value::as_string).map(str::to_owned);
    let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    // Nothing but a name: a path would lead out of the bundle.
    let named = text("CFBundleExecutable").filter(|name| !name.contains('/') && !name.is_empty() && name != "..");
    let name = named.or_else(stem).ok_or_else(|| format!("{}: a bundle without a name", path.display()))?;
    let program =
        [contents.join("MacOS").join(&name), contents.join(&name)].into_iter().find(|program| program.is_file());
    let executable = program.ok_or_else(|| format!("{}: no program {name} in this bundle", path.display()))?;
    let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Target {
        kind: kind(&ending, &info),
        identifier: text("CFBundleIdentifier"),
        executable,
        info_problem,
        embedded: embedded(&contents),
        libraries: libraries(&contents),
    })
}

fn read_info(path: &Path) -> Result<Dictionary, String> {
    let failed = |why: String| format!("{}: {why}", path.display());
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Err(failed("there is no such file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    dictionary(&bytes).map_err(failed)
}

/// What kind of bundle it is, by its name's ending and by what its property list says.
pub(super) fn kind(ending: &str, info: &Dictionary) -> Kind {
    match ending {
        "app" => Kind::App,
        "xpc" => Kind::XpcService,
        "appex" => {
            // ExtensionKit's and NSExtension's.
            let point =
                |outer: &str, inner: &str| info.get(outer)?.as_dictionary()?.get(inner)?.as_string().map(str::to_owned);
            let point = point("NSExtension", "NSExtensionPointIdentifier")
                .or_else(|| point("EXAppExtensionAttributes", "EXExtensionPointIdentifier"));
            Kind::AppExtension(point)
        }
        "systemextension" => Kind::SystemExtension(extension(info)),
        "dext" => Kind::Driver,
        other => Kind::Other(other.to_owned()),
    }
}

fn extension(info: &Dictionary) -> Extension {
    let network = info.get("NetworkExtension").and_then(Value::as_dictionary);
    if let Some(network) = network {
        let providers = network.get("NEProviderClasses").and_then(Value::as_dictionary);
        return Extension {
            key: Some("NEMachServiceName"),
            service: network.get("NEMachServiceName").and_then(Value::as_string).map(str::to_owned),
            providers: providers.map(|providers| providers.keys().cloned().collect()).unwrap_or_default(),
        };
    }
    // Endpoint Security and Core Media I/O.
    for key in ["NSEndpointSecurityMachServiceName", "CMIOExtensionMachServiceName"] {
        let service = info.get(key).and_then(Value::as_string);
        // The camera's stands in a dictionary.
        let service = service.or_else(|| info.get("CMIOExtension")?.as_dictionary()?.get(key)?.as_string());
        if let Some(service) = service {
            return Extension { key: Some(key), service: Some(service.to_owned()), providers: Vec::new() };
        }
    }
    Extension::default()
}

fn embedded(contents: &Path) -> Vec<PathBuf> {
    let folders = ["PlugIns", "XPCServices", "Extensions", "Library/SystemExtensions", "Library/LoginItems"];
    let wanted = ["app", "xpc", "appex", "systemextension", "dext"];
    let is_wanted =
        |path: &PathBuf| path.extension().is_some_and(|ending| wanted.iter().any(|wanted| ending == *wanted));
    let mut found: Vec<PathBuf> =
        folders.iter().flat_map(|folder| children(&contents.join(folder))).filter(is_wanted).collect();
    found.truncate(MAX_EMBEDDED);
    found
}

/// The programs of frameworks, and plain libraries.
fn libraries(contents: &Path) -> Vec<PathBuf> {
    let library = |path: PathBuf| match path.extension().and_then(|ending| ending.to_str()) {
        Some("framework") => path.file_stem().map(|stem| path.join(stem)).filter(|program| program.is_file()),
        Some("dylib") => Some(path),
        _ => None,
    };
    children(&contents.join("Frameworks")).into_iter().filter_map(library).take(MAX_EMBEDDED).collect()
}

/// What is in a folder, sorted; nothing, if it can't be read.
fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).take(1000).collect();
    paths.sort();
    paths
}
