//! One product in one channel, and every name that follows from it.
//!
//! Two channels of a product never share a service, a folder or a socket, so stable and canary run side by side.

use std::fmt;

/// Longest part of a product's identity, in bytes: a Mach service name must stay under 128 (`BOOTSTRAP_MAX_NAME_LEN`).
pub const MAX_PART: usize = 37;

/// The protocol's major version. It is part of the service name: an old client and a new handler never misread each other.
pub const PROTOCOL_MAJOR: u32 = 1;

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
    /// A product from its parts: `group` is the app group or reverse domain ("TEAMID.com.example"), `name` the product, and
    /// `channel` the release channel, empty for stable.
    pub fn new(group: &str, name: &str, channel: &str) -> Result<Product, ProductError> {
        if group.is_empty() || name.is_empty() {
            return Err(ProductError::Empty);
        }
        if [group, name, channel].iter().any(|part| part.len() > MAX_PART) {
            return Err(ProductError::TooLong);
        }
        // These become file and service names: nothing that a path or launchd would read otherwise. Only the group may hold
        // the separators of `stem`, so that two products never have one stem.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let group_ok =
            group.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'-')) && plain(group.as_bytes()[0]);
        if !group_ok || !name.bytes().all(plain) || !channel.bytes().all(plain) {
            return Err(ProductError::BadCharacter);
        }
        Ok(Product { group: group.to_owned(), name: name.to_owned(), channel: channel.to_owned() })
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
        if self.channel.is_empty() {
            format!("{}.{}", self.group, self.name)
        } else {
            format!("{}.{}-{}", self.group, self.name, self.channel)
        }
    }

    /// The Mach service's name; on Linux, the socket's file name.
    pub fn service(&self) -> String {
        format!("{}.crashd.v{PROTOCOL_MAJOR}", self.stem())
    }

    /// The launchd job's label.
    pub fn label(&self) -> String {
        format!("{}.crashd", self.stem())
    }

    /// The folder, under the data directory, that holds this product's reports.
    pub fn directory(&self) -> String {
        self.stem()
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
}
