//! OpenAI's dialect. Its reference is openai-python's types; what llama.cpp's server adds to them is taken as well.
//!
//! Bodies are read and written here without anything of HTTP, so that files of requests can be served, too.

pub mod chat;
mod chat_stream;
pub mod completions;
mod completions_stream;
pub mod embeddings;
pub mod endpoints;
mod input;
mod items;
pub mod messages;
pub mod models;
pub mod moderations;
pub mod parts;
pub mod responses;
mod responses_stream;
pub mod samplers;
pub mod sampling;
pub mod tools;
mod unsupported;
