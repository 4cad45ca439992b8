//! What is synced, and how: definitions drawn from the dice.

use std::time::Duration;

use penstock_model::layout;
use penstock_model::port::{Condition, Objects};
use penstock_store::MemoryObjects;
use penstock_twins::{BatchTwin, BatchTwinBuilder, RateLimit, RowErrors, Script};
use serde_json::{Value, json};

use crate::destination::{ADDRESS, OBJECT};
use crate::table::Row;
use crate::world::Dice;

/// The sync's name.
pub(crate) const SYNC: &str = "customers";

/// The definitions of one story, and how much goes wrong in it.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) mode: &'static str,
    pub(crate) on_removed: Value,
    pub(crate) row_errors: RowErrors,
    pub(crate) rows_per_request: u64,
    pub(crate) idempotent_append: bool,
    pub(crate) limit: Option<RateLimit>,
    pub(crate) per_day: Option<u32>,
    pub(crate) limits: Value,
    pub(crate) delivery: Value,
    /// Of a thousand invocations, how many something happens to.
    pub(crate) mishaps: u64,
    /// Of a thousand calls to the object store, how many fail.
    pub(crate) storage: u64,
    pub(crate) faults: Value,
    /// Whether dead letters are replayed.
    pub(crate) replays: bool,
}

impl Setting {
    /// A setting in which nothing goes wrong.
    pub(crate) fn calm(dice: &Dice) -> Self {
        let limit = dice.per_mille(600).then(|| {
            let within = dice.one_of(&[1, 10]);
            RateLimit::new(u32::try_from(dice.between(4, 30)).unwrap(), Duration::from_secs(within))
        });
        let mut limits = json!({
            "concurrency": dice.between(1, 4),
            "requests_in_flight": dice.between(1, 4),
        });
        if let Some(limit) = limit {
            let name =
                if limit.within.as_secs() == 1 { "requests_per_second" } else { "requests_per_10_seconds" };
            limits[name] = json!(limit.requests);
        }
        let per_day = dice.per_mille(150).then(|| u32::try_from(dice.between(10, 60)).unwrap());
        if let Some(per_day) = per_day {
            limits["requests_per_day"] = json!(per_day);
        }
        let mut delivery = json!({ "chunk_rows": dice.one_of(&[1, 4, 10, 40]) });
        if dice.per_mille(200) {
            delivery["canary"] = json!(dice.between(1, 5));
        }
        let mode = dice.one_of(&["upsert", "upsert", "upsert", "upsert", "append", "create_only"]);
        let on_removed = match mode {
            "upsert" => dice.one_of(&[
                json!({ "delete": "any" }),
                json!({ "delete": "any" }),
                json!({ "delete": "ours" }),
                json!({ "clear": ["note"] }),
                json!("nothing"),
            ]),
            _ => json!("nothing"),
        };
        Self {
            mode,
            on_removed,
            row_errors: dice.one_of(&[
                RowErrors::UnderOk,
                RowErrors::UnderMultiStatus,
                RowErrors::WholeBatch,
            ]),
            rows_per_request: dice.one_of(&[1, 3, 10]),
            idempotent_append: dice.per_mille(300),
            limit,
            per_day,
            limits,
            delivery,
            mishaps: 0,
            storage: 0,
            faults: json!([]),
            replays: dice.per_mille(500),
        }
    }

    /// A setting in which something of everything goes wrong.
    pub(crate) fn rough(dice: &Dice) -> Self {
        Self {
            mishaps: dice.one_of(&[0, 20, 60, 200]),
            storage: dice.one_of(&[0, 0, 5, 20]),
            faults: faults(dice),
            ..Self::calm(dice)
        }
    }

    /// Whether only records are deleted that the sync is known to have created.
    pub(crate) fn deletes_ours(&self) -> bool {
        self.on_removed == json!({ "delete": "ours" })
    }

    pub(crate) fn deletes(&self) -> bool {
        self.on_removed == json!({ "delete": "any" })
    }

    /// The destination's account.
    pub(crate) fn twin(&self) -> BatchTwinBuilder {
        let rows = usize::try_from(self.rows_per_request).unwrap();
        let mut builder =
            BatchTwin::builder().row_errors(self.row_errors).max_records(rows).faults(self.script());
        if let Some(limit) = self.limit {
            builder = builder.rate_limit(limit);
        }
        builder
    }

