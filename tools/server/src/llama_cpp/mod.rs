//! llama.cpp's own endpoints, which clients of its server use besides OpenAI's. Its reference is llama.cpp's server.

pub mod adapters;
pub mod completion;
mod completion_stream;
pub mod endpoints;
pub mod infill;
pub mod metrics;
pub mod router;
pub mod state;
pub mod text;
