//! What is wrong with a job's definition. It may come from anywhere: a file that somebody edited, another tool, another version.

use std::path::{Path, PathBuf};

use aftermach_protocol::product::Product;
use plist::{Dictionary, Value};

use crate::EXIT_TIMEOUT;

/// Largest definition that is read, in bytes. Ours have about 1,000.
pub const MAX_BYTES: usize = 64 << 10;

/// Most arrays and dictionaries in a definition that is read. They may all lie in one another, and what reads and frees them
/// goes down with them.
pub const MAX_COLLECTIONS: usize = 200;

/// The most seconds between two starts: launchd's own default (launchd.plist(5), `ThrottleInterval`).
const MAX_THROTTLE: i64 = 10;

/// One thing that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// More than [`MAX_BYTES`].
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// More than [`MAX_COLLECTIONS`].
    #[error("it has more than {MAX_COLLECTIONS} arrays and dictionaries")]
    TooDeep,
    /// Binary property lists can repeat one object without end, so only XML is read.
    #[error("it is a binary property list: convert it with `plutil -convert xml1`")]
    Binary,
    /// Not a property list.
    #[error("it can't be read: {0}")]
    Unreadable(String),
    /// A key has a value of another type than launchd reads there.
    #[error("{key} is not {expected}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A key that launchd or clients need.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The label of another product or channel.
    #[error("Label is {found}, and this product's is {expected}")]
    WrongLabel {
        /// The label in the definition.
        found: String,
        /// The product's.
        expected: String,
    },
    /// The program's path is not absolute.
    #[error("the program's path, {0:?}, is not absolute")]
    RelativeProgram(String),
    /// The program is not started with `serve`.
    #[error("ProgramArguments do not tell the handler to serve")]
    NotServing,
    /// An option of the handler is missing, or names another product or channel.
    #[error("ProgramArguments say {option} {found:?}, and this product's is {expected:?}")]
    WrongOption {
        /// The option.
        option: &'static str,
        /// Its value in the definition; empty if it is not given.
        found: String,
        /// The product's.
        expected: String,
    },
    /// A store by a relative path: launchd starts jobs in the root folder.
    #[error("the store's path, {0:?}, is not absolute")]
    RelativeStore(String),
    /// Clients look this service up, and would not find it.
    #[error("MachServices do not have {0}, which this product's clients look up")]
    NoService(String),
    /// The handler never checks in for this service: who sends to it waits for ever.
    #[error("MachServices have {0}, which is not a service of this product")]
    ForeignService(String),
    /// Clients' ports would die with the handler.
    #[error("{0} has ResetAtClose: clients lose their ports whenever the handler ends")]
    ResetAtClose(String),
    /// Clients could not find the service, and nothing would start it.
    #[error("{0} has HideUntilCheckIn: no client finds it, so nothing starts the handler")]
    HideUntilCheckIn(String),
    /// A handler that fails would be started over and over.
    #[error("KeepAlive is set: a handler that fails would be started over and over; a client's message starts it")]
    KeepAlive,
    /// Needless: a message starts the handler.
    #[error("RunAtLoad is set: a client's message starts the handler, and an idle machine needs none")]
    RunAtLoad,
    /// It would run at low priority while its clients stand still.
    #[error("ProcessType is {0}, not Interactive: crashed programs stand still while the handler is throttled")]
    Throttled(String),
    /// A key slows the handler down.
    #[error("{0} slows the handler down, while crashed programs stand still")]
    Slowed(&'static str),
    /// The second crash of a loop would wait.
    #[error("ThrottleInterval is {0} s: a crash that comes sooner than that after a start waits")]
    LongThrottle(i64),
    /// launchd might kill it before its reports are written.
    #[error("ExitTimeOut is {0} s: it takes up to {EXIT_TIMEOUT} s to finish a report")]
    ShortExitTimeOut(i64),
    /// launchd would not start it.
    #[error("Disabled is set")]
    Disabled,
    /// It would not load in a user's graphical session.
    #[error("LimitLoadToSessionType leaves out Aqua, the session that apps run in")]
    OtherSession,
}

/// Which program a definition starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// By this path.
    At(PathBuf),
    /// By a path in its app's bundle (`BundleProgram`, macOS 13 and later).
    InBundle(String),
}

