//! The one place that moves a snapshot: from a run's receipts to the next manifest, and one pointer swapped.
//!
//! `finish` commits its own run; `plan` commits a run that died. Both come here, and the swap decides
//! between them.

mod append;
mod chunk;
mod dead_letters;
mod identities;
mod overlay;
mod runs;
mod settled;
mod snapshot;

pub use chunk::{ChunkResult, load as load_chunk};
pub use dead_letters::{known as known_dead_letters, uncommitted as uncommitted_chunks};
pub use identities::load as load_identities;
pub use runs::{list as list_runs, look as look_at_run};
pub use settled::settle_chunk;
pub use snapshot::{Committed, Current, Ports, Tally, claim, commit, load_current, tally};
