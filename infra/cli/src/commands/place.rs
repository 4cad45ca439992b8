//! Where state lies: in a folder on this machine, or in a deployed stack's bucket.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use penstock_model::port::Objects;
use penstock_store::deployed::Deployed;
use penstock_store::{FolderObjects, stack};

use crate::args;

/// A place where state lies.
#[derive(Debug)]
pub(super) struct Place {
    objects: Arc<dyn Objects>,
    name: String,
    is_on_aws: bool,
    deployed: Option<Deployed>,
}

impl Place {
    /// The executions of the stack.
    ///
    /// # Errors
    /// If the place is not a stack.
    pub(super) fn deployed(&self) -> anyhow::Result<&Deployed> {
        self.deployed.as_ref().with_context(|| format!("{} is no stack: name one with --stack", self.name))
    }

    /// Definitions, state, runs and dead letters.
    pub(super) fn objects(&self) -> &dyn Objects {
        self.objects.as_ref()
    }

    /// The folder or `s3://bucket`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether functions on AWS read it, and not this machine's.
    pub(super) fn is_on_aws(&self) -> bool {
        self.is_on_aws
    }
}

/// Finds the place that is meant.
///
/// # Errors
/// If AWS knows no such stack or can't be asked, or the bucket is not written as it should be.
pub(super) async fn find(place: &args::Place) -> anyhow::Result<Place> {
    if let Some(name) = &place.stack {
        return stack(name).await;
    }
    let Some(state) = &place.state else {
        anyhow::bail!("say where the state lies: --stack NAME or --state PLACE")
    };
    match state.strip_prefix("s3://") {
        Some(name) => {
            let name = name.trim_end_matches('/');
            anyhow::ensure!(
                !name.is_empty() && !name.contains('/'),
                "the state has a bucket of its own: write --state s3://BUCKET"
            );
            Ok(bucket(&penstock_store::aws::Clients::from_profile().await, name))
        }
        None => folder(Path::new(state)),
    }
}

/// A state folder.
///
/// # Errors
/// If there is no current folder that it could be relative to.
pub(super) fn folder(state: &Path) -> anyhow::Result<Place> {
    let path = std::path::absolute(state)?;
    let (name, objects) = (path.display().to_string(), Arc::new(FolderObjects::new(path)));
    Ok(Place { objects, name, is_on_aws: false, deployed: None })
}

/// A deployed stack: its bucket and its executions.
///
/// # Errors
/// If AWS knows no such stack or can't be asked.
pub(super) async fn stack(name: &str) -> anyhow::Result<Place> {
    let clients = penstock_store::aws::Clients::from_profile().await;
    let found = stack::find(&clients, name).await.with_context(|| format!("stack {name}"))?;
    let deployed = Some(Deployed::new(&clients, found.state_machine_arn));
    Ok(Place { deployed, ..bucket(&clients, &found.bucket) })
}

fn bucket(clients: &penstock_store::aws::Clients, name: &str) -> Place {
    Place { objects: clients.objects(name), name: format!("s3://{name}"), is_on_aws: true, deployed: None }
}
