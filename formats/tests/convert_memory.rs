//! A conversion holds a few chunks of each thread, never a tensor. Alone in its program, since it asks for the peak of
//! the process.
#![cfg(target_os = "linux")]

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
use quipu_formats::gguf::Metadata;
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;

/// A matrix of half a GiB that exists nowhere: rows are made when they are asked for.
struct Unreal {
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

const COLS: usize = 4096;
const ROWS: usize = 65536;

impl Source for Unreal {
    fn path(&self) -> &Path {
        Path::new("unreal")
    }
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }
    fn rows(&self, _: usize, rows: Range<usize>) -> Cow<'_, [u8]> {
        Cow::Owned(vec![0x3c; rows.len() * COLS * 2])
    }
    fn mapped(&self, _: usize) -> Option<&[u8]> {
        None
    }
}

fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

#[test]
fn memory_does_not_grow_with_the_tensor() {
    if std::env::var_os("QUIPU_SKIP_TIMING").is_some() {
        return eprintln!("SKIPPED: the memory of a conversion: QUIPU_SKIP_TIMING is set");
    }
    let info = TensorInfo::new("output.weight", Encoding::Plain(TensorType::BF16), [COLS, ROWS]);
    let source = Unreal { metadata: Metadata::default(), tensors: vec![info] };
    let before = peak_mib();
    for packed in [false, true] {
        let options = ConvertOptions::new(TypeRule::To(TensorType::Q8_0)).packed(packed);
        write_gguf(&source, &options, Path::new("/dev/null"), &AtomicBool::new(false), &|_| {}).unwrap();
    }
    let grown = peak_mib() - before;
    // The scales of the packed matrix have to wait: 2 bytes for 32 weights, and a Vec that doubles as it grows.
    let scales = (ROWS * COLS / 32 * 2) >> 20;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let allowed = 3 * scales + 8 * threads + 16;
    eprintln!("grew by {grown} MiB of {allowed} allowed; the matrix has 512");
    assert!(grown < allowed, "{grown} MiB");
}
