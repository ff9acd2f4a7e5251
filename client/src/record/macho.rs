//! The header as the one content of a section of its own.

use super::Header;

#[used]
#[unsafe(link_section = "__DATA,__aftermach")]
static HEADER: Header = Header::new();

/// This image's header.
pub(crate) fn header() -> &'static Header {
    &HEADER
}
