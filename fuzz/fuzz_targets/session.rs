#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (quipu_fuzz_targets::target("session").expect("a target").run)(bytes);
});
