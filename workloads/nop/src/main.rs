//! Returns at once. What a task of this guest costs is what Vyr costs.
//!
//! As a guest it has no std: std's start-up would be fifty times the size of the program.
#![cfg_attr(target_family = "wasm", no_std, no_main)]

#[cfg(target_family = "wasm")]
mod guest {
    // `_start` of wasi-libc's crt1 calls `__main_void` and reaches `proc_exit` in libc.
    #[link(name = "c")]
    #[expect(unsafe_code, reason = "linking libc needs an extern block; it declares nothing")]
    unsafe extern "C" {}

    #[unsafe(no_mangle)]
    #[expect(unsafe_code, reason = "the name is the contract with wasi-libc's crt1")]
    extern "C" fn __main_void() -> i32 {
        0
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        core::arch::wasm32::unreachable()
    }
}

#[cfg(not(target_family = "wasm"))]
fn main() {}
