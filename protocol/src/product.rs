//! One product in one channel, and every name that follows from it.
//!
//! Two channels of a product never share a service, a folder or a socket, so stable and canary run side by side.
//!
//! [`ProductRef`] derives every name, into memory of fixed size: the client does it where nothing may be allocated.
//! [`Product`] is the same, owned. What the client calls is inlined into it: see [`crate::record::Check`].

use std::fmt;

/// Longest part of a product's identity, in bytes: a Mach service name must stay under 128 (`BOOTSTRAP_MAX_NAME_LEN`).
pub const MAX_PART: usize = 37;

/// The protocol's major version. It is part of the service name: an old client and a new handler never misread each other.
pub const PROTOCOL_MAJOR: u32 = 1;

/// Longest derived name, in bytes (`BOOTSTRAP_MAX_NAME_LEN` less the NUL).
pub const MAX_NAME: usize = 127;

/// Longest path of a Unix socket on Linux, in bytes without the NUL (`struct sockaddr_un`, unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// Who a report belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Product {
    group: String,
    name: String,
    channel: String,
}

/// Why a product's parts were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProductError {
    /// The group or the name is empty.
    Empty,
    /// A part is longer than [`MAX_PART`] bytes.
    TooLong,
    /// A part has a character outside ASCII letters, digits and `_` (the group also takes `.` and `-`, but not first).
    BadCharacter,
}

impl fmt::Display for ProductError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProductError::Empty => "a product needs a group and a name",
            ProductError::TooLong => "each part of a product's identity is at most 37 bytes",
            ProductError::BadCharacter => {
                "a product's name and channel are made of ASCII letters, digits and '_'; its group also of '.' and '-'"
            }
        })
    }
}

impl std::error::Error for ProductError {}

impl Product {
    /// A product from its parts, as [`ProductRef::new`] takes them.
    pub fn new(group: &str, name: &str, channel: &str) -> Result<Product, ProductError> {
        ProductRef::new(group, name, channel).map(|product| product.to_product())
    }

    /// The same, borrowed.
    pub fn borrowed(&self) -> ProductRef<'_> {
        ProductRef { group: &self.group, name: &self.name, channel: &self.channel }
    }

    /// The app group or reverse domain.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The product's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The release channel; empty for stable.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// `group.name[-channel]`: the stem of every name below.
    pub fn stem(&self) -> String {
        self.borrowed().stem().as_str().to_owned()
    }

    /// The Mach service's name; on Linux, the socket's file name.
    pub fn service(&self) -> String {
        self.borrowed().service().as_str().to_owned()
    }

    /// The launchd job's label.
    pub fn label(&self) -> String {
        let mut label = self.borrowed().stem();
        label.push(".crashd");
        label.as_str().to_owned()
    }

    /// The folder, under the data directory, that holds this product's reports.
    pub fn directory(&self) -> String {
        self.stem()
    }
}

/// A product that borrows its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProductRef<'p> {
    group: &'p str,
    name: &'p str,
    channel: &'p str,
}

impl<'p> ProductRef<'p> {
    /// A product from its parts: `group` is the app group or reverse domain ("TEAMID.com.example"), `name` the product, and
    /// `channel` the release channel, empty for stable.
    #[inline]
    pub fn new(group: &'p str, name: &'p str, channel: &'p str) -> Result<ProductRef<'p>, ProductError> {
        if group.is_empty() || name.is_empty() {
            return Err(ProductError::Empty);
        }
        if group.len() > MAX_PART || name.len() > MAX_PART || channel.len() > MAX_PART {
            return Err(ProductError::TooLong);
        }
        // These become file and service names: nothing that a path or launchd would read otherwise. Only the group may hold
        // the separators of `stem`, so that two products never have one stem.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let group_ok = group.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'-'))
            && group.bytes().next().is_some_and(plain);
        if !group_ok || !name.bytes().all(plain) || !channel.bytes().all(plain) {
            return Err(ProductError::BadCharacter);
        }
        Ok(ProductRef { group, name, channel })
    }

    /// The same, owned.
    pub fn to_product(&self) -> Product {
        Product { group: self.group.to_owned(), name: self.name.to_owned(), channel: self.channel.to_owned() }
    }

    /// The app group or reverse domain.
    #[inline]
    pub fn group(&self) -> &'p str {
        self.group
    }

