//! Byte-level BPE.

use super::fault::TokenizerFault;
use super::file::TokenizerJson;
use super::pre;
use super::table::Table;
use super::vocabulary::Vocabulary;

/// Takes the vocabulary out of `json`.
pub(super) fn read(json: &mut TokenizerJson, vocab_size: Option<usize>) -> Result<Vocabulary, TokenizerFault> {
    let naming = pre::name(json);
    let exact_pre = (!naming.says_all).then(|| pre::exact(json));
    let base = std::mem::take(&mut json.model.vocab.0);
    let mut table = Table::new(base, &json.added_tokens, vocab_size)?;
    table.check_merges(&json.model.merges, |_, _| {})?;
    table.add(&json.added_tokens, 0.0)?;
    let (tokens, types, _) = table.finish();
    let merges = std::mem::take(&mut json.model.merges).into_iter().map(|m| m.text).collect();
    Ok(Vocabulary {
        model: "gpt2",
        pre: naming.name,
        tokens,
        types,
        scores: None,
        merges: Some(merges),
        add_space_prefix: None,
        exact_pre,
    })
}
