//! What the engine promises, under virtual time.

mod load;
mod map;
mod redrive;
mod run;
