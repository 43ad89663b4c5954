//! SentencePiece's tokenizer.model: a protocol buffer, of which pieces and a few settings are read.
//!
//! The messages are those of `sentencepiece_model.proto`
//! (<https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto>), the encoding that of
//! <https://protobuf.dev/programming-guides/encoding/>.

use super::fault::{SentencePieceFault, TokenizerFault};
use super::table::Entry;
use super::vocabulary::TokenType;

use SentencePieceFault as Fault;

/// What is read of a tokenizer.model.
pub(super) struct SentencePieceModel {
    /// The pieces, by id.
    pub pieces: Vec<Entry>,
    /// The first piece of the type unknown.
    pub unknown: Option<String>,
    /// A space is put before the text.
    pub add_dummy_prefix: bool,
    model_type: u64,
    has_normalization: bool,
}

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;
const FIXED_32: u8 = 5;
/// `TrainerSpec.ModelType.BPE`.
const BPE: u64 = 2;

/// The value of a field.
enum Field<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl Field<'_> {
    fn wire_type(&self) -> u8 {
        match self {
            Field::Varint(_) => VARINT,
            Field::Fixed64 => FIXED_64,
            Field::Bytes(_) => BYTES,
            Field::Fixed32(_) => FIXED_32,
        }
    }
}

impl SentencePieceModel {
    /// Reads a `ModelProto`.
    pub fn parse(file: &[u8]) -> Result<SentencePieceModel, Fault> {
        let mut model = SentencePieceModel {
            pieces: Vec::new(),
            unknown: None,
            // The defaults of the format.
            add_dummy_prefix: true,
            model_type: 1,
            has_normalization: false,
        };
        Message { name: "ModelProto", bytes: file, at: 0 }.each(|message, field, value| {
            match field {
                1 => {
                    let piece = read_piece(message.bytes(field, &value)?, model.pieces.len())?;
                    if piece.ty == TokenType::Unknown && model.unknown.is_none() {
                        model.unknown = Some(piece.token.clone());
                    }
                    model.pieces.push(piece);
                }
                2 => {
                    let spec = Message { name: "TrainerSpec", bytes: message.bytes(field, &value)?, at: 0 };
                    spec.each(|message, field, value| {
                        if field == 3 {
                            model.model_type = message.varint(field, &value)?;
                        }
                        Ok(())
                    })?;
                }
                3 => {
                    let spec = Message { name: "NormalizerSpec", bytes: message.bytes(field, &value)?, at: 0 };
                    spec.each(|message, field, value| {
                        match field {
                            2 => model.has_normalization = !message.bytes(field, &value)?.is_empty(),
                            3 => model.add_dummy_prefix = message.varint(field, &value)? != 0,
                            _ => {}
                        }
                        Ok(())
                    })?;
                }
                _ => {}
            }
            Ok(())
        })?;
        if model.pieces.is_empty() {
            return Err(Fault::NoPieces);
        }
        Ok(model)
    }

    /// Refuses what only a tokenizer.json could describe to Quipu.
    pub fn check_alone(&self) -> Result<(), TokenizerFault> {
        if self.model_type != BPE {
            let names = ["unigram", "BPE", "word", "char"];
            let name = self.model_type.checked_sub(1).and_then(|i| names.get(usize::try_from(i).ok()?));
            return Err(TokenizerFault::UnsupportedModel {
                kind: format!("SentencePiece {}", name.unwrap_or(&"nameless")),
            });
        }
        if self.has_normalization {
            let option =
                "a normalisation table in tokenizer.model (tokenizer.json, as transformers saves it, can say more)";
            return Err(TokenizerFault::UnsupportedOption { option: option.into() });
        }
        Ok(())
    }
}

/// Reads a `SentencePiece`.
fn read_piece(bytes: &[u8], number: usize) -> Result<Entry, Fault> {
    let mut entry = Entry { token: String::new(), ty: TokenType::Normal, score: 0.0 };
    Message { name: "SentencePiece", bytes, at: 0 }.each(|message, field, value| {
        match field {
            1 => {
                let text = message.bytes(field, &value)?.to_vec();
                entry.token = String::from_utf8(text).map_err(|_| Fault::InvalidUtf8 { piece: number })?;
            }
            2 => {
                let Field::Fixed32(bits) = value else { return Err(message.wrong_type(field, &value, FIXED_32)) };
                entry.score = f32::from_bits(bits);
                if !entry.score.is_finite() {
                    return Err(Fault::Score { piece: number, found: entry.score.to_string() });
                }
            }
            3 => {
                entry.ty = match message.varint(field, &value)? {
                    1 => TokenType::Normal,
                    2 => TokenType::Unknown,
                    3 => TokenType::Control,
                    4 => TokenType::UserDefined,
                    5 => TokenType::Unused,
                    6 => TokenType::Byte,
                    found => return Err(Fault::PieceType { piece: number, found }),
                };
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(entry)
}

/// An encoded message, read from front to back.
struct Message<'a> {
    name: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Message<'a> {
    /// Calls `read` with every field.
    fn each(mut self, mut read: impl FnMut(&Self, u64, Field<'a>) -> Result<(), Fault>) -> Result<(), Fault> {
        while self.at < self.bytes.len() {
            let at = self.at;
            let tag = self.next_varint()?;
            let (field, wire_type) = (tag >> 3, (tag & 7) as u8);
            let value = match wire_type {
                _ if field == 0 => return Err(Fault::Tag { at, field, wire_type }),
                VARINT => Field::Varint(self.next_varint()?),
                FIXED_64 => {
                    self.take(8)?;
                    Field::Fixed64
                }
                BYTES => {
                    let len = self.next_varint()?;
                    Field::Bytes(self.take(len)?)
                }
                FIXED_32 => {
                    let b = self.take(4)?;
                    Field::Fixed32(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                }
                // Groups, which the format has given up, and numbers that it never gave out.
                _ => return Err(Fault::Tag { at, field, wire_type }),
            };
            read(&self, field, value)?;
        }
        Ok(())
    }

    fn take(&mut self, needed: u64) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(needed).ok().and_then(|n| rest.get(..n));
        let taken = taken.ok_or(Fault::Truncated { at: self.at, needed, left: rest.len() })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn next_varint(&mut self) -> Result<u64, Fault> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            // The tenth byte has room for one bit only.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::LongInteger { at: start })
    }

    fn wrong_type(&self, field: u64, value: &Field, expected: u8) -> Fault {
        Fault::FieldType { message: self.name, field, expected, found: value.wire_type() }
    }

    fn bytes(&self, field: u64, value: &Field<'a>) -> Result<&'a [u8], Fault> {
        if let Field::Bytes(bytes) = value { Ok(bytes) } else { Err(self.wrong_type(field, value, BYTES)) }
    }

    fn varint(&self, field: u64, value: &Field) -> Result<u64, Fault> {
        if let Field::Varint(v) = value { Ok(*v) } else { Err(self.wrong_type(field, value, VARINT)) }
    }
}
