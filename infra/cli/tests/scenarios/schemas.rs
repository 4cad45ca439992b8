//! What becomes of a sync when the unload's files, its settings or the fields change: nothing is sent by surprise.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray,
};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

use crate::harness::{Project, Table, counts};

type Columns = Vec<(&'static str, ArrayRef)>;

/// Leaves an unload of one day that has these files.
fn unload(project: &Project, day: &str, files: &[(&str, Columns)]) {
    let folder = project.path(&format!("unloads/data/dt={day}"));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, columns) in files {
        let columns = columns.iter().map(|(name, array)| (*name, Arc::clone(array), true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let file = std::fs::File::create(folder.join(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
    std::fs::write(folder.join("_SUCCESS"), "").unwrap();
}

/// A project with a table `(id, amount, at, note)`; `more` is added to the sync.
async fn project(more: &str) -> (Project, Table) {
    let (project, table) =
        (Project::new(), Table::new("id bigint primary key, amount numeric, at text, note text").await);
    project.write("connections/postgres.yaml", &table.connection());
    project.write(
        "syncs/customers.yaml",
        &format!(
            "unload: customers\nconnection: postgres\nobject: {}\nmatch: {{ id: id }}\nfields:\n  amount: amount\n  at: at\n  note: note\n{more}",
            table.name
        ),
    );
    (project, table)
}

fn unload_says(project: &Project, more: &str) {
    project.write("unloads/customers.yaml", &format!("location: data/dt=*/\nprimary_key: [id]\n{more}"));
}

fn narrow_ids(ids: std::ops::Range<i32>) -> ArrayRef {
    Arc::new(ids.collect::<Int32Array>())
}

fn wide_ids(ids: std::ops::Range<i64>) -> ArrayRef {
    Arc::new(ids.collect::<Int64Array>())
}

fn cents(ids: std::ops::Range<i64>, precision: u8, scale: i8) -> ArrayRef {
    let amounts = ids.map(|id| Some(i128::from(id) * 150)).collect::<Decimal128Array>();
    Arc::new(amounts.with_precision_and_scale(precision, scale).unwrap())
}

fn hours(ids: std::ops::Range<i64>) -> impl Iterator<Item = i64> {
    ids.map(|id| id * 3_600_000)
}

fn millis(ids: std::ops::Range<i64>) -> ArrayRef {
    Arc::new(hours(ids).map(Some).collect::<TimestampMillisecondArray>())
}

fn micros(ids: std::ops::Range<i64>) -> ArrayRef {
    Arc::new(hours(ids).map(|at| Some(at * 1_000)).collect::<TimestampMicrosecondArray>())
}

fn notes(ids: std::ops::Range<i64>) -> ArrayRef {
    Arc::new(ids.map(|id| Some(format!("note {id}"))).collect::<StringArray>())
}

/// One file as a writer with narrow types makes it.
fn narrow(ids: std::ops::Range<i32>) -> Columns {
    let wide = i64::from(ids.start)..i64::from(ids.end);
    vec![
        ("id", narrow_ids(ids)),
        ("amount", cents(wide.clone(), 9, 2)),
        ("at", millis(wide.clone())),
        ("note", notes(wide)),
    ]
}

/// The same rows as another writer makes them: wide types, upper case, another order.
fn wide(ids: std::ops::Range<i64>) -> Columns {
    vec![
        ("NOTE", notes(ids.clone())),
        ("AT", micros(ids.clone())),
        ("AMOUNT", cents(ids.clone(), 38, 2)),
        ("ID", wide_ids(ids)),
    ]
}

fn message(result: &Value) -> &str {
    result["failure"]["message"].as_str().unwrap()
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[tokio::test]
async fn widths_units_precisions_letter_case_and_column_order_are_no_changes() {
    let (project, table) = project("").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..10)), ("b", wide(10..20))]);
    assert_eq!(counts(&project.run(&[])), "read 20, added 20, accepted 20");
    table.execute("do $$ begin assert (select sum(amount) from $table) = 285; end $$").await;
    unload(&project, "2026-01-02", &[("a", wide(0..7)), ("b", narrow(7..20))]);
    assert_eq!(counts(&project.run(&[])), "read 20, unchanged 20");
}

/// Two files of which the second has these amounts: the run says so in these words, and sends nothing.
async fn amounts_disagree(amounts: ArrayRef, words: &[&str]) {
    let (project, table) = project("").await;
    let mut other = narrow(5..10);
    other[1].1 = amounts;
    unload(&project, "2026-01-01", &[("first.parquet", narrow(0..5)), ("second.parquet", other)]);
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "UnloadSchemaMismatch", "{result}");
    says(message(&result), words);
    table.execute("do $$ begin assert (select count(*) from $table) = 0; end $$").await;
}

#[tokio::test]
async fn files_that_disagree_on_a_scale_are_named_and_nothing_is_sent() {
    let words = ["amount", "scale 2", "first.parquet", "scale 4", "second.parquet"];
    amounts_disagree(cents(5..10, 9, 4), &words).await;
}

#[tokio::test]
async fn files_of_which_one_has_text_for_a_number_are_named_and_nothing_is_sent() {
    let words = ["amount", "a decimal of scale 2", "first.parquet", "text", "second.parquet"];
    amounts_disagree(notes(5..10), &words).await;
}

#[tokio::test]
async fn a_column_that_nothing_maps_may_come_go_or_change() {
    let (project, _table) = project("").await;
    let with = |ids: std::ops::Range<i32>, name: &'static str, array: ArrayRef| {
        let mut columns = narrow(ids);
        columns.insert(1, (name, array));
        columns
    };
    unload(&project, "2026-01-01", &[("a", with(0..5, "extra", notes(0..5))), ("b", narrow(5..10))]);
    assert_eq!(counts(&project.run(&[])), "read 10, added 10, accepted 10");
    unload(
        &project,
        "2026-01-02",
        &[("a", with(0..5, "extra", narrow_ids(0..5))), ("b", with(5..10, "Extra", notes(5..10)))],
    );
    assert_eq!(counts(&project.run(&[])), "read 10, unchanged 10");
    unload(&project, "2026-01-03", &[("a", narrow(0..10))]);
    assert_eq!(counts(&project.run(&[])), "read 10, unchanged 10");
}