/// What is wrong with `definition`, a property list, as the job of `product`. Nothing, if the list is empty.
pub fn check(definition: &[u8], product: &Product) -> Vec<Problem> {
    match read(definition) {
        Err(problem) => vec![problem],
        Ok(job) => {
            let mut checker = Checker { job: &job, problems: Vec::new() };
            checker.label(product);
            checker.program(product);
            checker.services(product);
            checker.starts();
            checker.speed();
            checker.end();
            checker.problems
        }
    }
}

/// Which program `definition` starts, if it says so.
pub fn program(definition: &[u8]) -> Option<Program> {
    let job = read(definition).ok()?;
    let text = |key: &str| job.get(key).and_then(Value::as_string);
    if let Some(path) = text("BundleProgram") {
        return Some(Program::InBundle(path.to_owned()));
    }
    let first = || job.get("ProgramArguments").and_then(Value::as_array).and_then(|list| list.first()?.as_string());
    text("Program").or_else(first).map(|path| Program::At(path.into()))
}

/// What `definition` starts its program with, if it says so.
pub(crate) fn arguments(definition: &[u8]) -> Option<Vec<String>> {
    let job = read(definition).ok()?;
    let arguments = job.get("ProgramArguments")?.as_array()?;
    arguments.iter().map(|argument| argument.as_string().map(str::to_owned)).collect()
}

/// The product whose handler `definition` starts, if it is such a job.
pub fn product_of(definition: &[u8]) -> Option<Product> {
    let arguments = arguments(definition)?;
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let value = |option| value_of(&arguments, option);
    let is_handler = arguments.first() == Some(&"serve");
    let product = Product::new(value("--group")?, value("--name")?, value("--channel").unwrap_or_default());
    product.ok().filter(|_| is_handler)
}

fn read(definition: &[u8]) -> Result<Dictionary, Problem> {
    if definition.len() > MAX_BYTES {
        return Err(Problem::TooLarge);
    }
    if definition.starts_with(b"bplist") {
        return Err(Problem::Binary);
    }
    // Nothing stands between '<' and a tag's name (XML 1.0, production 40), so this counts at least those that are there.
    let count = |tag: &[u8]| definition.windows(tag.len()).filter(|window| *window == tag).count();
    if count(b"<array") + count(b"<dict") > MAX_COLLECTIONS {
        return Err(Problem::TooDeep);
    }
    match Value::from_reader_xml(definition) {
        Ok(Value::Dictionary(job)) => Ok(job),
        Ok(_) => Err(Problem::Unreadable("it is not a dictionary".to_owned())),
        Err(error) => Err(Problem::Unreadable(error.to_string())),
    }
}

struct Checker<'j> {
    job: &'j Dictionary,
    problems: Vec<Problem>,
}

impl<'j> Checker<'j> {
    /// The value of `key`, of the type that `take` takes. One of another type is a problem, none is not.
    fn get<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        take: impl Fn(&'j Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.job.get(key)?;
        let taken = take(value);
        if taken.is_none() {
            self.problems.push(Problem::WrongType { key, expected });
        }
        taken
    }

    fn is_set(&mut self, key: &'static str) -> bool {
        self.get(key, "true or false", Value::as_boolean).unwrap_or(false)
    }

    fn number(&mut self, key: &'static str) -> Option<i64> {
        self.get(key, "a number", Value::as_signed_integer)
    }

