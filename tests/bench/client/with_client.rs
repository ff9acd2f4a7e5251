//! The same program with all that the client can do in it.

use std::hint::black_box;

use aftermach_client::{Options, ProductRef};

fn main() {
    // Opaque, so that the compiler works out nothing for names that it knows.
    let product = ProductRef::new(black_box("com.example"), black_box("Hello"), black_box(""));
    let installed = product.is_ok_and(|product| aftermach_client::install(&product, &Options::new()).is_ok());
    {
        let _scope = aftermach_client::scoped("state", "starting");
        aftermach_client::breadcrumb("hello");
    }
    let done = aftermach_client::set("state", "running").is_ok()
        & aftermach_client::remove("state").is_ok()
        & aftermach_client::rearm().is_ok()
        & aftermach_client::dump_without_crashing().is_ok();
    aftermach_client::detach_for_child();
    let taken_back = aftermach_client::uninstall().is_ok();
    black_box((installed, done, taken_back));
    println!("hello");
}
