//! What the user decided about uploads: a small file in the store's root. Off until granted; a file that can't be understood
//! is a no.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use uuid::Uuid;

/// The file's name in the store's root.
pub const SETTINGS_FILE: &str = "settings.json";
/// A larger file is not ours.
const MAX_FILE: u64 = 64 * 1024;

/// Whether reports may be sent. Read at the moment of sending, never kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consent {
    /// Every report may go.
    Always,
    /// Each report needs a yes. A handler that has nobody to ask sends nothing.
    #[default]
    Ask,
    /// None may go, not even one that was asked for.
    Never,
}

impl Consent {
    /// The name used in the file and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Consent::Always => "always",
            Consent::Ask => "ask",
            Consent::Never => "never",
        }
    }

    /// The consent of that name.
    pub fn from_name(name: &str) -> Option<Consent> {
        [Consent::Always, Consent::Ask, Consent::Never].into_iter().find(|consent| consent.name() == name)
    }
}

/// The settings of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Whether reports may be sent.
    pub consent: Consent,
    /// This installation's id for dashboards; made at random when first needed, deleted to be another one.
    pub client_id: Option<Uuid>,
    /// Why the file counted as a no, for people.
    pub note: Option<String>,
    /// Keys that this version does not know.
    other: Map<String, Value>,
}

impl Settings {
    /// Reads a store's settings. There is no error: what can't be read or understood is [`Consent::Never`] with a note, and a
    /// store without the file has the defaults.
    pub fn load(root: &Path) -> Settings {
        let path = root.join(SETTINGS_FILE);
        match read(&path) {
            Ok(None) => Settings::default(),
            Ok(Some(bytes)) => Settings::parse(&bytes)
                .unwrap_or_else(|why| Settings::refused(format!("{} {why}: nothing is uploaded", path.display()))),
            Err(error) => Settings::refused(format!("can't read {}: {error}: nothing is uploaded", path.display())),
        }
    }

    fn refused(note: String) -> Settings {
        Settings { consent: Consent::Never, note: Some(note), ..Settings::default() }
    }

    fn parse(bytes: &[u8]) -> Result<Settings, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("is no JSON ({error})"))?;
        let Value::Object(mut other) = value else { return Err("is no JSON object".into()) };
        let consent = match other.remove("uploads") {
            None => Consent::default(),
            Some(Value::String(name)) => {
                Consent::from_name(&name).ok_or("says something other than always, ask or never for \"uploads\"")?
            }
            Some(_) => return Err("says something other than always, ask or never for \"uploads\"".into()),
        };
        // An id that is none is made anew; it grants nothing.
        let client_id = other.remove("client_id").and_then(|id| Uuid::try_parse(id.as_str()?).ok());
        Ok(Settings { consent, client_id, note: None, other })
    }

    /// Writes the settings: a new file beside the old one, then renamed over it, so that no reader ever sees half of it.
    /// Creates the store's root if need be. Keys of other versions are kept.
    pub fn save(&self, root: &Path) -> io::Result<()> {
        let mut map = Map::new();
        map.insert("uploads".into(), self.consent.name().into());
        if let Some(id) = self.client_id {
            map.insert("client_id".into(), id.hyphenated().to_string().into());
        }
        for (key, value) in &self.other {
            map.insert(key.clone(), value.clone());
        }
        let mut bytes = serde_json::to_vec_pretty(&Value::Object(map))?;
        bytes.push(b'\n');

        create_root(root)?;
        let aside: PathBuf = root.join(format!(".{SETTINGS_FILE}.{}", Uuid::new_v4().simple()));
        let written = write(&aside, &bytes).and_then(|()| fs::rename(&aside, root.join(SETTINGS_FILE)));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }

    /// This installation's id; makes and saves one the first time.
    pub fn ensure_client_id(&mut self, root: &Path) -> io::Result<Uuid> {
        if let Some(id) = self.client_id {
            return Ok(id);
        }
        let id = Uuid::new_v4();
        self.client_id = Some(id);
        self.save(root)?;
        Ok(id)
    }
}

/// The file's bytes; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Without O_NONBLOCK, a FIFO in the file's place would be waited for.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(Some(bytes))
}

fn create_root(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new() -> Root {
            Root(std::env::temp_dir().join(format!("aftermach-settings-{}", Uuid::new_v4())))
        }

        fn with(bytes: &[u8]) -> Root {
            let root = Root::new();
            create_root(&root.0).unwrap();
            fs::write(root.0.join(SETTINGS_FILE), bytes).unwrap();
            root
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn nothing_is_granted_until_someone_does() {
        let settings = Settings::load(&Root::new().0);
        assert_eq!((settings.consent, settings.note), (Consent::Ask, None));
    }

    #[test]
    fn what_is_saved_is_read_again_with_keys_of_other_versions() {
        let root = Root::with(br#"{"uploads":"always","later":{"a":[1]}}"#);
        let mut settings = Settings::load(&root.0);
        assert_eq!(settings.consent, Consent::Always);
        let id = settings.ensure_client_id(&root.0).unwrap();
        settings.consent = Consent::Never;
        settings.save(&root.0).unwrap();
        assert_eq!(Settings::load(&root.0), settings);
        assert_eq!(settings.client_id, Some(id));
        let text = fs::read_to_string(root.0.join(SETTINGS_FILE)).unwrap();
        assert!(text.contains("\"later\""), "{text}");
        assert_eq!(fs::read_dir(&root.0).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_a_no_with_a_note() {
        let deep = "[".repeat(10_000);
        let large = format!("{{\"uploads\":\"always\",\"x\":\"{}\"}}", "x".repeat(MAX_FILE as usize));
        let hostile = ["", "always", "[]", "{", r#"{"uploads":true}"#, r#"{"uploads":"Always"}"#, "\0", &deep, &large];
        for bytes in hostile {
            let settings = Settings::load(&Root::with(bytes.as_bytes()).0);
            assert_eq!(settings.consent, Consent::Never, "{:.40}", bytes);
            assert!(settings.note.is_some(), "{:.40}", bytes);
        }
    }

    #[test]
    fn a_folder_in_the_files_place_is_a_no() {
        let root = Root::new();
        fs::create_dir_all(root.0.join(SETTINGS_FILE)).unwrap();
        assert_eq!(Settings::load(&root.0).consent, Consent::Never);
    }
}
