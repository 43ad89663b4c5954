//! A GGUF in pieces, as its bytes say it: nothing is checked when it is written again, so that every piece can lie.

use quipu_quant::TensorType;
use quipu_test_random::Random;

use super::bytes::integer;

/// A value of the metadata.
#[derive(Clone)]
pub enum Value {
    /// Of a type of fixed size.
    Fixed(Vec<u8>),
    Text(Vec<u8>),
    List(u32, Vec<Value>),
}

#[derive(Clone)]
pub struct Key {
    pub name: Vec<u8>,
    pub kind: u32,
    pub value: Value,
}

#[derive(Clone)]
pub struct Tensor {
    pub name: Vec<u8>,
    pub shape: Vec<u64>,
    pub kind: u32,
    pub bytes: Vec<u8>,
    /// Instead of where the bytes are.
    pub offset: Option<u64>,
}

#[derive(Clone)]
pub struct Gguf {
    pub version: u32,
    pub keys: Vec<Key>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
    /// Of the counts and lengths in the order of the file, one that lies, and what it says.
    pub lie: Option<(usize, u64)>,
}

const REALS: [f64; 11] =
    [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-45, 1e-38, 3.4e38, -1.0, 1e10, 1e300];
/// Words that mean something, and texts that are none.
const TEXTS: [&[u8]; 16] = [
    b"",
    b"llama",
    b"qwen2",
    b"qwen3",
    b"opt",
    b"llama4",
    b"gpt2",
    b"r16k4",
    b"linear",
    b"yarn",
    b"longrope",
    b"none",
    b"\xff\xfe",
    b"\0",
    b"\x1b[2J",
    b"{% for i in range(10**9) %}{{ i }}{% endfor %}",
];
const ARRAY: u32 = 9;
const STRING: u32 = 8;

fn size(kind: u32) -> usize {
    match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => panic!("no type of fixed size: {kind}"),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        self.at += n;
        &self.bytes[self.at - n..self.at]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> Vec<u8> {
        let len = self.u64() as usize;
        self.take(len).to_vec()
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            STRING => Value::Text(self.text()),
            ARRAY => {
                let (kind, len) = (self.u32(), self.u64());
                Value::List(kind, (0..len).map(|_| self.value(kind)).collect())
            }
            _ => Value::Fixed(self.take(size(kind)).to_vec()),
        }
    }
}

struct Writer {
    bytes: Vec<u8>,
    lie: Option<(usize, u64)>,
    counts: usize,
}

impl Writer {
    fn count(&mut self, n: usize) {
        let said = self.lie.filter(|(which, _)| *which == self.counts).map_or(n as u64, |(_, said)| said);
        self.counts += 1;
        self.bytes.extend(said.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.count(text.len());
        self.bytes.extend(text);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Fixed(bytes) => self.bytes.extend(bytes),
            Value::Text(text) => self.text(text),
            Value::List(kind, values) => {
                self.bytes.extend(kind.to_le_bytes());
                self.count(values.len());
                values.iter().for_each(|value| self.value(value));
            }
        }
    }
}

impl Gguf {
    /// Takes a valid file apart.
    pub fn parse(bytes: &[u8]) -> Gguf {
        let mut r = Reader { bytes, at: 4 };
        let (version, tensors, keys) = (r.u32(), r.u64(), r.u64());
        let keys: Vec<Key> = (0..keys)
            .map(|_| {
                let (name, kind) = (r.text(), r.u32());
                Key { name, kind, value: r.value(kind) }
            })
            .collect();
        let mut starts = Vec::new();
        let mut tensors: Vec<Tensor> = (0..tensors)
            .map(|_| {
                let (name, dims) = (r.text(), r.u32());
                let shape = (0..dims).map(|_| r.u64()).collect();
                let kind = r.u32();
                starts.push(r.u64() as usize);
                Tensor { name, shape, kind, bytes: Vec::new(), offset: None }
            })
            .collect();
        let alignment = keys.iter().find(|key| key.name == b"general.alignment").map_or(32, |key| match &key.value {
            Value::Fixed(bytes) => u32::from_le_bytes(bytes[..].try_into().unwrap()) as usize,
            _ => panic!("an alignment that is no number"),
        });
        let data = &bytes[r.at.next_multiple_of(alignment)..];
        for (tensor, &start) in tensors.iter_mut().zip(&starts) {
            let end = starts.iter().copied().filter(|&other| other > start).min().unwrap_or(data.len());
            tensor.bytes = data[start..end].to_vec();
        }
        Gguf { version, keys, tensors, alignment, lie: None }
    }

