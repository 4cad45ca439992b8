//! Several layers as one.

use std::collections::HashMap;

use penstock_model::port::Objects;
use penstock_model::snapshot::{Identity, IdentityFile, IdentityLayer};
use penstock_model::{Failure, Key};
use penstock_store::line_stream::LineReader;

use super::layers::LayerWriter;
use super::{is_tombstone, learn};

/// Writes some layers, oldest first, as one. Where they are all that there is (`Older::No`), records that we removed are
/// forgotten; else it has to be said to the older ones that they are.
pub(super) async fn merge(
    state: &dyn Objects,
    layers: &[IdentityLayer],
    older: Older,
    mut writer: LayerWriter<'_>,
) -> Result<IdentityLayer, Failure> {
    let mut readers = Vec::with_capacity(layers.len());
    for layer in layers {
        let mut reader = LayerReader { state, files: layer.files.iter(), open: None, head: None };
        reader.advance().await?;
        readers.push(reader);
    }
    loop {
        let heads = readers.iter().filter_map(|reader| reader.head.as_ref().map(|head| head.hash));
        let Some(hash) = heads.min() else { break };
        let mut of_key = Vec::new();
        for reader in &mut readers {
            while reader.head.as_ref().is_some_and(|head| head.hash == hash) {
                of_key.extend(reader.head.take().map(|head| head.identity));
                reader.advance().await?;
            }
        }
        for identity in folded(of_key, older) {
            writer.push(hash, &identity).await?;
        }
    }
    writer.finish().await
}

/// Whether there are layers below those that are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Older {
    Yes,
    No,
}

/// What is said of the keys of one hash, oldest first, as short as can be.
fn folded(said: Vec<Identity>, older: Older) -> Vec<Identity> {
    let mut removed: Vec<Identity> = Vec::new();
    let mut known: HashMap<Key, Identity> = HashMap::new();
    for identity in said {
        if !is_tombstone(&identity) {
            learn(&mut known, identity);
            continue;
        }
        known.remove(&identity.key);
        if older == Older::Yes && !removed.iter().any(|other| other.key == identity.key) {
            removed.push(identity);
        }
    }
    // A record that was made anew after we removed it is not the one that older layers know.
    removed.extend(known.into_values());
    removed
}

/// Reads a layer's files one after the other.
struct LayerReader<'a> {
    state: &'a dyn Objects,
    files: std::slice::Iter<'a, IdentityFile>,
    open: Option<LineReader<'a, Identity>>,
    head: Option<Head>,
}

struct Head {
    hash: u128,
    identity: Identity,
}

impl LayerReader<'_> {
    async fn advance(&mut self) -> Result<(), Failure> {
        self.head = None;
        loop {
            if let Some(lines) = &mut self.open
                && let Some(identity) = lines.next().await?
            {
                self.head = Some(Head { hash: identity.key.hash(), identity });
                return Ok(());
            }
            let Some(file) = self.files.next() else { return Ok(()) };
            self.open = Some(LineReader::open(self.state, &file.key).await?);
        }
    }
}
