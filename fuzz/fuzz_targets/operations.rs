//! cargo-fuzz's target `operations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mmu_notifier_model::run_bytes(data));