    /// The file of the pieces.
    pub fn bytes(&self) -> Vec<u8> {
        let mut w = Writer { bytes: b"GGUF".to_vec(), lie: self.lie, counts: 0 };
        w.bytes.extend(self.version.to_le_bytes());
        w.count(self.tensors.len());
        w.count(self.keys.len());
        for key in &self.keys {
            w.text(&key.name);
            w.bytes.extend(key.kind.to_le_bytes());
            w.value(&key.value);
        }
        let mut place = 0;
        for tensor in &self.tensors {
            w.text(&tensor.name);
            w.bytes.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().for_each(|n| w.bytes.extend(n.to_le_bytes()));
            w.bytes.extend(tensor.kind.to_le_bytes());
            w.bytes.extend(tensor.offset.unwrap_or(place as u64).to_le_bytes());
            place = (place + tensor.bytes.len()).next_multiple_of(self.alignment);
        }
        for tensor in &self.tensors {
            w.bytes.resize(w.bytes.len().next_multiple_of(self.alignment), 0);
            w.bytes.extend(&tensor.bytes);
        }
        w.bytes
    }

    /// Changes the value of a key whose name begins with `prefix`; returns its name.
    pub fn mutate_key(&mut self, prefix: &[u8], random: &mut Random) -> String {
        let mut keys: Vec<_> = self.keys.iter_mut().filter(|key| key.name.starts_with(prefix)).collect();
        let at = random.below(keys.len());
        let key = &mut keys[at];
        mutate_value(&mut key.value, key.kind, random);
        String::from_utf8_lossy(&key.name).into_owned()
    }

    /// Changes one thing; returns what.
    pub fn mutate(&mut self, random: &mut Random) -> String {
        // At most three in a row: a file always has more keys and tensors than that.
        let (k, t) = (random.below(self.keys.len()), random.below(self.tensors.len()));
        let (key, tensor) = (&mut self.keys[k], &mut self.tensors[t]);
        let [key_name, tensor_name] = [&key.name, &tensor.name].map(|name| String::from_utf8_lossy(name).into_owned());
        match random.below(16) {
            0..=4 => {
                mutate_value(&mut key.value, key.kind, random);
                format!("another value of {key_name}")
            }
            5 => {
                self.keys.remove(k);
                format!("no {key_name}")
            }
            6 => {
                key.kind = random.below(14) as u32;
                if let (Value::Fixed(bytes), 0..=7 | 10..=12) = (&mut key.value, key.kind) {
                    bytes.resize(size(key.kind), 0);
                }
                format!("another type of {key_name}")
            }
            7 => {
                let copy = key.clone();
                self.keys.push(copy);
                format!("{key_name} twice")
            }
            8 => {
                let other = random.below(self.keys.len());
                let value = self.keys[other].value.clone();
                (self.keys[k].kind, self.keys[k].value) = (self.keys[other].kind, value);
                format!("the value of another key in {key_name}")
            }
            9 => {
                let d = random.below(tensor.shape.len().max(1));
                if tensor.shape.is_empty() {
                    tensor.shape.push(1);
                }
                let n = tensor.shape[d];
                tensor.shape[d] = [n + 1, n * 2, n / 2, n - 1, integer(random)][random.below(5)];
                tensor.fit(random);
                format!("another size of {tensor_name}")
            }
            10 => {
                match random.below(4) {
                    0 => tensor.shape.push([0, 1, 2][random.below(3)]),
                    1 => tensor.shape.reverse(),
                    2 => tensor.shape.truncate(random.below(2)),
                    _ => tensor.shape = tensor.shape.repeat(1 + random.below(3)),
                }
                tensor.fit(random);
                format!("another shape of {tensor_name}")
            }
            11 => {
                tensor.kind = match random.below(3) {
                    0 => random.below(45) as u32,
                    1 => 0x5150_0000 + random.below(40) as u32,
                    _ => integer(random) as u32,
                };
                tensor.fit(random);
                format!("another type of {tensor_name}")
            }
            12 => {
                match random.below(4) {
                    0 => self.tensors[t].name = self.tensors[random.below(self.tensors.len())].name.clone(),
                    1 => drop(self.tensors.remove(t)),
                    2 => {
                        tensor.name = [&b""[..], b"blk.0.attn_q.bias", b"rope_freqs.weight", b"\xff", &[b'x'; 65]]
                            [random.below(5)]
                        .to_vec()
                    }
                    _ => self.tensors.push(self.tensors[t].clone()),
                }
                format!("another name of {tensor_name}, or none, or twice")
            }
            13 => {
                let bytes = &mut tensor.bytes;
                match random.below(4) {
                    _ if bytes.is_empty() => {}
                    0 => (0..1 + random.below(100)).for_each(|_| {
                        let at = random.below(bytes.len());
                        bytes[at] = random.byte();
                    }),
                    1 => bytes.fill(0xff),
                    // An infinity in half precision, again and again.
                    2 => bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = [0, 0x7c][i % 2]),
                    _ => *bytes = random.bytes(bytes.len()),
                }
                format!("other data of {tensor_name}")
            }
            14 => {
                tensor.offset = Some(match random.below(3) {
                    0 => integer(random),
                    1 => integer(random).wrapping_mul(32),
                    _ => 0,
                });
                format!("another place of {tensor_name}")
            }
            _ if random.below(4) == 0 => {
                self.version = integer(random) as u32;
                "another version".into()
            }
            _ => {
                let counts = [4, 64, 2000][random.below(3)];
                let which = random.below(counts);
                let said = [integer(random), random.below(40) as u64][random.below(2)];
                self.lie = Some((which, said));
                format!("the count {which} says {said}")
            }
        }
    }
}

