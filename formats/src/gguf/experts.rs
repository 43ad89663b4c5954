//! Experts apart: as GGUFs had them until March 2024.
//!
//! Each matrix of an expert was a tensor of its own, `blk.0.ffn_gate.3.weight`, where now all of a kind are one,
//! `blk.0.ffn_gate_exps.weight`. llama.cpp refuses such files today; here they are joined as they are read, so that
//! converting one makes a file that llama.cpp reads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{GgufError, GgufFault};
use super::file::GgufFile;
use super::value::Metadata;
use crate::families::names::{Role, split_layer};
use crate::oddity::Oddity;
use crate::source::{Encoding, SharedBytes, Source, TensorInfo};

/// A file whose experts are joined.
#[derive(Debug)]
struct JoinedExperts {
    file: Arc<GgufFile>,
    tensors: Vec<TensorInfo>,
    /// Of each tensor the one of the file that it is, or those of its experts.
    parts: Vec<Vec<usize>>,
    oddities: Vec<Oddity>,
}

/// `file` with the matrices of its experts joined where they are tensors of their own; else as it is.
///
/// # Errors
/// When the matrices of a kind do not go together.
pub fn join_experts(file: GgufFile) -> Result<Box<dyn Source>, GgufError> {
    let mut experts: BTreeMap<(usize, Role), BTreeMap<usize, usize>> = BTreeMap::new();
    for (index, info) in file.tensors().iter().enumerate() {
        if let Some((layer, role, expert)) = parse(&info.name) {
            experts.entry((layer, role)).or_default().insert(expert, index);
        }
    }
    if experts.is_empty() {
        return Ok(Box::new(file));
    }
    // The joined tensor stands where its first expert stood.
    let mut joined = BTreeMap::new();
    let mut count = 0;
    for ((layer, role), parts) in experts {
        let (info, parts) = join(&file, &role.weight_of(layer).to_string(), parts)?;
        count += parts.len();
        joined.insert(parts[0], (info, parts));
    }
    let (mut tensors, mut parts) = (Vec::new(), Vec::new());
    for (index, info) in file.tensors().iter().enumerate() {
        if let Some((info, experts)) = joined.remove(&index) {
            tensors.push(info);
            parts.push(experts);
        } else if parse(&info.name).is_none() {
            tensors.push(info.clone());
            parts.push(vec![index]);
        }
    }
    let oddities = [file.oddities(), &[Oddity::ExpertsApart { tensors: count }]].concat();
    Ok(Box::new(JoinedExperts { file: Arc::new(file), tensors, parts, oddities }))
}

/// Layer, role when it is joined, and number of an expert's matrix.
fn parse(name: &str) -> Option<(usize, Role, usize)> {
    let (layer, rest) = split_layer(name)?;
    let (role, number) = rest.strip_suffix(".weight")?.split_once('.')?;
    let role = match role {
        "ffn_gate" => Role::ExpertGate,
        "ffn_up" => Role::ExpertUp,
        "ffn_down" => Role::ExpertDown,
        _ => return None,
    };
    let expert: usize = number.parse().ok()?;
    (expert.to_string() == number).then_some((layer, role, expert))
}

/// What the tensors of experts 0, 1, 2 … are together, which have to be matrices of one shape and type; and their
/// numbers.
fn join(file: &GgufFile, name: &str, parts: BTreeMap<usize, usize>) -> Result<(TensorInfo, Vec<usize>), GgufError> {
    let fault = |problem: String| {
        let (path, name) = (file.path().to_owned(), name.to_owned());
        GgufError::Invalid { path, fault: Box::new(GgufFault::Experts { name, problem }) }
    };
    if file.find(name).is_some() {
        return Err(fault("it is there, too".into()));
    }
    if let Some(absent) = (0..parts.len()).find(|expert| !parts.contains_key(expert)) {
        return Err(fault(format!("that of expert {absent} is missing")));
    }
    let parts: Vec<usize> = parts.into_values().collect();
    let of = |index: usize| &file.tensors()[index];
    let first = of(parts[0]);
    if first.shape.len() != 2 {
        return Err(fault(format!("{:?} has shape {:?}, which is no matrix", first.name, first.shape)));
    }
    let other = parts.iter().map(|&part| of(part)).find(|o| (o.encoding, &o.shape) != (first.encoding, &first.shape));
    if let Some(other) = other {
        let said = |info: &TensorInfo| format!("{:?} is {} {:?}", info.name, info.encoding.name(), info.shape);
        return Err(fault(format!("{}, but {}", said(first), said(other))));
    }
    // What is in several pieces has to be plain rows, which the pieces are made to be as they are read.
    let encoding = Encoding::Plain(first.ty());
    let count = first.rows().checked_mul(parts.len()).and_then(|rows| rows.checked_mul(first.cols()));
    if count.and_then(|_| encoding.byte_len(first.rows() * parts.len(), first.cols())).is_none() {
        return Err(fault("they are too large together".into()));
    }
    Ok((TensorInfo::new(name, encoding, [&first.shape[..], &[parts.len()]].concat()), parts))
}

impl JoinedExperts {
    /// The tensor of the file, if it is one.
    fn whole(&self, index: usize) -> Option<usize> {
        match self.parts[index][..] {
            [only] if self.tensors[index].shape == self.file.tensors()[only].shape => Some(only),
            _ => None,
        }
    }

    /// `rows` of a joined tensor, as the numbers of tensors of the file and their rows.
    fn pieces(&self, index: usize, rows: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (parts, unit) = (&self.parts[index], self.tensors[index].shape[1]);
        let experts = rows.start / unit..rows.end.div_ceil(unit);
        experts.map(move |expert| {
            let first = expert * unit;
            (parts[expert], rows.start.max(first) - first..rows.end.min(first + unit) - first)
        })
    }
}

impl Source for JoinedExperts {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn metadata(&self) -> &Metadata {
        self.file.metadata()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.file.files()
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    fn rows(&self, index: usize, rows: Range<usize>) -> Cow<'_, [u8]> {
        if let Some(only) = self.whole(index) {
            return self.file.rows(only, rows);
        }
        let mut bytes = Vec::new();
        for (part, rows) in self.pieces(index, rows) {
            bytes.extend_from_slice(&self.file.rows(part, rows));
        }
        Cow::Owned(bytes)
    }

    fn mapped(&self, index: usize) -> Option<&[u8]> {
        self.whole(index).and_then(|only| self.file.mapped(only))
    }

    fn values(&self, index: usize, rows: Range<usize>) -> Vec<f32> {
        if let Some(only) = self.whole(index) {
            return self.file.values(only, rows);
        }
        self.pieces(index, rows).flat_map(|(part, rows)| self.file.values(part, rows)).collect()
    }

    fn shared(self: Arc<Self>, index: usize) -> Option<SharedBytes> {
        self.whole(index).and_then(|only| self.file.clone().shared(only))
    }

    fn release(&self, index: usize) {
        self.parts[index].iter().for_each(|&part| self.file.release(part));
    }

    fn read_ahead(&self, index: usize) {
        self.parts[index].iter().for_each(|&part| self.file.read_ahead(part));
    }

    fn lock(&self) -> io::Result<()> {
        self.file.lock()
    }
}
