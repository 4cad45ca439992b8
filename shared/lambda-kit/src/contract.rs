use penstock_model::contract::{CONTRACT, OLDEST_CONTRACT};
use penstock_model::{Failure, FailureName};
use serde_json::Value;

/// Checks the contract version of a payload. A payload without one passes: whether it needs one is for the
/// request's type to say, since events of AWS have none.
///
/// # Errors
/// `ContractMismatch`, with the versions that this build reads.
pub fn check_contract(payload: &Value) -> Result<(), Failure> {
    let Some(contract) = payload.get("contract") else { return Ok(()) };
    let readable = u64::from(OLDEST_CONTRACT)..=u64::from(CONTRACT);
    match contract.as_u64() {
        Some(version) if readable.contains(&version) => Ok(()),
        Some(version) => Err(mismatch(&format!("has contract version {version}"))),
        None => Err(mismatch("has a contract version that is no number")),
    }
}

fn mismatch(found: &str) -> Failure {
    let readable = if OLDEST_CONTRACT == CONTRACT {
        format!("version {CONTRACT}")
    } else {
        format!("versions {OLDEST_CONTRACT} to {CONTRACT}")
    };
    Failure::new(
        FailureName::ContractMismatch,
        format!(
            "the payload {found}, and this function reads {readable}: deploy functions and state machine together"
        ),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_this_version_and_the_ones_it_says() {
        for version in OLDEST_CONTRACT..=CONTRACT {
            check_contract(&json!({ "contract": version })).unwrap();
        }
        check_contract(&json!({ "detail-type": "Object Created" })).unwrap();
        check_contract(&json!([])).unwrap();
        let bad =
            [json!(CONTRACT + 1), json!(OLDEST_CONTRACT - 1), json!("1"), json!(null), json!(-1), json!(1.5)];
        for contract in bad {
            let failure = check_contract(&json!({ "contract": contract })).unwrap_err();
            assert_eq!(failure.name, FailureName::ContractMismatch, "{contract}");
            assert!(failure.message.contains("this function reads version"), "{}", failure.message);
        }
    }
}