    /// The product's name.
    #[inline]
    pub fn name(&self) -> &'p str {
        self.name
    }

    /// The release channel; empty for stable.
    #[inline]
    pub fn channel(&self) -> &'p str {
        self.channel
    }

    /// See [`Product::stem`].
    #[inline]
    pub fn stem(&self) -> Name {
        let mut stem = Name::new();
        stem.push(self.group);
        stem.push(".");
        stem.push(self.name);
        if !self.channel.is_empty() {
            stem.push("-");
            stem.push(self.channel);
        }
        stem
    }

    /// See [`Product::service`].
    #[inline]
    pub fn service(&self) -> Name {
        let mut service = self.stem();
        service.push(SERVICE_SUFFIX);
        service
    }

    /// The service's socket on Linux: in `runtime_directory` (`$XDG_RUNTIME_DIR`, which must be absolute) if there is one,
    /// else in `/tmp/aftermach-<uid>`, which its user must own. A service name too long for a socket's address
    /// ([`MAX_SOCKET_PATH`]) is replaced by its hash; `None` if the directory alone is too long for one.
    #[inline]
    pub fn socket_path(&self, runtime_directory: Option<&[u8]>, uid: u32) -> Option<SocketPath> {
        let mut path = SocketPath::new();
        let mut fits = match runtime_directory.filter(|directory| directory.first() == Some(&b'/')) {
            Some(directory) => path.push_bytes(directory),
            None => path.push("/tmp/aftermach-") && push_number(&mut path, uid.into()),
        };
        fits &= path.push("/");
        let service = self.service();
        if path.len() + service.len() + SOCKET_SUFFIX.len() <= MAX_SOCKET_PATH {
            fits &= path.push_bytes(service.as_bytes());
        } else {
            let hash = crate::record::Check::of(&[]).with_text(service.as_bytes());
            fits &= push_number(&mut path, hash.value());
        }
        fits &= path.push(SOCKET_SUFFIX);
        fits.then_some(path)
    }
}

/// Ends a service's name; the digit is [`PROTOCOL_MAJOR`].
const SERVICE_SUFFIX: &str = ".crashd.v1";
const _: () = assert!(PROTOCOL_MAJOR == 1, "SERVICE_SUFFIX says the protocol's major version");

const SOCKET_SUFFIX: &str = ".sock";

/// Appends `text` to the first `length` bytes of `bytes`, if it fits and leaves a byte for the NUL.
// One for all sizes of text. Cold: once in the client, and not at every name that it puts together. (Without `inline` a C program
// would link this crate's object, and with it all that the standard library is in there.)
#[cold]
#[inline]
fn append(bytes: &mut [u8], length: &mut usize, text: &[u8]) -> bool {
    let (end, size) = (length.saturating_add(text.len()), bytes.len());
    match bytes.get_mut(*length..end) {
        Some(room) if end < size => {
            for (to, from) in room.iter_mut().zip(text) {
                *to = *from;
            }
            *length = end;
            true
        }
        _ => false,
    }
}

/// Appends a number in decimal, least digit last.
#[cold]
#[inline]
fn push_number<const N: usize>(text: &mut Fixed<N>, number: u64) -> bool {
    // u64::MAX has 20 digits.
    let mut digits = [0; 20];
    let mut left = number;
    let mut start = digits.len();
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
        start = index;
        if left == 0 {
            break;
        }
    }
    text.push_bytes(digits.get(start..).unwrap_or_default())
}

/// A derived name.
pub type Name = Fixed<{ MAX_NAME + 1 }>;

/// A socket's path.
pub type SocketPath = Fixed<{ MAX_SOCKET_PATH + 1 }>;

