//! Which syncs an event concerns, and the name under which each is started once.

use penstock_model::definition::{Complete, Sync, Unload, WrittenBy};

use crate::event::Event;

/// Whether the event starts this sync.
#[must_use]
pub fn concerns(event: &Event, sync: &Sync, unload: &Unload) -> bool {
    match event {
        Event::ObjectCreated { bucket, key, .. } => sync.start.on_unload && completes(unload, bucket, key),
        Event::StatementEnded { statement, .. } => {
            sync.start.on_unload && unload.written_by.as_ref() == Some(statement)
        }
        Event::RunSucceeded { request, .. } => {
            sync.start.after.as_ref() == Some(&request.sync) && !request.options.dry_run
        }
        Event::Nothing { .. } | Event::LookForOverdue { .. } => false,
        Event::Schedule { name, .. } => sync.start.schedule.as_ref() == Some(name),
        Event::Start { request, .. } => sync.name.as_ref() == Some(&request.sync),
    }
}

/// Whether the event tells of what a run made itself, by the query of this unload: nobody waits for it but that run.
#[must_use]
pub fn is_of_a_run(event: &Event, unload: &Unload) -> bool {
    let Event::ObjectCreated { bucket, key, .. } = event else { return false };
    let place = format!("s3://{bucket}/{key}");
    unload.query.is_some() && place.starts_with(&format!("{}run=", unload.folder()))
}

/// Whether this object tells that an unload of this definition is complete.
fn completes(unload: &Unload, bucket: &str, key: &str) -> bool {
    let Some(location) = unload.location.strip_prefix("s3://") else { return false };
    let (wanted_bucket, pattern) = location.split_once('/').unwrap_or((location, ""));
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    let is_manifest = name.ends_with("manifest");
    let is_marker = name == "_SUCCESS";
    let is_signal = match unload.complete {
        Complete::RedshiftManifest => is_manifest,
        Complete::SuccessMarker => is_marker,
        Complete::Any | Complete::AsListed => is_manifest || is_marker,
    };
    wanted_bucket == bucket && is_signal && matches_folder(pattern.trim_end_matches('/'), folder)
}

/// Whether the folder is the pattern, part by part; `*` in a part stands for any run of characters.
fn matches_folder(pattern: &str, folder: &str) -> bool {
    let (wanted, have): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), folder.split('/').collect());
    wanted.len() == have.len() && wanted.iter().zip(&have).all(|(wanted, have)| matches_part(wanted, have))
}

fn matches_part(pattern: &str, part: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == part,
        Some((before, after)) => part.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches_part(after, rest)))
        }),
    }
}

/// The execution's name: the same event gives the same name, so that a second delivery of it starts nothing. At most
/// 80 characters, as Step Functions asks.
#[must_use]
pub fn execution_name(sync: &str, event: &Event) -> String {
    let told = match event {
        Event::ObjectCreated { bucket, key, etag } => format!("{sync}\n{bucket}\n{key}\n{etag}"),
        Event::StatementEnded { statement: WrittenBy::RedshiftStatement(name), id, .. } => {
            format!("{sync}\nredshift\n{name}\n{id}")
        }
        Event::StatementEnded { statement: WrittenBy::AthenaWorkgroup(name), id, .. } => {
            format!("{sync}\nathena\n{name}\n{id}")
        }
        Event::RunSucceeded { request, run } => format!("{sync}\nafter\n{}\n{run}", request.sync),
        Event::Nothing { what } => format!("{sync}\n{what}"),
        Event::Schedule { name, due } => format!("{sync}\n{name}\n{due}"),
        Event::LookForOverdue { due } => format!("{sync}\noverdue\n{}", due.0),
        Event::Start { id, .. } => format!("{sync}\n{id}"),
    };
    let short: String = sync.chars().take(47).collect();
    format!("{short}-{}", penstock_store::fingerprint_of(told.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_completes_the_unload_whose_pattern_it_fits() {
        let unload = |location: &str, complete| Unload {
            name: None,
            location: location.to_owned(),
            complete,
            written_by: None,
            query: None,
            primary_key: vec!["id".to_owned()],
            naive_timestamps: None,
            json_columns: Vec::new(),
        };
        let cases = [
            ("s3://acme/customers/dt=*/", Complete::Any, "acme", "customers/dt=2026-01-31/manifest", true),
            ("s3://acme/customers/dt=*", Complete::Any, "acme", "customers/dt=2026-01-31/_SUCCESS", true),
            (
                "s3://acme/customers/dt=*/",
                Complete::Any,
                "acme",
                "customers/dt=2026-01-31/part-0.parquet",
                false,
            ),
            ("s3://acme/customers/dt=*/", Complete::Any, "other", "customers/dt=2026-01-31/manifest", false),
            ("s3://acme/customers/dt=*/", Complete::Any, "acme", "customers/dt=1/hour=2/manifest", false),
            ("s3://acme/customers/dt=*/", Complete::SuccessMarker, "acme", "customers/dt=1/manifest", false),
            ("s3://acme/customers/", Complete::RedshiftManifest, "acme", "customers/run_manifest", true),
            ("/data/customers", Complete::Any, "acme", "customers/manifest", false),
        ];
        for (location, complete, bucket, key, expected) in cases {
            assert_eq!(completes(&unload(location, complete), bucket, key), expected, "{location} {key}");
        }
    }

    #[test]
    fn a_corrected_unload_at_the_same_key_is_another_run_and_a_repeated_event_is_not() {
        let event = |etag: &str| Event::ObjectCreated {
            bucket: "acme".into(),
            key: "customers/manifest".into(),
            etag: etag.into(),
        };
        assert_eq!(execution_name("a", &event("1")), execution_name("a", &event("1")));
        assert_ne!(execution_name("a", &event("1")), execution_name("a", &event("2")));
        assert_ne!(execution_name("a", &event("1")), execution_name("b", &event("1")));
        assert!(execution_name(&"x".repeat(200), &event("1")).len() <= 80);
    }
}