#[tokio::test]
async fn a_mapped_column_that_one_file_has_lost_is_named_with_that_file() {
    let (project, table) = project("").await;
    let mut other = narrow(5..10);
    other.remove(3);
    unload(&project, "2026-01-01", &[("first.parquet", narrow(0..5)), ("second.parquet", other)]);
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "UnloadSchemaMismatch", "{result}");
    says(message(&result), &["column note is in file", "first.parquet", "not in", "second.parquet"]);
    table.execute("do $$ begin assert (select count(*) from $table) = 0; end $$").await;
}

#[tokio::test]
async fn a_mapped_column_that_the_next_unload_has_lost_is_an_error_that_names_it() {
    let (project, table) = project("").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..5))]);
    project.run(&[]);
    let mut without = narrow(0..5);
    without.remove(3);
    unload(&project, "2026-01-02", &[("a", without)]);
    let result = project.run(&[]);
    assert_eq!(result["status"], "failed", "{result}");
    says(message(&result), &["note"]);
    table.execute("do $$ begin assert (select count(note) from $table) = 5; end $$").await;
}

#[tokio::test]
async fn resent_rows_trip_the_guard_which_names_the_fields_as_the_cause() {
    let (project, _table) = project("on_mapping_change: resend\nguards: { max_changed: 20% }\n").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..10))]);
    project.run(&[]);
    let sync = project.read("syncs/customers.yaml");
    project.write(
        "syncs/customers.yaml",
        &sync.replace("  note: note\n", "  note: { expression: \"{{ note | upper }}\" }\n"),
    );
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "GuardTripped", "{result}");
    says(
        message(&result),
        &["10 of 10 rows", "the sync's fields", "on_mapping_change: resend", "--allow max_changed"],
    );
    let result = project.run(&["--allow", "max_changed"]);
    assert_eq!(counts(&result), "read 10, changed 10, accepted 10", "{result}");
    assert_eq!(result["mapping_changes"], serde_json::json!(["fields"]));
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
}

