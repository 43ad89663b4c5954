//! What a grammar may cost. Grammars come from outside, as prompts do.

/// Bytes of a grammar or schema.
pub const TEXT: usize = 256 << 10;
/// Schemas within a schema, and values in its `enum`s.
pub const SCHEMAS: usize = 20_000;
/// How deep schemas and values are nested.
pub const DEPTH: usize = 64;
/// Different targets of `$ref`.
pub const DEFINITIONS: usize = 1_000;
/// How deep groups of a grammar or of a regular expression are nested.
pub const GROUPS: usize = 200;
/// Rules and terminals of a grammar.
pub const RULES: usize = 2_000;
/// Numbers in a schema are smaller, 2⁵³: up to it, a double has every integer.
pub const NUMBER: f64 = 9_007_199_254_740_992.0;
/// How often something may be repeated at least or at most, where a number says so.
pub const REPETITIONS: u64 = 100_000;

/// Symbols of a compiled grammar.
pub const SYMBOLS: usize = 200_000;
/// States of a lexer, of one to two kilobytes each, while a text is written.
pub const LEXER_STATES: usize = 50_000;
/// Work of the lexer while a grammar is compiled: about 20 ms.
pub const COMPILE_FUEL: u64 = 1_000_000;
/// Work of the lexer for one mask: about 15 ms.
pub const MASK_FUEL: u64 = 200_000;
/// Items of the parser for one mask: about 3 ms.
pub const MASK_ITEMS: usize = 50_000;
/// Stack of the thread that compiles. References may be as deep as there are definitions.
pub const STACK: usize = 64 << 20;

/// Compiled grammars that are kept, and bytes of their texts.
pub const KEPT: usize = 64;
/// Bytes of the texts of the grammars that are kept.
pub const KEPT_TEXT: usize = 4 << 20;
