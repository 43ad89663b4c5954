//! Importance matrices: what activations a model's matrices met on a calibration text.
//!
//! The file is llama.cpp's GGUF imatrix (`general.type = "imatrix"`): for a matrix NAME the tensors `NAME.in_sum2`, the
//! sum of the squares of each input column, and `NAME.counts`, how many inputs were summed. Quipu adds
//! `NAME.in_products`, F32 of shape \[256, columns\]: row `i` has the sums of column `i` times each column of its
//! window of 256, which lets errors be fed back (`quipu_quant::search::calibration`). Matrices with the same input
//! share one such tensor ([`crate::families::names::Input`]): q, k and v have theirs under `attn_q`, gate and up under
//! `ffn_gate`. Other readers ignore it.
//!
//! Of experts, whose matrices are one tensor, these have a row and a number for each, and there are no products: they
//! would take more memory than the model.
//!
//! llama.cpp's older `imatrix.dat` is read, too; it knows squares only, and how many experts there are only the model
//! does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quipu_quant::TensorType;
use quipu_quant::search::{Calibration, WINDOW};
use rayon::prelude::*;

use crate::families::names::{Role, TensorName};
use crate::gguf::{Array, GgufError, GgufFault, GgufFile, GgufWriter, Metadata, Value, WriteError};
use crate::legacy_imatrix::{self, LegacyEntry, LegacyImatrix};
use crate::map::MappedFile;
use crate::output::Inputs;
use crate::source::{Encoding, Source, TensorInfo};

const SQUARES: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const PRODUCTS: &str = ".in_products";

/// Why an importance matrix can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImatrixError {
    /// Not a GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// llama.cpp's older format, damaged.
    #[error("{path}: an importance matrix in llama.cpp's older format: {problem} (a truncated download?)")]
    Legacy {
        /// The file.
        path: PathBuf,
        /// Where it ends too early, or makes no sense.
        problem: String,
    },
    /// Nothing in it says anything about a matrix's inputs.
    #[error("{path}: is no importance matrix: it has no tensor named *.in_sum2 with its *.counts")]
    None {
        /// The file.
        path: PathBuf,
    },
    /// A tensor with the wrong type, shape or content.
    #[error("{path}: tensor {tensor:?}: {problem}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Sums over the inputs of one matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Inputs seen.
    pub count: f32,
    /// For each column the sum of squares.
    pub squares: Vec<f32>,
    /// For each column the sums of products with the columns of its window; empty if unknown.
    pub products: Vec<f32>,
}

impl Statistics {
    /// Nothing seen yet of inputs of `cols` columns, of which no products are kept.
    fn without_products(cols: usize) -> Statistics {
        Statistics { count: 0.0, squares: vec![0.0; cols], products: Vec::new() }
    }

    /// Nothing seen yet of inputs of `cols` columns.
    pub fn new(cols: usize) -> Statistics {
        Statistics { count: 0.0, squares: vec![0.0; cols], products: vec![0.0; cols * WINDOW] }
    }

    /// Adds `rows` inputs, whose first elements are `stride` apart in `x`.
    ///
    /// # Panics
    /// When `x` is shorter than that.
    pub fn add(&mut self, x: &[f32], rows: usize, stride: usize) {
        let cols = self.squares.len();
        if self.products.is_empty() {
            for (k, square) in self.squares.iter_mut().enumerate() {
                *square += (0..rows).map(|r| x[r * stride + k] * x[r * stride + k]).sum::<f32>();
            }
            self.count += rows as f32;
            return;
        }
        let windows = self.products.par_chunks_mut(WINDOW * WINDOW).zip(self.squares.par_chunks_mut(WINDOW));
        windows.enumerate().for_each(|(i, (products, squares))| {
            let (start, n) = (i * WINDOW, squares.len());
            let row = |r: usize| &x[r * stride + start..][..n];
            let mut sums = vec![0.0; n];
            for (k, (products, square)) in products.chunks_exact_mut(WINDOW).zip(squares).enumerate() {
                // These inputs are summed by themselves first: a small sum loses less to rounding.
                sums[k..].fill(0.0);
                for r in 0..rows {
                    let row = &row(r)[k..];
                    let factor = row[0];
                    for (sum, x) in sums[k..].iter_mut().zip(row) {
                        *sum += factor * x;
                    }
                }
                *square += sums[k];
                for (j, sum) in sums.iter().enumerate().skip(k) {
                    products[j] += sum;
                }
            }
        });
        debug_assert!(stride >= cols);
        self.count += rows as f32;
    }

