//! The engine against candle: `CLOISTER_ORACLE_MODEL=FILE.gguf cargo test --release -- --nocapture` in this folder.
