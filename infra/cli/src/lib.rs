//! The penstock binary: local engine, demo, check, preview, run, dead letters, redrive.
