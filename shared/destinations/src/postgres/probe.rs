//! Signs in, looks at the table, and asks what may be done with it. Writes nothing.

use std::collections::BTreeSet;

use penstock_model::definition::{Mode, OnRemoved, OnRemovedWord, ResolvedSync, Sync};
use penstock_model::operation::OperationKind;
use penstock_model::port::Freshness;
use penstock_model::{Failure, FailureName};
use tokio_postgres::types::Type;

use super::connect::Link;
use super::deliver::unavailable;
use super::errors::{Fault, Trouble, classify};
use super::table::Table;
use super::{Mapped, door_and_table};
use crate::probe::{Probed, Verdict};
use crate::{Parts, invalid};

/// What the user may do with the table, in the order of [`needs`].
const PRIVILEGES: &str = "SELECT current_user::text, current_database()::text, \
     has_table_privilege($1, 'SELECT'), has_table_privilege($1, 'INSERT'), \
     has_table_privilege($1, 'UPDATE'), has_table_privilege($1, 'DELETE')";
/// Who is signed in, where no table is looked at.
const WHO: &str = "SELECT current_user::text, current_database()::text";

/// See [`crate::probe::probe`].
pub(crate) async fn probe(
    definition: &ResolvedSync,
    has_sync: bool,
    outside: Parts,
) -> Result<Probed, Failure> {
    let (door, table) = door_and_table(definition, outside.secrets, None)
        .map_err(|problems| invalid(definition, &problems))?;
    let mut freshness = Freshness::Cached;
    let link = loop {
        let login = door.login(freshness).await?;
        match (door.open(&login, &table).await, login.freshness) {
            (Ok(link), _) => break link,
            (Err(Trouble::Login(_)), Freshness::Cached) => freshness = Freshness::Fresh,
            (Err(Trouble::Login(fault)), Freshness::Fresh) => {
                return Ok(Probed {
                    request: "sign in".to_owned(),
                    status: None,
                    verdict: Verdict::Unauthorized,
                    said: Some(fault.to_string()),
                });
            }
            (Err(trouble), _) => return Err(failure(trouble)),
        }
    };
    let seen = look(definition, has_sync, &link, &table).await;
    link.close(&*outside.clock).await;
    seen
}

async fn look(
    definition: &ResolvedSync,
    has_sync: bool,
    link: &Link,
    name: &super::table::TableName,
) -> Result<Probed, Failure> {
    let failed = |error| failure(classify(error, name));
    let accepted = |request: &str, said| {
        Ok(Probed { request: request.to_owned(), status: None, verdict: Verdict::Accepted, said: Some(said) })
    };
    if !has_sync {
        let line = link.client.query_one(WHO, &[]).await.map_err(failed)?;
        let (user, database): (String, String) =
            (line.try_get(0).map_err(failed)?, line.try_get(1).map_err(failed)?);
        return accepted(WHO, format!("signed in as {user} to {database}"));
    }
    let mapped = Mapped::of(definition);
    let table = Table::read(&link.client, name, &mapped.if_empty).await.map_err(failure)?;
    let kinds = kinds(&definition.sync);
    table.check(&mapped, &kinds)?;
    let lines = link.client.query_typed(PRIVILEGES, &[(&table.sql, Type::TEXT)]).await.map_err(failed)?;
    let Some(line) = lines.first() else { return Err(unavailable(Fault::Silent)) };
    let user: String = line.try_get(0).map_err(failed)?;
    let mut lacking = Vec::new();
    for (place, name) in (2..).zip(["SELECT", "INSERT", "UPDATE", "DELETE"]) {
        let granted: bool = line.try_get(place).map_err(failed)?;
        if !granted && needs(&kinds).contains(name) {
            lacking.push(name);
        }
    }
    if lacking.is_empty() {
        return accepted(
            "has_table_privilege",
            format!("{user} may do with table {} what the sync does", table.name),
        );
    }
    Ok(Probed {
        request: "has_table_privilege".to_owned(),
        status: None,
        verdict: Verdict::Unauthorized,
        said: Some(format!("{user} lacks: GRANT {} ON {} TO {user}", lacking.join(", "), table.sql)),
    })
}

/// The operations that a sync may come to.
fn kinds(sync: &Sync) -> BTreeSet<OperationKind> {
    let write = match sync.mode {
        Mode::Upsert => OperationKind::Upsert,
        Mode::CreateOnly => OperationKind::Create,
        Mode::UpdateOnly => OperationKind::Update,
        Mode::Append => OperationKind::Append,
    };
    let removal = match &sync.on_removed {
        OnRemoved::Word(OnRemovedWord::Nothing) => None,
        OnRemoved::Word(OnRemovedWord::Delete) | OnRemoved::Delete { .. } => Some(OperationKind::Delete),
        OnRemoved::Word(OnRemovedWord::Archive) | OnRemoved::Archive { .. } => Some(OperationKind::Archive),
        OnRemoved::Clear { .. } => Some(OperationKind::Clear),
    };
    [Some(write), removal].into_iter().flatten().collect()
}

/// The privileges that operations of these kinds take.
fn needs(kinds: &BTreeSet<OperationKind>) -> BTreeSet<&'static str> {
    let of = |kind: &OperationKind| -> &'static [&'static str] {
        match kind {
            OperationKind::Upsert | OperationKind::Create => &["SELECT", "INSERT", "UPDATE"],
            OperationKind::Append => &["INSERT"],
            OperationKind::Update | OperationKind::Clear | OperationKind::Archive => &["SELECT", "UPDATE"],
            OperationKind::Delete => &["SELECT", "DELETE"],
        }
    };
    kinds.iter().flat_map(of).copied().collect()
}

fn failure(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Fatal(failure) => failure,
        Trouble::Again { fault, .. } | Trouble::Lost(fault) => unavailable(fault),
        Trouble::TimedOut => unavailable(Fault::Silent),
        Trouble::Login(fault) => Failure::because(
            FailureName::DestinationUnauthorized,
            "the database refuses the user or the password",
            fault,
        ),
        Trouble::Row(_) => {
            Failure::new(FailureName::InvariantBroken, "the database refuses a question about the table")
        }
    }
}