#[tokio::test]
async fn another_zone_of_naive_timestamps_sends_nothing_by_itself_and_is_named() {
    let (project, table) = project("guards: { max_changed: 20% }\n").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..10))]);
    project.run(&[]);
    for (day, zone) in [("2026-01-02", "UTC"), ("2026-01-03", "+02:00")] {
        unload_says(&project, &format!("naive_timestamps: \"{zone}\"\n"));
        // Rows are compared by the zone of the run before: of the ten only one has changed.
        let mut columns = narrow(0..10);
        columns[3].1 = Arc::new(
            (0..10)
                .map(|id| Some(if id == 4 { day.to_owned() } else { format!("note {id}") }))
                .collect::<StringArray>(),
        );
        unload(&project, day, &[("a", columns)]);
        let result = project.run(&[]);
        assert_eq!(counts(&result), "read 10, changed 1, unchanged 9, accepted 1", "{zone}: {result}");
        assert_eq!(
            result["mapping_changes"][0]["naive_timestamps"]["columns"],
            serde_json::json!(["at"]),
            "{result}"
        );
    }
    table
        .execute(
            "do $$ begin assert (select at from $table where id = 4) like '1970-01-01T02:00:00%'; end $$",
        )
        .await;
    // The state is by the new zone now.
    let mut columns = narrow(0..10);
    columns[3].1 = Arc::new(
        (0..10)
            .map(|id| Some(if id == 4 { "2026-01-03".to_owned() } else { format!("note {id}") }))
            .collect::<StringArray>(),
    );
    columns[2].1 = micros(0..10);
    unload(&project, "2026-01-04", &[("a", columns)]);
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 10, unchanged 10", "{result}");
    assert_eq!(result["mapping_changes"], Value::Null);
    let told = project.tell("run", &["--dry-run"]);
    says(&told, &["nothing to do"]);
}

#[tokio::test]
async fn another_zone_of_naive_timestamps_sends_every_row_where_the_sync_says_so_and_the_guard_names_it() {
    let (project, _table) = project("on_mapping_change: resend\nguards: { max_changed: 20% }\n").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..10))]);
    project.run(&[]);
    unload_says(&project, "naive_timestamps: \"-03:30\"\n");
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "GuardTripped", "{result}");
    says(
        message(&result),
        &[
            "10 of 10 rows",
            "naive_timestamps, which was left out at the last run and is -03:30 now",
            "at",
            "resend",
        ],
    );
    let told = project.tell("run", &["--allow", "max_changed"]);
    says(&told, &["10 changed", "changed     the unload's naive_timestamps"]);
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
}

#[tokio::test]
async fn another_zone_for_a_timestamp_of_the_key_is_refused_since_every_key_would_be_another() {
    let (project, table) = (Project::new(), Table::new("at text primary key, id bigint").await);
    project.write("connections/postgres.yaml", &table.connection());
    project.write("syncs/customers.yaml", &format!("unload: customers\nconnection: postgres\nobject: {}\nmatch: {{ at: at }}\non_removed: delete\nfields:\n  id: id\n", table.name));
    project
        .write("unloads/customers.yaml", "location: data/dt=*/\nprimary_key: [at]\nnaive_timestamps: UTC\n");
    unload(&project, "2026-01-01", &[("a", narrow(0..10))]);
    assert_eq!(counts(&project.run(&[])), "read 10, added 10, accepted 10");
    project.write(
        "unloads/customers.yaml",
        "location: data/dt=*/\nprimary_key: [at]\nnaive_timestamps: \"+01:00\"\n",
    );
    unload(&project, "2026-01-02", &[("a", narrow(0..10))]);
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "SyncInvalid", "{result}");
    says(message(&result), &["naive_timestamps was UTC", "is +01:00", "primary key column at", "--full"]);
    table.execute("do $$ begin assert (select count(*) from $table) = 10; end $$").await;
}