    /// The mean square of what the `errors` of a row's weights add to its output. Columns of different windows are
    /// taken to be uncorrelated.
    pub fn output_error(&self, errors: &[f32]) -> f64 {
        let sum = if self.products.is_empty() {
            let squares = self.squares.iter().zip(errors);
            squares.map(|(s, e)| f64::from(*s) * f64::from(*e).powi(2)).sum()
        } else {
            let windows = errors.chunks(WINDOW).zip(self.products.chunks(WINDOW * WINDOW));
            windows.map(|(errors, products)| quadratic_form(errors, products)).sum::<f64>()
        };
        sum / f64::from(self.count.max(1.0))
    }

    /// The means, as rounding takes them. Products that no inputs can have are ignored.
    pub fn calibration(&self) -> Calibration {
        let mean = |sums: &[f32]| sums.iter().map(|s| s / self.count.max(1.0)).collect::<Vec<f32>>();
        let squares = mean(&self.squares);
        let known = Some(&self.products).filter(|p| !p.is_empty());
        let with_products = known.and_then(|p| Calibration::from_products(&squares, &mean(p), self.count));
        with_products.unwrap_or_else(|| Calibration::from_squares(&squares))
    }
}

/// `eᵀHe` for a window, whose `products` have the upper triangle of `H`.
fn quadratic_form(errors: &[f32], products: &[f32]) -> f64 {
    let mut sums = [0.0; WINDOW];
    for (k, (&error, row)) in errors.iter().zip(products.chunks_exact(WINDOW)).enumerate() {
        sums[k] += 0.5 * error * row[k];
        for (sum, product) in sums[k + 1..errors.len()].iter_mut().zip(&row[k + 1..]) {
            *sum += error * product;
        }
    }
    2.0 * errors.iter().zip(sums).map(|(e, s)| f64::from(*e) * f64::from(s)).sum::<f64>()
}

/// The statistics of a model's matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    entries: BTreeMap<String, Statistics>,
    /// Of experts' matrices, by expert.
    experts: BTreeMap<String, Vec<Statistics>>,
    /// Of experts' matrices from `imatrix.dat`: the columns of all experts, one after the other. The model says how
    /// many experts there are.
    undivided: BTreeMap<String, Statistics>,
    /// Where it came from, for messages.
    pub path: PathBuf,
    /// The texts.
    pub datasets: Vec<String>,
    /// Chunks of text that were read.
    pub chunks: u32,
    /// Tokens of a chunk.
    pub chunk_size: u32,
}

impl Imatrix {
    /// An empty one, for `chunks` chunks of `chunk_size` tokens of these texts.
    pub fn new(datasets: Vec<String>, chunks: u32, chunk_size: u32) -> Imatrix {
        Imatrix { datasets, chunks, chunk_size, ..Imatrix::default() }
    }

    /// The entry for a matrix, made if it is missing.
    pub fn entry(&mut self, name: &str, cols: usize) -> &mut Statistics {
        self.entries.entry(name.into()).or_insert_with(|| Statistics::new(cols))
    }

    /// The entry for an expert's matrix, made if it is missing.
    pub fn expert_entry(&mut self, name: &str, expert: usize, cols: usize) -> &mut Statistics {
        let experts = self.experts.entry(name.into()).or_default();
        if experts.len() <= expert {
            experts.resize_with(expert + 1, || Statistics::without_products(cols));
        }
        &mut experts[expert]
    }

