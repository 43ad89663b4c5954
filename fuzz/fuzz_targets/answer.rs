#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (quipu_fuzz_targets::target("answer").expect("a target").run)(bytes);
});