/// Rewrites the committed manifest of the customers sync.
fn edit_manifest(project: &Project, edit: impl Fn(&mut serde_json::Map<String, Value>)) {
    let pointer: Value =
        serde_json::from_str(&project.read(".penstock/state/customers/current.json")).unwrap();
    let file = format!(".penstock/{}", pointer["manifest"].as_str().unwrap());
    let mut manifest: Value = serde_json::from_str(&project.read(&file)).unwrap();
    edit(manifest.as_object_mut().unwrap());
    project.write(&file, &manifest.to_string());
}

fn hashed_otherwise(manifest: &mut serde_json::Map<String, Value>) {
    manifest["hashing"]["version"] = Value::from(0);
}

#[tokio::test]
async fn a_snapshot_of_another_hash_version_is_rebuilt_and_what_is_new_or_gone_is_still_told() {
    let (project, table) = project("on_removed: delete\nguards: { max_changed: 20% }\n").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..10))]);
    project.run(&[]);
    edit_manifest(&project, hashed_otherwise);
    unload(&project, "2026-01-02", &[("a", narrow(1..11))]);
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 10, added 1, removed 1, unchanged 9, accepted 2", "{result}");
    assert_eq!(result["mapping_changes"][0]["hash_version"]["was"], 0, "{result}");
    // From then on changes are seen as ever.
    let mut columns = narrow(1..11);
    columns[1].1 = cents(2..12, 9, 2);
    unload(&project, "2026-01-03", &[("a", columns)]);
    let result = project.run(&["--allow", "max_changed"]);
    assert_eq!(counts(&result), "read 10, changed 10, accepted 10", "{result}");
    assert_eq!(result["mapping_changes"], Value::Null);
    table.execute("do $$ begin assert (select sum(amount) from $table) = 97.5; end $$").await;
}

#[tokio::test]
async fn a_snapshot_of_another_hash_version_is_rebuilt_from_its_own_unload_too() {
    let (project, _table) = project("").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..10))]);
    project.run(&[]);
    edit_manifest(&project, hashed_otherwise);
    assert_eq!(counts(&project.run(&[])), "read 10, unchanged 10");
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
}

#[tokio::test]
async fn a_snapshot_of_another_hash_version_sends_every_row_where_the_sync_says_so_and_the_guard_names_it() {
    let (project, _table) = project("on_mapping_change: resend\nguards: { max_changed: 20% }\n").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..10))]);
    project.run(&[]);
    edit_manifest(&project, hashed_otherwise);
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "GuardTripped", "{result}");
    says(message(&result), &["10 of 10 rows", "this version of Penstock", "by version 0"]);
    assert_eq!(counts(&project.run(&["--allow", "max_changed"])), "read 10, changed 10, accepted 10");
}

#[tokio::test]
async fn a_snapshot_that_does_not_say_how_it_was_hashed_is_compared_as_ever() {
    let (project, _table) = project("").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..10))]);
    project.run(&[]);
    edit_manifest(&project, |manifest| drop(manifest.remove("hashing")));
    unload(&project, "2026-01-02", &[("a", wide(0..10))]);
    assert_eq!(counts(&project.run(&[])), "read 10, unchanged 10");
}

#[tokio::test]
async fn a_column_that_comes_in_another_type_is_named_by_the_guard() {
    let (project, _table) = project("guards: { max_changed: 20% }\n").await;
    unload(&project, "2026-01-01", &[("a", narrow(0..10))]);
    project.run(&[]);
    let mut columns = narrow(0..10);
    let texts = (0..10).map(|id| Some(format!("{}.{:02}", id * 150 / 100, id * 150 % 100)));
    columns[1].1 = Arc::new(texts.collect::<StringArray>());
    unload(&project, "2026-01-02", &[("a", columns)]);
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "GuardTripped", "{result}");
    says(message(&result), &["10 of 10 rows", "amount was a decimal of scale 2 and is text"]);
}