    /// What is known of the inputs of the matrix of expert number `expert` in tensor `name`, as [`Imatrix::find`] has
    /// it. Of one that no token took, all experts' inputs together stand for its own.
    pub fn find_expert(&self, name: &str, expert: usize) -> Option<Cow<'_, Statistics>> {
        let experts = self.experts.get(name).or_else(|| self.experts.get(&sharing(name).next()?))?;
        if let Some(own) = experts.get(expert).filter(|own| own.count > 0.0) {
            return Some(Cow::Borrowed(own));
        }
        let mut all = Statistics::without_products(experts.first()?.squares.len());
        for one in experts {
            all.count += one.count;
            all.squares.iter_mut().zip(&one.squares).for_each(|(sum, square)| *sum += square);
        }
        (all.count > 0.0).then_some(Cow::Owned(all))
    }

    /// What is known of the inputs of row `row` of tensor `info`.
    pub fn find_row(&self, info: &TensorInfo, row: usize) -> Option<Cow<'_, Statistics>> {
        let [cols, rows, experts] = info.shape[..] else { return self.find(&info.name).map(Cow::Borrowed) };
        let expert = row / rows;
        self.find_expert(&info.name, expert)
            .or_else(|| self.find_undivided(&info.name, expert, cols, experts))
            // From the time when experts were tensors of their own.
            .or_else(|| self.entries.get(&apart(&info.name, expert)?).map(Cow::Borrowed))
    }

    /// The same of an expert whose columns stand behind those of others.
    fn find_undivided(&self, name: &str, expert: usize, cols: usize, experts: usize) -> Option<Cow<'_, Statistics>> {
        let all = self.undivided.get(name).or_else(|| self.undivided.get(&sharing(name).next()?))?;
        if cols.checked_mul(experts) != Some(all.squares.len()) {
            // Of another model, which shows in the number of columns.
            return Some(Cow::Borrowed(all));
        }
        let mut own = Statistics::without_products(cols);
        own.count = all.count;
        own.squares.copy_from_slice(&all.squares[expert * cols..][..cols]);
        if own.squares.iter().all(|square| *square == 0.0) {
            // No token took it.
            for other in all.squares.chunks_exact(cols) {
                own.squares.iter_mut().zip(other).for_each(|(sum, square)| *sum += square);
            }
        }
        Some(Cow::Owned(own))
    }

    /// What is known of the inputs of matrix `name`: under its own name or under that of another one with the same
    /// input.
    pub fn find(&self, name: &str) -> Option<&Statistics> {
        let shared = || self.entries.get(&sharing(name).next()?);
        let own = self.entries.get(name);
        own.filter(|s| !s.products.is_empty())
            .or_else(|| shared().filter(|s| !s.products.is_empty()))
            .or(own)
            .or_else(shared)
    }

    /// The first matrix whose sums are too large for f32, if there is one.
    pub fn overflow(&self) -> Option<&str> {
        let finite = |s: &Statistics| s.squares.iter().chain(&s.products).all(|sum| sum.is_finite());
        let one = self.entries.iter().find(|(_, statistics)| !finite(statistics)).map(|(name, _)| name);
        let of_experts = || self.experts.iter().find(|(_, experts)| !experts.iter().all(finite)).map(|(name, _)| name);
        one.or_else(of_experts).map(String::as_str)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`ImatrixError`].
    pub fn read(path: &Path) -> Result<Imatrix, ImatrixError> {
        let error = match GgufFile::open(path) {
            Ok(file) => return Imatrix::of_gguf(path, &file),
            Err(error) => error,
        };
        if matches!(&error, GgufError::Invalid { fault, .. } if matches!(**fault, GgufFault::NotGguf { .. })) {
            let file = MappedFile::open(path).map_err(GgufError::from)?;
            match legacy_imatrix::read(&file) {
                Ok(legacy) => return Imatrix::of_legacy(path, legacy),
                Err(Some(problem)) => return Err(ImatrixError::Legacy { path: path.to_owned(), problem }),
                Err(None) => {}
            }
        }
        Err(error.into())
    }

    fn of_legacy(path: &Path, legacy: LegacyImatrix) -> Result<Imatrix, ImatrixError> {
        let (mut entries, mut undivided) = (BTreeMap::new(), BTreeMap::new());
        for LegacyEntry { name, calls, sums: squares } in legacy.entries {
            // As of a GGUF, matrices that no input ever reached are passed over.
            if calls == 0 {
                continue;
            }
            if !squares.iter().all(|s| s.is_finite() && *s >= 0.0) {
                let problem = "has numbers that are no sums of squares";
                return Err(ImatrixError::Tensor { path: path.to_owned(), tensor: name, problem });
            }
            let is_bank = TensorName::parse(&name).is_some_and(|name| name.role.is_bank());
            let known = if is_bank { &mut undivided } else { &mut entries };
            known.insert(name, Statistics { count: calls as f32, squares, products: Vec::new() });
        }
        if entries.is_empty() && undivided.is_empty() {
            return Err(ImatrixError::None { path: path.to_owned() });
        }
        let datasets = legacy.dataset.into_iter().collect();
        let (path, experts) = (path.to_owned(), BTreeMap::new());
        Ok(Imatrix { entries, experts, undivided, path, datasets, chunks: legacy.chunks, chunk_size: 0 })
    }

    fn of_gguf(path: &Path, file: &GgufFile) -> Result<Imatrix, ImatrixError> {
        let (mut entries, mut experts) = (BTreeMap::new(), BTreeMap::new());
        for (i, info) in file.tensors().iter().enumerate() {
            let Some(name) = info.name.strip_suffix(SQUARES) else { continue };
            let fault = |tensor: &str, problem| {
                let (path, tensor) = (path.to_owned(), tensor.to_owned());
                Err(ImatrixError::Tensor { path, tensor, problem })
            };
            let (squares, counts) = (floats(file, i), file.find(&format!("{name}{COUNTS}")).map(|c| floats(file, c)));
            let Some(squares) = squares else { return fault(&info.name, "is not F32") };
            if !squares.iter().all(|s| s.is_finite() && *s >= 0.0) {
                return fault(&info.name, "has numbers that are no sums of squares");
            }
            if info.rows() != 1 {
                let Some(Some(counts)) =
                    counts.filter(|counts| counts.as_ref().is_some_and(|c| c.len() == info.rows()))
                else {
                    return fault(&info.name, "has no F32 number for each expert in the tensor of its counts");
                };
                if !counts.iter().all(|count| *count >= 0.0 && count.is_finite()) {
                    return fault(&info.name, "has no numbers of inputs in the tensor of its counts");
                }
                let of_one = |(squares, count): (&[f32], f32)| Statistics {
                    count,
                    squares: squares.to_vec(),
                    products: Vec::new(),
                };
                let all: Vec<_> = squares.chunks_exact(info.cols()).zip(counts).map(of_one).collect();
                experts.insert(name.to_owned(), all);
                continue;
            }
            let Some(Some(&[count])) = counts.as_ref().map(|c| c.as_deref()) else {
                return fault(&info.name, "has no single F32 number in the tensor of its counts");
            };
            // llama.cpp writes matrices that no input ever reached.
            if count == 0.0 {
                continue;
            }
            if !(count > 0.0 && count.is_finite()) {
                return fault(&info.name, "has no number of inputs in the tensor of its counts");
            }
            let mut products = Vec::new();
            if let Some(p) = file.find(&format!("{name}{PRODUCTS}")) {
                let info = &file.tensors()[p];
                let fits = info.cols() == WINDOW && info.rows() == squares.len();
                let Some(values) = floats(file, p).filter(|_| fits) else {
                    return fault(&info.name, "is not F32 of 256 numbers for each column");
                };
                if !values.iter().all(|v| v.is_finite()) {
                    return fault(&info.name, "has numbers that are no sums of products");
                }
                products = values;
            }
            entries.insert(name.to_owned(), Statistics { count, squares, products });
        }
        if entries.is_empty() && experts.is_empty() {
            return Err(ImatrixError::None { path: path.to_owned() });
        }
        let keys = file.metadata();
        let number = |key| keys.u32_opt(key).ok().flatten().unwrap_or(0);
        let datasets = keys.strings_opt("imatrix.datasets").ok().flatten();
        let datasets = datasets.map_or_else(Vec::new, |datasets| datasets.iter().map(String::from).collect());
        let (chunks, chunk_size) = (number("imatrix.chunk_count"), number("imatrix.chunk_size"));
        let (path, undivided) = (path.to_owned(), BTreeMap::new());
        Ok(Imatrix { entries, experts, undivided, path, datasets, chunks, chunk_size })
    }

    /// Writes a file that llama.cpp reads too: there every matrix has an entry of its own. It must be none of `inputs`,
    /// what was read for it.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(&self, path: &Path, inputs: &Inputs) -> Result<u64, WriteError> {
        let mut metadata = Metadata::default();
        metadata.set("general.type", Value::String("imatrix".into()));
        metadata.set("imatrix.datasets", Value::Array(Array::String(self.datasets.iter().collect())));
        metadata.set("imatrix.chunk_count", Value::U32(self.chunks));
        metadata.set("imatrix.chunk_size", Value::U32(self.chunk_size));
        let mut infos = Vec::new();
        let mut data: Vec<Cow<'_, [f32]>> = Vec::new();
        for (name, entry) in &self.entries {
            for name in names(name, &self.entries) {
                let mut put = |suffix: &str, shape: Vec<usize>, values| {
                    let name = format!("{name}{suffix}");
                    infos.push(TensorInfo::new(name, Encoding::Plain(TensorType::F32), shape));
                    data.push(Cow::Borrowed(values));
                };
                put(SQUARES, vec![entry.squares.len(), 1], &entry.squares);
                put(COUNTS, vec![1, 1], std::slice::from_ref(&entry.count));
            }
            if !entry.products.is_empty() {
                let (name, shape) = (format!("{name}{PRODUCTS}"), vec![WINDOW, entry.squares.len()]);
                infos.push(TensorInfo::new(name, Encoding::Plain(TensorType::F32), shape));
                data.push(Cow::Borrowed(&entry.products));
            }
        }
        for (name, experts) in self.experts.iter().filter(|(_, experts)| !experts.is_empty()) {
            let squares: Vec<f32> = experts.iter().flat_map(|one| one.squares.iter().copied()).collect();
            let counts: Vec<f32> = experts.iter().map(|one| one.count).collect();
            for name in names(name, &self.experts) {
                for (suffix, cols, values) in [(SQUARES, experts[0].squares.len(), &squares), (COUNTS, 1, &counts)] {
                    let (name, shape) = (format!("{name}{suffix}"), vec![cols, experts.len()]);
                    infos.push(TensorInfo::new(name, Encoding::Plain(TensorType::F32), shape));
                    data.push(Cow::Owned(values.clone()));
                }
            }
        }
        let mut writer = GgufWriter::create(path, Some(inputs), &metadata, &infos)?;
        for values in data {
            writer.write_tensor_part(bytemuck::cast_slice(&values))?;
        }
        writer.finish()
    }
}

