//! ollama's dialect: its own paths below `/api`, lines of JSON instead of events. Its reference is ollama's server.

pub mod chat;
pub mod embed;
pub mod generate;
pub mod keep;
mod lines;
pub mod models;
mod options;
pub mod pull;
