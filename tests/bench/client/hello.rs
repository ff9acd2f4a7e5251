//! The program that the client is measured against.

fn main() {
    println!("hello");
}
