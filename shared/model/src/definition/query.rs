use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;

/// A query that Penstock has the warehouse unload when a run begins. One of: `redshift`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// By Redshift's Data API.
    Redshift(RedshiftQuery),
}

/// A query of Redshift: on a serverless workgroup, or on a cluster with a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedshiftQuery {
    /// What is unloaded: a SELECT. At its outermost level it has no LIMIT, which UNLOAD refuses.
    pub sql: String,
    /// The database.
    pub database: String,
    /// The serverless workgroup. Without a secret the function's own role signs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workgroup: Option<String>,
    /// The provisioned cluster; needs a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The secret with the database user's name and password, by its name under the stack's prefix in Secrets Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The role with which Redshift writes to the unload's bucket: its ARN, or several, joined by commas. Left out: the
    /// warehouse's default role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_role: Option<String>,
}

impl Query {
    /// What is wrong with it and with the location that it unloads to.
    #[must_use]
    pub fn problems(&self, location: &str) -> Vec<Problem> {
        let Self::Redshift(query) = self;
        let mut problems = query.problems();
        if !location.starts_with("s3://") || location.contains('*') {
            let message = "a warehouse unloads to S3: write s3://bucket/prefix/ without *; each run gets a prefix of \
                           its own below it";
            problems.push(Problem::at("/location", message));
        }
        problems
    }
}

impl RedshiftQuery {
    fn problems(&self) -> Vec<Problem> {
        let at = |member: &str, message: &str| Problem::at(format!("/query/redshift{member}"), message);
        let mut problems = Vec::new();
        match (&self.workgroup, &self.cluster) {
            (Some(_), None) => {}
            (None, Some(_)) if self.secret.is_some() => {}
            (None, Some(_)) => {
                problems.push(at("/cluster", "a cluster is signed in to by a secret: write secret"));
            }
            (Some(_), Some(_)) => problems.push(at("/cluster", "write workgroup or cluster, not both")),
            (None, None) => problems.push(at("", "write workgroup, or cluster and secret")),
        }
        if select(&self.sql).is_empty() {
            problems.push(at("/sql", "the query is empty"));
        }
        let is_role =
            |role: &str| role.starts_with("arn:aws") && role.contains(":iam::") && role.contains(":role/");
        if !self.iam_role.iter().flat_map(|roles| roles.split(',')).all(is_role) {
            problems
                .push(at("/iam_role", "write the role's ARN, such as arn:aws:iam::123456789012:role/unload"));
        }
        problems
    }

    /// The statement that unloads the query to `prefix`: Parquet files, and a manifest with sizes, row counts and columns.
    /// <https://docs.aws.amazon.com/redshift/latest/dg/r_UNLOAD.html>
    #[must_use]
    pub fn unload(&self, prefix: &str) -> String {
        let role = self.iam_role.as_deref().map_or_else(|| "default".to_owned(), literal);
        format!(
            "UNLOAD ({}) TO {} IAM_ROLE {role} FORMAT AS PARQUET MANIFEST VERBOSE",
            literal(select(&self.sql)),
            literal(prefix)
        )
    }
}

/// The query without what may end a statement.
fn select(sql: &str) -> &str {
    sql.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

/// A string literal. Redshift reads a backslash in one as the beginning of an escape, so that both are doubled.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(sql: &str) -> RedshiftQuery {
        RedshiftQuery {
            sql: sql.to_owned(),
            database: "analytics".to_owned(),
            workgroup: Some("etl".to_owned()),
            cluster: None,
            secret: None,
            iam_role: None,
        }
    }

    #[test]
    fn the_query_is_one_literal_whatever_stands_in_it() {
        let cases = [
            ("select 1", "'select 1'"),
            ("select 'NV' as state;\n ; ", "'select ''NV'' as state'"),
            (r"select 'a\nb', '\\'", r"'select ''a\\nb'', ''\\\\'''"),
            (r"select 1') TO 's3://evil/' --\", r"'select 1'') TO ''s3://evil/'' --\\'"),
        ];
        for (sql, expected) in cases {
            let statement = query(sql).unload("s3://b/p/");
            let rest = " TO 's3://b/p/' IAM_ROLE default FORMAT AS PARQUET MANIFEST VERBOSE";
            assert_eq!(statement, format!("UNLOAD ({expected}){rest}"), "{sql}");
        }
        let role =
            RedshiftQuery { iam_role: Some("arn:aws:iam::1:role/o'neil".to_owned()), ..query("select 1") };
        let statement = role.unload("s3://b/it's/");
        assert!(
            statement.contains("TO 's3://b/it''s/' IAM_ROLE 'arn:aws:iam::1:role/o''neil' "),
            "{statement}"
        );
    }

    #[test]
    fn what_can_t_be_run_is_told_by_place() {
        let (good, location) = (query("select 1"), "s3://b/p/");
        let cluster = || RedshiftQuery { workgroup: None, cluster: Some("c".to_owned()), ..good.clone() };
        let cases = [
            (good.clone(), location, vec![]),
            (RedshiftQuery { secret: Some("s".to_owned()), ..cluster() }, location, vec![]),
            (cluster(), location, vec!["/query/redshift/cluster"]),
            (RedshiftQuery { workgroup: None, ..good.clone() }, location, vec!["/query/redshift"]),
            (query(" ; "), location, vec!["/query/redshift/sql"]),
            (
                RedshiftQuery { iam_role: Some("unload".to_owned()), ..good.clone() },
                location,
                vec!["/query/redshift/iam_role"],
            ),
            (good.clone(), "s3://b/dt=*/", vec!["/location"]),
            (good.clone(), "/data/customers", vec!["/location"]),
        ];
        for (query, location, expected) in cases {
            let problems = Query::Redshift(query).problems(location);
            let places: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
            assert_eq!(places, expected);
        }
    }
}