#[tokio::test]
async fn json_text_is_compared_by_what_it_says_where_the_unload_names_it() {
    let (project, table) = (Project::new(), Table::new("id bigint primary key, said jsonb, told text").await);
    project.write("connections/postgres.yaml", &table.connection());
    project.write("syncs/customers.yaml", &format!("unload: customers\nconnection: postgres\nobject: {}\nmatch: {{ id: id }}\nfields:\n  said: {{ column: said, type: json }}\n  told: told\n", table.name));
    unload_says(&project, "json_columns: [Said, told]\n");
    let day = |day: &str, said: [&str; 3], told: [&str; 3]| {
        let texts = |texts: [&str; 3]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        let columns = vec![("id", wide_ids(0..3)), ("said", texts(said)), ("told", texts(told))];
        unload(&project, day, &[("a", columns)]);
        project.run(&[])
    };
    let object = r#"{"a": 1, "b": [1, 2], "c": {"d": null}}"#;
    let result = day("2026-01-01", [object, "[]", "7"], ["{}", "no JSON", r#""x""#]);
    assert_eq!(counts(&result), "read 3, added 3, accepted 3", "{result}");
    // White space, the order of members, how numbers and letters are written.
    let other = r#"{ "c":{"d":null}, "b":[1.0,2e0],"a" : 1 }"#;
    let result = day("2026-01-02", [other, " [ ] ", "7.0"], ["{ }", "no JSON", r#""\u0078""#]);
    assert_eq!(counts(&result), "read 3, unchanged 3", "{result}");
    // A value, the order of a list, and text that is no JSON.
    let result = day(
        "2026-01-03",
        [r#"{"a": 2, "b": [1, 2], "c": {"d": null}}"#, "[]", "7"],
        ["{}", "no  JSON", r#""x""#],
    );
    assert_eq!(counts(&result), "read 3, changed 2, unchanged 1, accepted 2", "{result}");
    table.execute("do $$ begin assert (select said from $table where id = 0) = '{\"a\": 2, \"b\": [1, 2], \"c\": {\"d\": null}}'; assert (select told from $table where id = 1) = 'no  JSON'; end $$").await;
    // Sent as JSON, text that is none is rejected, and the rest goes on.
    let result = day(
        "2026-01-04",
        [r#"{"a": 2, "b": [2, 1], "c": {"d": null}}"#, "{", "7"],
        ["{}", "no  JSON", r#""x""#],
    );
    assert_eq!(counts(&result), "read 3, changed 2, unchanged 1, accepted 1, rejected 1", "{result}");
    assert_eq!(result["rejections"][0]["code"], "not_json", "{result}");
}

#[tokio::test]
async fn json_columns_that_come_or_go_send_nothing_and_a_name_that_is_no_text_is_refused() {
    let (project, _table) = project("on_mapping_change: resend\n").await;
    let day = |day: &str, notes: [&str; 2]| {
        let mut columns = narrow(0..2);
        columns[3].1 = Arc::new(StringArray::from(notes.to_vec()));
        unload(&project, day, &[("a", columns)]);
        project.run(&[])
    };
    day("2026-01-01", [r#"{"a":1}"#, "[1]"]);
    unload_says(&project, "json_columns: [note]\n");
    let result = day("2026-01-02", [r#"{"a":1}"#, "[1]"]);
    assert_eq!(counts(&result), "read 2, unchanged 2", "{result}");
    assert_eq!(result["mapping_changes"][0]["json_columns"]["columns"], serde_json::json!(["note"]));
    assert_eq!(
        counts(&day("2026-01-03", [r#"{ "a": 1 }"#, "[2]"])),
        "read 2, changed 1, unchanged 1, accepted 1"
    );
    unload_says(&project, "");
    assert_eq!(counts(&day("2026-01-04", [r#"{"a":1}"#, "[2]"])), "read 2, unchanged 2");
    unload_says(&project, "json_columns: [amount]\n");
    let result = day("2026-01-05", [r#"{"a":1}"#, "[2]"]);
    says(message(&result), &["json_columns", "amount", "not text"]);
}