/// The matrices that share the input of `name`; first the one under whose name that input is counted.
fn sharing(name: &str) -> impl Iterator<Item = String> {
    let name = TensorName::parse(name);
    let tied = name.is_some_and(|name| name.role == Role::TokenEmbedding);
    name.and_then(TensorName::input)
        .into_iter()
        .flat_map(move |input| input.matrices(tied))
        .map(|name| name.to_string())
}

/// The name that the matrix of expert number `expert` in tensor `name` had as a tensor of its own.
fn apart(name: &str, expert: usize) -> Option<String> {
    let (matrix, rest) = name.split_once("_exps.")?;
    Some(format!("{matrix}.{expert}.{rest}"))
}

/// The names under which what is known of `name` is written: those of all matrices that share its input. A file that
/// was read may have `entries` of their own for these.
fn names<T>(name: &String, entries: &BTreeMap<String, T>) -> Vec<String> {
    let mut names: Vec<String> = sharing(name).collect();
    if names.first() != Some(name) {
        names = vec![name.clone()];
    }
    names.retain(|other| other == name || !entries.contains_key(other));
    names
}

fn floats(file: &GgufFile, index: usize) -> Option<Vec<f32>> {
    let float = file.tensors()[index].encoding == Encoding::Plain(TensorType::F32);
    float.then(|| file.data(index).as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}
