//! What the demo lays into its folder.

use std::fs;
use std::io;
use std::path::Path;

/// One day's unload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Day {
    /// The day, for people.
    pub(super) date: &'static str,
    /// Its folder.
    pub(super) folder: &'static str,
    files: [(&'static str, &'static [u8]); 3],
}

macro_rules! day {
    ($date:literal) => {
        Day {
            date: $date,
            folder: concat!("dt=", $date),
            files: [
                (
                    "0000_part_00.parquet",
                    include_bytes!(concat!("../../../demo/unloads/dt=", $date, "/0000_part_00.parquet")),
                ),
                (
                    "0001_part_00.parquet",
                    include_bytes!(concat!("../../../demo/unloads/dt=", $date, "/0001_part_00.parquet")),
                ),
                // Last, as the warehouse writes it.
                ("manifest", include_bytes!(concat!("../../../demo/unloads/dt=", $date, "/manifest"))),
            ],
        }
    };
}

/// The days, in order.
pub(super) const DAYS: [Day; 2] = [day!("2026-11-20"), day!("2026-11-21")];

const UNLOAD: &str = include_str!("../../../demo/unloads/customers.yaml");
const CONNECTION: &str = include_str!("../../../demo/connections/hubspot.yaml");
const SYNC: &str = include_str!("../../../demo/syncs/customers-to-hubspot.yaml");

/// Writes the definitions, pointed at the twin.
///
/// # Errors
/// If the folder can't be written.
pub(super) fn lay_definitions(folder: &Path, address: &str, token: &str) -> io::Result<()> {
    let connection = CONNECTION.replace("http://127.0.0.1:0", address);
    let files = [
        ("unloads/customers.yaml", UNLOAD),
        ("connections/hubspot.yaml", connection.as_str()),
        ("connections/hubspot.token", token),
        ("syncs/customers-to-hubspot.yaml", SYNC),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// Writes one day's unload, its manifest last.
///
/// # Errors
/// If the folder can't be written.
pub(super) fn lay_unload(folder: &Path, day: Day) -> io::Result<()> {
    let into = folder.join("unloads").join(day.folder);
    fs::create_dir_all(&into)?;
    for (name, content) in day.files {
        fs::write(into.join(name), content)?;
    }
    Ok(())
}
