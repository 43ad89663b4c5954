//! A tokenizer.model of SentencePiece in pieces, as its bytes say it: fields of messages, every one of which can lie.
//!
//! The encoding is that of <https://protobuf.dev/programming-guides/encoding/>.

use quipu_test_random::Random;

use super::bytes::integer;

#[derive(Clone)]
pub enum Content {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
    Fixed32([u8; 4]),
}

#[derive(Clone)]
pub struct Field {
    pub number: u64,
    pub content: Content,
    /// Instead of the length of the content.
    pub length: Option<u64>,
    /// Instead of the wire type of the content.
    pub wire: Option<u64>,
}

pub fn field(number: u64, content: Content) -> Field {
    Field { number, content, length: None, wire: None }
}

/// The model that a tokenizer.json of SentencePiece's kind was made from: pieces with scores by the order of merges.
pub fn of_json(json: &serde_json::Value) -> Vec<Field> {
    let mut pieces: Vec<(&str, u64)> = Vec::new();
    for (piece, id) in json["model"]["vocab"].as_object().unwrap() {
        pieces.push((piece, id.as_u64().unwrap()));
    }
    pieces.sort_by_key(|(_, id)| *id);
    let merges = json["model"]["merges"].as_array().unwrap();
    let merge = |merge: &serde_json::Value| match merge.as_str() {
        Some(text) => text.replace(' ', ""),
        None => merge.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect(),
    };
    let made: Vec<String> = merges.iter().map(merge).collect();
    let piece = |&(piece, id): &(&str, u64)| {
        let kind = match id {
            0 => 2,
            1 | 2 => 3,
            _ if piece.starts_with("<0x") => 6,
            _ => 1,
        };
        let score = made.iter().position(|made| made == piece).map_or(-1000.0, |rank| -(rank as f32));
        let content = vec![
            field(1, Content::Bytes(piece.into())),
            field(2, Content::Fixed32(score.to_le_bytes())),
            field(3, Content::Varint(kind)),
        ];
        field(1, Content::Message(content))
    };
    let mut model: Vec<Field> = pieces.iter().map(piece).collect();
    model.push(field(2, Content::Message(vec![field(3, Content::Varint(2)), field(35, Content::Varint(1))])));
    let normalizer = vec![field(1, Content::Bytes("identity".into())), field(3, Content::Varint(1))];
    model.push(field(3, Content::Message(normalizer)));
    model
}

pub fn bytes(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, content, length, wire } in fields {
        let (kind, content) = match content {
            Content::Varint(value) => (0, varint(*value)),
            Content::Fixed64(bytes) => (1, bytes.to_vec()),
            Content::Bytes(bytes) => (2, bytes.clone()),
            Content::Message(fields) => (2, self::bytes(fields)),
            Content::Fixed32(bytes) => (5, bytes.to_vec()),
        };
        out.extend(varint(number << 3 | wire.unwrap_or(kind)));
        if kind == 2 {
            out.extend(varint(length.unwrap_or(content.len() as u64)));
        }
        out.extend(content);
    }
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Changes one thing; returns what.
pub fn mutate(model: &mut Vec<Field>, random: &mut Random) -> String {
    if model.is_empty() {
        return "nothing is left".into();
    }
    // The settings, which stand at the end, as often as a piece.
    let i = if random.below(2) == 0 {
        model.len() - 1 - random.below(model.len().min(2))
    } else {
        random.below(model.len())
    };
    let at = format!("field {i}");
    match random.below(9) {
        0 => drop(model.remove(i)),
        1 => {
            let (copy, times) = (model[i].clone(), [1, 2, 1000][random.below(3)]);
            let to = random.below(model.len() + 1);
            model.splice(to..to, std::iter::repeat_n(copy, times));
        }
        2 => {
            let other = random.below(model.len());
            model.swap(i, other);
        }
        3 => model[i].number = integer(random) >> 3,
        4 => model[i].length = Some(integer(random)),
        5 => model[i].wire = Some(random.below(8) as u64),
        6 => model[i].content = Content::Fixed64(integer(random).to_le_bytes()),
        _ => match &mut model[i].content {
            Content::Message(fields) => return format!("{at}, {}", mutate(fields, random)),
            Content::Varint(value) => *value = integer(random),
            Content::Fixed64(bytes) => *bytes = integer(random).to_le_bytes(),
            Content::Fixed32(bytes) => {
                let reals = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 3.4e38, 1e-45];
                *bytes = reals[random.below(reals.len())].to_le_bytes();
            }
            Content::Bytes(bytes) => {
                let long = "\u{2581}a".repeat([300, 30_000][random.below(2)]);
                let texts: [&[u8]; 10] = [
                    b"",
                    b"a",
                    "▁".as_bytes(),
                    b"<0x41>",
                    b"<0xZZ>",
                    b"<s>",
                    b"\0",
                    b"\xff\xfe",
                    b"\x1b[2J",
                    long.as_bytes(),
                ];
                *bytes = texts[random.below(texts.len())].to_vec();
            }
        },
    }
    at
}
