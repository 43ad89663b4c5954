//! A real server on a free port with the demo model, spoken to over plain sockets.

mod abuse;
mod agents;
mod calls;
mod calls_offered;
mod chat;
mod client;
mod guard;
mod guard_prompts;
mod limits;
mod llama_cpp;
mod lora;
mod mcp;
mod memory;
mod models;
mod names;
mod openai;
mod page;
mod queue;
mod security;
mod server;
mod shapes;