/// Text in memory of fixed size, always with a NUL behind it: up to `N` - 1 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Fixed<N> {
    const fn new() -> Fixed<N> {
        Fixed { bytes: [0; N], length: 0 }
    }

    /// A copy of `text`, if it fits and has no NUL in it.
    #[cold]
    #[inline]
    pub fn copied(text: &[u8]) -> Option<Fixed<N>> {
        let mut copy = Fixed::new();
        (text.iter().all(|&byte| byte != 0) && copy.push_bytes(text)).then_some(copy)
    }

    /// Appends `text` if all of it fits; otherwise nothing, and the answer is false.
    #[inline]
    fn push(&mut self, text: &str) -> bool {
        self.push_bytes(text.as_bytes())
    }

    #[inline]
    fn push_bytes(&mut self, text: &[u8]) -> bool {
        append(&mut self.bytes, &mut self.length, text)
    }

    /// Bytes in it, without the NUL.
    #[inline]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Its bytes, without the NUL.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Its bytes with at least one NUL behind them: what C calls a string, unless a NUL was among them.
    #[inline]
    pub const fn with_nul(&self) -> &[u8; N] {
        &self.bytes
    }

    /// The text; empty where a directory's name was not UTF-8.
    #[inline]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_channels_share_no_name() {
        let stable = Product::new("TEAM.com.example", "Tunnel", "").unwrap();
        let canary = Product::new("TEAM.com.example", "Tunnel", "canary").unwrap();
        assert_ne!(stable.service(), canary.service());
        assert_ne!(stable.label(), canary.label());
        assert_ne!(stable.directory(), canary.directory());
    }

    #[test]
    fn a_part_that_would_leave_its_folder_is_refused() {
        assert_eq!(Product::new("com.example", "../etc", ""), Err(ProductError::BadCharacter));
        assert_eq!(Product::new("..", "x", ""), Err(ProductError::BadCharacter));
        assert_eq!(Product::new("", "x", ""), Err(ProductError::Empty));
        assert_eq!(Product::new("g", &"x".repeat(MAX_PART + 1), ""), Err(ProductError::TooLong));
    }

    #[test]
    fn a_channel_is_never_taken_for_part_of_a_name() {
        let channel = Product::new("com.example", "Tunnel", "canary").unwrap();
        assert_ne!(channel.stem(), Product::new("com.example.Tunnel", "canary", "").unwrap().stem());
        assert_eq!(Product::new("com.example", "Tunnel-canary", ""), Err(ProductError::BadCharacter));
    }

    #[test]
    fn the_longest_service_name_fits_a_mach_service() {
        let part = "x".repeat(MAX_PART);
        assert!(Product::new(&part, &part, &part).unwrap().service().len() < 128);
    }

    #[test]
    fn the_derived_names_are_the_documented_ones() {
        let canary = Product::new("TEAM.com.example", "Tunnel", "canary").unwrap();
        assert_eq!(canary.stem(), "TEAM.com.example.Tunnel-canary");
        assert_eq!(canary.service(), "TEAM.com.example.Tunnel-canary.crashd.v1");
        assert_eq!(canary.label(), "TEAM.com.example.Tunnel-canary.crashd");
    }

    #[test]
    fn the_socket_is_in_the_runtime_directory_or_the_users_own_under_tmp() {
        let product = ProductRef::new("com.example", "Tunnel", "").unwrap();
        let path = |directory: Option<&[u8]>, uid| product.socket_path(directory, uid).unwrap().as_str().to_owned();
        assert_eq!(path(Some(b"/run/user/1000"), 1000), "/run/user/1000/com.example.Tunnel.crashd.v1.sock");
        assert_eq!(path(None, 0), "/tmp/aftermach-0/com.example.Tunnel.crashd.v1.sock");
        assert_eq!(path(None, u32::MAX), "/tmp/aftermach-4294967295/com.example.Tunnel.crashd.v1.sock");
        assert_eq!(path(Some(b"relative"), 1000), "/tmp/aftermach-1000/com.example.Tunnel.crashd.v1.sock");
        assert_eq!(path(Some(b""), 1000), "/tmp/aftermach-1000/com.example.Tunnel.crashd.v1.sock");
    }

    #[test]
    fn a_socket_whose_name_is_too_long_for_an_address_is_named_by_hash() {
        let part = "x".repeat(MAX_PART);
        let path = |channel| ProductRef::new(&part, &part, channel).unwrap().socket_path(Some(b"/run/user/1000"), 1000);
        let (stable, canary) = (path("").unwrap(), path("canary").unwrap());
        assert!(stable.len() <= MAX_SOCKET_PATH && canary.len() <= MAX_SOCKET_PATH);
        assert_ne!(stable, canary);
        // A number of at most 20 digits, the slash and ".sock" must fit behind the directory.
        let directory = [b"/".as_slice(), &[b'd'; 106]].concat();
        let product = ProductRef::new(&part, &part, "").unwrap();
        assert!(product.socket_path(Some(&directory[..81]), 1).is_some());
        assert_eq!(product.socket_path(Some(&directory[..101]), 1), None);
    }
}
