//! The client never touches the heap: not at installation, not after it.
#![cfg(target_os = "linux")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use aftermach_client::{Options, ProductRef, breadcrumb, remove, scoped, set};
use aftermach_protocol::session::Status;
use support::{Answer, Service};

/// Counts the calls of threads that ask for it: the fake service's thread has a heap.
struct Counting;

thread_local! {
    static COUNTED: Cell<Option<usize>> = const { Cell::new(None) };
}

fn note() {
    COUNTED.with(|counted| counted.set(counted.get().map(|count| count + 1)));
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn heap_calls(body: impl FnOnce()) -> usize {
    COUNTED.set(Some(0));
    body();
    COUNTED.take().unwrap_or(usize::MAX)
}

#[test]
fn nothing_of_the_client_calls_the_heap() {
    assert_eq!(heap_calls(|| drop(std::hint::black_box(Box::new(1)))), 2, "the counter counts");
    let service = Service::new("heap", Answer::Status(Status::Ok));
    let product = ProductRef::new("com.example", "Tunnel", "").unwrap();
    let options = Options::new().service(service.path()).version("1.0").timeout_ms(60_000);
    let long = "é".repeat(1000);
    let mut results = [false; 5];
    let calls = heap_calls(|| {
        results[0] = aftermach_client::install(&product, &options).is_ok();
        for _ in 0..100 {
            results[1] = set("state", "connecting").is_ok() && set("long", &long).is_ok();
            breadcrumb("dial");
            breadcrumb(&long);
            let _scope = scoped("state", "scoped");
        }
        results[2] = remove("state").is_ok();
        results[3] = aftermach_client::dump_without_crashing().is_ok() && aftermach_client::rearm().is_ok();
        aftermach_client::detach_for_child();
        results[4] = aftermach_client::uninstall().is_ok();
    });
    assert_eq!(calls, 0);
    assert_eq!(results, [true; 5]);
}
