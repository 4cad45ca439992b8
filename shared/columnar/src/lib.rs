//! Unload layouts, canonical values, fingerprints, diff, snapshot and mapping over Arrow and Parquet.