impl Tensor {
    /// Gives the tensor as many bytes as its shape needs, most of the time, so that the lie goes further.
    fn fit(&mut self, random: &mut Random) {
        let rows: Option<u64> = self.shape.iter().skip(1).try_fold(1u64, |n, &d| n.checked_mul(d));
        let row = TensorType::from_id(self.kind).zip(self.shape.first()).and_then(|(t, &n)| t.row_bytes(n as usize));
        if let (Some(rows), Some(row), 1..) = (rows, row, random.below(5))
            && let Some(bytes) = (row as u64).checked_mul(rows).filter(|&bytes| bytes <= 1 << 20)
        {
            let old = std::mem::take(&mut self.bytes);
            self.bytes = old.iter().copied().cycle().take(if old.is_empty() { 0 } else { bytes as usize }).collect();
        }
    }
}

fn mutate_value(value: &mut Value, kind: u32, random: &mut Random) {
    match value {
        Value::Text(text) => match random.below(6) {
            0 => *text = text.repeat(2),
            1 => text.truncate(text.len() / 2),
            2 => text.insert(0, random.byte()),
            3 => *text = vec![b'x'; 70_000],
            _ => *text = TEXTS[random.below(TEXTS.len())].to_vec(),
        },
        Value::List(kind, values) => match random.below(7) {
            0 => values.truncate(random.below(values.len() + 1)),
            1 => values.extend_from_within(..random.below(values.len() + 1)),
            2 => values.clear(),
            3 => values.reverse(),
            4 => *kind = random.below(14) as u32,
            _ if values.is_empty() => {}
            5 => (0..20).for_each(|_| {
                let i = random.below(values.len());
                values[i] = values[random.below(values.len())].clone();
            }),
            _ => (0..1 + random.below(4)).for_each(|_| {
                let i = random.below(values.len());
                mutate_value(&mut values[i], *kind, random);
            }),
        },
        Value::Fixed(bytes) => match kind {
            6 => *bytes = (REALS[random.below(REALS.len())] as f32).to_le_bytes().to_vec(),
            12 => *bytes = REALS[random.below(REALS.len())].to_le_bytes().to_vec(),
            _ => {
                let mut number = [0; 8];
                number[..bytes.len()].copy_from_slice(bytes);
                let n = u64::from_le_bytes(number);
                let other = [n.wrapping_add(1), n.wrapping_sub(1), n.wrapping_mul(2), n / 2, integer(random)];
                let other = other[random.below(5)].to_le_bytes();
                bytes.iter_mut().zip(other).for_each(|(byte, new)| *byte = new);
            }
        },
    }
}