    fn script(&self) -> Script {
        serde_json::from_value(self.faults.clone()).unwrap()
    }

    fn sync(&self) -> Value {
        let mut sync = json!({
            "unload": "customers",
            "connection": "crm",
            "object": OBJECT,
            "mode": self.mode,
            "fields": Row::fields(),
            "delivery": self.delivery,
            "on_removed": self.on_removed,
        });
        if self.mode == "append" {
            sync["fields"]["id"] = json!("id");
        } else {
            sync["match"] = json!({ "id": "id" });
        }
        sync
    }

    fn connector(&self) -> Value {
        let operation = |verb: &str, row: &str| {
            json!({
                "method": "POST",
                "path": format!("/{{object}}/{verb}"),
                "batch": { "rows": self.rows_per_request },
                "body": { "records": { "$each": row } },
                "answer": { "results": {
                    "at": "/results", "by": ["position"], "id": "/id",
                    "accepted": { "at": "/status", "is": ["created", "updated", "unchanged", "deleted"] },
                    "created": { "at": "/status", "is": ["created"] },
                    "code": "/error/code", "message": "/error/message", "field": "/error/field",
                } },
            })
        };
        let mut append = operation("append", "$record");
        if self.idempotent_append {
            append["idempotency_key"] = json!("Idempotency-Key");
        }
        json!({ "http": {
            "name": "a batch API",
            "auth": ["bearer"],
            "error": { "code": "/error/code", "message": "/error/message" },
            "codes": {
                "exists": "exists", "not_found": "missing", "rate_limited": "throttled", "daily_quota": "quota",
            },
            "objects": { "*": {
                "upsert": operation("upsert", "$record"),
                "create": operation("create", "$record"),
                "update": operation("update", "$record"),
                "clear": operation("update", "$record"),
                "delete": operation("delete", "$match"),
                "append": append,
            } },
        } })
    }

    /// Puts the definitions where plan finds them.
    pub(crate) async fn publish(&self, state: &MemoryObjects) {
        let unload = json!({ "location": "s3://unloads/customers/dt=*/", "primary_key": ["id"] });
        let connection = json!({
            "connector": "batch", "address": ADDRESS,
            "auth": { "bearer": { "secret": "crm" } }, "limits": self.limits,
        });
        for (kind, name, definition) in [
            ("syncs", SYNC, self.sync()),
            ("unloads", "customers", unload),
            ("connections", "crm", connection),
            ("connectors", "crm", self.connector()),
        ] {
            let body = serde_json::to_vec(&definition).unwrap().into();
            state.put(&layout::definition(kind, name), body, Condition::Always).await.unwrap();
        }
    }
}

/// What the destination does, at which of its requests.
fn faults(dice: &Dice) -> Value {
    let kinds = [
        json!({ "status": { "code": 429 } }),
        json!({ "status": { "code": 429, "retry_after": { "seconds": dice.one_of(&[0, 1, 20, 600, 7200]) } } }),
        json!({ "status": { "code": 429, "retry_after": { "date_in_seconds": dice.one_of(&[1, 45]) } } }),
        json!({ "status": { "code": dice.one_of(&[500, 502, 503]) } }),
        json!({ "status": { "code": 503, "retry_after": { "seconds": 40 } } }),
        json!({ "slow": { "ms": dice.one_of(&[200, 5_000, 40_000]) } }),
        json!("reset"),
        json!("answer_lost"),
        json!("answer_lost"),
        json!("truncated"),
        json!("wrong_json"),
        json!("not_json"),
        json!("unauthorized"),
        json!("quota_gone"),
    ];
    let mut rules = Vec::new();
    for _ in 0..dice.between(0, 4) {
        let when = match dice.between(0, 2) {
            0 => json!({ "chance": 0.05, "seed": dice.between(0, 1000) }),
            1 => {
                let from = dice.between(1, 60);
                json!({ "from": from, "until": from + dice.between(0, 15) })
            }
            _ => json!({ "nth": dice.between(1, 60) }),
        };
        rules.push(json!({ "when": when, "what": dice.one_of(&kinds) }));
    }
    Value::Array(rules)
}
