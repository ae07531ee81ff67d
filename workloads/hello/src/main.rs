//! Prints one line: the smallest guest that does something a person can see.

fn main() {
    println!("hello from vyr");
}
