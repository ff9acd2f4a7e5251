//! The report of one crash: `report.json`'s contents, the text for people, and the signature.

pub mod time;
