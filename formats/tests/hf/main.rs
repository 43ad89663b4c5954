//! Hugging Face directories: what a Llama becomes, and what is refused by which name.

mod build;
mod config;
mod families;
mod instead;
mod native;
mod noise;
mod oddities;
mod quantised;
mod ranks;
mod real;
mod rope;
mod side_files;
mod tokenizer;
mod torch;
#[path = "../torch/build.rs"]
mod torch_build;
mod weights;
mod within;
