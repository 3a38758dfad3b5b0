//! cargo-fuzz's target `index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mmu_notifier_fuzz::index::run(data));
