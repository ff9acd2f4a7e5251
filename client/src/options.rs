//! How the client is to be installed.

/// How the client is to be installed. `Options::new()` is right for most programs.
#[derive(Debug, Clone, Copy)]
pub struct Options<'o> {
    pub(crate) version: &'o [u8],
    pub(crate) service: Option<&'o [u8]>,
    pub(crate) crash_only: bool,
    pub(crate) identity: Identity,
    pub(crate) port: Port,
    pub(crate) timeout_ms: u32,
}

/// How exception messages name the process (macOS; without meaning on Linux).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// Protected from macOS 12 on, classic before.
    #[default]
    Auto,
    /// By identity token (`EXCEPTION_IDENTITY_PROTECTED`). The only one that hardened processes and platform binaries may use:
    /// the kernel kills them for trying another.
    Protected,
    /// By task and thread port (`EXCEPTION_DEFAULT`). For a service that can't turn tokens into ports.
    Classic,
}

/// Which port is registered as exception port (macOS; without meaning on Linux).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Port {
    /// The service's; where the system refuses that one, a port of this process's own.
    #[default]
    Auto,
    /// The service's, which launchd holds: it survives the service's end, and the service runs only when it is needed.
    Service,
    /// One that the service makes for this process. The service then runs as long as this process does; should it end all the
    /// same, the port is dead until [`rearm`](crate::rearm) is called.
    Own,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options::new()
    }
}

impl<'o> Options<'o> {
    /// The defaults: no version, the product's own service, hardware exceptions as well as deaths, two seconds.
    pub const fn new() -> Options<'o> {
        let (identity, port) = (Identity::Auto, Port::Auto);
        Options { version: &[], service: None, crash_only: false, identity, port, timeout_ms: 2000 }
    }

    /// The product's version for the report, at most 63 bytes.
    pub const fn version(mut self, version: &'o str) -> Options<'o> {
        self.version = version.as_bytes();
        self
    }

    /// Another service than the product's own: the path of its socket on Linux, its Mach service name on macOS.
    pub const fn service(mut self, service: &'o str) -> Options<'o> {
        self.service = Some(service.as_bytes());
        self
    }

    /// Only deaths, no first-chance hardware exceptions (macOS). For programs that take faults in their normal course, such as
    /// a JIT or a collector with guard pages: each fault costs them a message to the service otherwise.
    pub const fn crash_only(mut self) -> Options<'o> {
        self.crash_only = true;
        self
    }

    /// See [`Identity`].
    pub const fn identity(mut self, identity: Identity) -> Options<'o> {
        self.identity = identity;
        self
    }

    /// See [`Port`].
    pub const fn port(mut self, port: Port) -> Options<'o> {
        self.port = port;
        self
    }

    /// How long to wait for the service's answer, in milliseconds, where one is needed: on Linux, and on macOS for a port of
    /// the process's own or if there are earlier handlers.
    pub const fn timeout_ms(mut self, timeout_ms: u32) -> Options<'o> {
        self.timeout_ms = timeout_ms;
        self
    }
}
