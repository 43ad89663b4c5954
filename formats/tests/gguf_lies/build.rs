//! GGUF files made by hand, honest ones and others.

// Value type ids.
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;

pub fn string(s: impl AsRef<[u8]>) -> Vec<u8> {
    let s = s.as_ref();
    [&(s.len() as u64).to_le_bytes(), s].concat()
}

pub fn key(name: impl AsRef<[u8]>, id: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&string(name)[..], &id.to_le_bytes(), value.as_ref()].concat()
}

pub fn u32_key(name: &str, value: u32) -> Vec<u8> {
    key(name, 4, value.to_le_bytes())
}

pub fn array(id: u32, len: u64, elements: impl AsRef<[u8]>) -> Vec<u8> {
    [&id.to_le_bytes()[..], &len.to_le_bytes(), elements.as_ref()].concat()
}

pub fn tensor(name: impl AsRef<[u8]>, shape: &[u64], id: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend((shape.len() as u32).to_le_bytes());
    shape.iter().for_each(|e| out.extend(e.to_le_bytes()));
    out.extend(id.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

pub fn start(version: u32, tensors: u64, keys: u64) -> Vec<u8> {
    [b"GGUF", &version.to_le_bytes()[..], &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
}

/// A file whose counts are right, padded to `alignment`, with `data` bytes of tensor data.
pub fn aligned_file(alignment: usize, keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut out = start(3, tensors.len() as u64, keys.len() as u64);
    keys.iter().chain(tensors).for_each(|part| out.extend(part));
    out.resize(out.len().next_multiple_of(alignment) + data, 0);
    out
}

pub fn file(keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    aligned_file(32, keys, tensors, data)
}

/// Two tensors, without padding behind the last, and a key of every kind.
pub fn valid() -> Vec<u8> {
    let nested = array(ARRAY, 2, [array(4, 1, 7u32.to_le_bytes()), array(STRING, 1, string("x"))].concat());
    let keys = [
        key("general.architecture", STRING, string("llama")),
        u32_key("general.alignment", 32),
        key("flag", BOOL, [1]),
        key("flags", ARRAY, array(BOOL, 3, [0, 1, 0])),
        key("names", ARRAY, array(STRING, 2, [string("a"), string("é")].concat())),
        key("nested", ARRAY, nested),
        key("scale", 6, 0.5f32.to_le_bytes()),
    ];
    file(&keys, &[tensor("norm", &[8], 0, 0), tensor("w.weight", &[32, 2], 2, 32)], 32 + 36)
}

pub fn packed_keys(layout: &str, version: u32) -> Vec<Vec<u8>> {
    vec![
        u32_key("general.alignment", 16384),
        key("quipu.layout", STRING, string(layout)),
        u32_key("quipu.layout.version", version),
    ]
}

pub fn nest(depth: usize) -> Vec<u8> {
    [array(ARRAY, 1, []).repeat(depth - 1), array(4, 0, [])].concat()
}