    fn say(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn label(&mut self, product: &Product) {
        let expected = product.label();
        match self.get("Label", "a text", Value::as_string) {
            Some(found) if found != expected => self.say(Problem::WrongLabel { found: found.to_owned(), expected }),
            None if !self.job.contains_key("Label") => self.say(Problem::Missing("Label")),
            _ => {}
        }
    }

    fn program(&mut self, product: &Product) {
        let texts = |value: &'j Value| value.as_array()?.iter().map(Value::as_string).collect::<Option<Vec<&'j str>>>();
        let arguments = self.get("ProgramArguments", "an array of texts", texts);
        let named = self.get("Program", "a text", Value::as_string);
        let bundled = self.get("BundleProgram", "a text", Value::as_string).is_some();
        let Some(arguments) = arguments.filter(|arguments| !arguments.is_empty()) else {
            // Without them, the handler is started with no command.
            if self.job.get("ProgramArguments").is_none_or(|value| value.as_array().is_some_and(Vec::is_empty)) {
                self.say(Problem::Missing("ProgramArguments"));
            }
            return;
        };
        if let Some(path) = named.or(arguments.first().copied())
            && !bundled
            && !Path::new(path).is_absolute()
        {
            self.say(Problem::RelativeProgram(path.to_owned()));
        }
        let options = arguments.get(1..).unwrap_or_default();
        if options.first() != Some(&"serve") {
            self.say(Problem::NotServing);
        }
        let expected = [("--group", product.group()), ("--name", product.name()), ("--channel", product.channel())];
        for (option, expected) in expected {
            let found = value_of(options, option).unwrap_or_default();
            if found != expected {
                let (found, expected) = (found.to_owned(), expected.to_owned());
                self.say(Problem::WrongOption { option, found, expected });
            }
        }
        if let Some(store) = value_of(options, "--store").filter(|store| !Path::new(store).is_absolute()) {
            self.say(Problem::RelativeStore(store.to_owned()));
        }
    }

    fn services(&mut self, product: &Product) {
        let services = self.get("MachServices", "a dictionary", Value::as_dictionary);
        if !self.job.contains_key("MachServices") {
            self.say(Problem::Missing("MachServices"));
        }
        let Some(services) = services else { return };
        let ours = product.service();
        if !services.contains_key(&ours) {
            self.say(Problem::NoService(ours));
        }
        // Other majors of the protocol are services of their own in the same job.
        let any_major = format!("{}.v", product.label());
        for (name, value) in services {
            let major = name.strip_prefix(&any_major).unwrap_or_default();
            if major.is_empty() || !major.bytes().all(|byte| byte.is_ascii_digit()) {
                self.say(Problem::ForeignService(name.clone()));
            }
            match value {
                Value::Boolean(true) => {}
                Value::Dictionary(options) => {
                    // launchd takes anything but a true value for false here.
                    let is_set = |key: &str| options.get(key).and_then(Value::as_boolean) == Some(true);
                    if is_set("ResetAtClose") {
                        self.say(Problem::ResetAtClose(name.clone()));
                    }
                    if is_set("HideUntilCheckIn") {
                        self.say(Problem::HideUntilCheckIn(name.clone()));
                    }
                }
                _ => {
                    self.say(Problem::WrongType { key: "MachServices", expected: "true or a dictionary for each name" })
                }
            }
        }
    }

    fn starts(&mut self) {
        // Conditions, a dictionary, are a KeepAlive too.
        if self.job.get("KeepAlive").is_some_and(|value| value.as_boolean() != Some(false)) {
            self.say(Problem::KeepAlive);
        }
        if self.is_set("RunAtLoad") {
            self.say(Problem::RunAtLoad);
        }
        if self.is_set("Disabled") {
            self.say(Problem::Disabled);
        }
        if let Some(seconds) = self.number("ThrottleInterval").filter(|seconds| *seconds > MAX_THROTTLE) {
            self.say(Problem::LongThrottle(seconds));
        }
        let sessions = |value: &'j Value| match value {
            Value::Array(names) => names.iter().map(Value::as_string).collect(),
            other => other.as_string().map(|name| vec![name]),
        };
        let sessions = self.get("LimitLoadToSessionType", "a text or an array of texts", sessions);
        if sessions.is_some_and(|sessions| !sessions.contains(&"Aqua")) {
            self.say(Problem::OtherSession);
        }
    }

    fn speed(&mut self) {
        match self.get("ProcessType", "a text", Value::as_string) {
            Some("Interactive") => {}
            Some(other) => self.say(Problem::Throttled(other.to_owned())),
            None if self.job.contains_key("ProcessType") => {}
            None => self.say(Problem::Missing("ProcessType")),
        }
        for key in ["LowPriorityIO", "LowPriorityBackgroundIO"] {
            if self.is_set(key) {
                self.say(Problem::Slowed(key));
            }
        }
        if self.number("Nice").is_some_and(|nice| nice > 0) {
            self.say(Problem::Slowed("Nice"));
        }
    }

    fn end(&mut self) {
        // Left out, it is 20 s or less; 0 is no limit (launchd-842 `core.c`, `job_stop`).
        match self.number("ExitTimeOut") {
            Some(0) => {}
            Some(seconds) if seconds < i64::from(EXIT_TIMEOUT) => self.say(Problem::ShortExitTimeOut(seconds)),
            None if !self.job.contains_key("ExitTimeOut") => self.say(Problem::Missing("ExitTimeOut")),
            _ => {}
        }
    }
}

/// The value of an option, given as `--option value` or `--option=value`.
fn value_of<'a>(arguments: &[&'a str], option: &str) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(index, argument)| match argument.strip_prefix(option)? {
        "" => arguments.get(index + 1).copied(),
        rest => rest.strip_prefix('='),
    })
}

#[cfg(test)]
mod tests;
