//! From the JSON as it is written to a state machine that can run, or to the first reason why not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::choice::Condition;
use super::definition::{
    Choice, Concurrency, Fail, Map, Next, Seconds, State, StateMachine, Task, Text, Wait, Workflow,
};
use super::path::{Path, ResultPath, Template};
use super::retry::{ALL, Catcher, Jitter, MATCHABLE, Retrier};
use super::wire;

/// The longest timeout and wait that AWS takes, in seconds.
const LONGEST_SECONDS: u64 = 99_999_999;

/// Why a state machine is refused.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// It is no JSON, or its outermost fields are not those of a state machine.
    #[error("the state machine could not be read")]
    Unreadable(#[source] serde_json::Error),
    /// A state has an unknown type, lacks a field, or has one that the engine does not know.
    #[error("state {state}: {reason}")]
    State {
        /// The state.
        state: String,
        /// What is wrong; names the field.
        reason: String,
    },
    /// A field's value is not one that the engine can honour.
    #[error("state {state}, {field}: {reason}")]
    Field {
        /// The state.
        state: String,
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The states don't hang together.
    #[error("{field}: {reason}")]
    Machine {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl StateMachine {
    /// Reads a state machine in the Amazon States Language (JSONPath).
    ///
    /// # Errors
    /// The first thing in it that this engine would not honour as Step Functions does, by state and field.
    pub fn parse(text: &str) -> Result<Self, DefinitionError> {
        let machine: wire::Machine = wire::read(text).map_err(DefinitionError::Unreadable)?;
        let mut names = BTreeSet::new();
        let workflow = workflow(machine.start_at, machine.states, Level::Top, &mut names)?;
        let timeout = match machine.timeout_seconds {
            Some(0) => {
                return Err(DefinitionError::Machine {
                    field: "TimeoutSeconds",
                    reason: "must be at least 1".to_owned(),
                });
            }
            seconds => seconds.map(Duration::from_secs),
        };
        Ok(Self { workflow, timeout })
    }
}

/// Where a workflow stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Child,
}

/// A state's name and level, for reading its fields.
struct At<'a> {
    state: &'a str,
    level: Level,
}

fn workflow(
    start_at: String,
    written: BTreeMap<String, Value>,
    level: Level,
    names: &mut BTreeSet<String>,
) -> Result<Workflow, DefinitionError> {
    let mut states = BTreeMap::new();
    for (name, fields) in written {
        let at = At { state: &name, level };
        if !names.insert(name.clone()) {
            return Err(at.state_error("another state has this name"));
        }
        let state = at.state(fields, names)?;
        states.insert(name, state);
    }
    if !states.contains_key(&start_at) {
        return Err(DefinitionError::Machine {
            field: "StartAt",
            reason: format!("there is no state {start_at}"),
        });
    }
    for (name, state) in &states {
        for (field, follower) in state.followers() {
            if !states.contains_key(follower) {
                return Err(
                    At { state: name, level }.field_error(field, format!("there is no state {follower}"))
                );
            }
        }
    }
    let workflow = Workflow { start_at, states };
    let unreachable = workflow.unreachable();
    match unreachable.first() {
        Some(name) => Err(At { state: name, level }.state_error("can't be reached from StartAt")),
        None => Ok(workflow),
    }
}

impl Workflow {
    fn unreachable(&self) -> Vec<&str> {
        let mut reached = BTreeSet::new();
        let mut ahead = vec![self.start_at.as_str()];
        while let Some(name) = ahead.pop() {
            if reached.insert(name) {
                ahead.extend(
                    self.states.get(name).into_iter().flat_map(State::followers).map(|(_, next)| next),
                );
            }
        }
        self.states.keys().map(String::as_str).filter(|name| !reached.contains(name)).collect()
    }
}

impl At<'_> {
    fn state_error(&self, reason: impl ToString) -> DefinitionError {
        DefinitionError::State { state: self.state.to_owned(), reason: reason.to_string() }
    }

    fn field_error(&self, field: &'static str, reason: impl ToString) -> DefinitionError {
        DefinitionError::Field { state: self.state.to_owned(), field, reason: reason.to_string() }
    }

    fn state(&self, mut fields: Value, names: &mut BTreeSet<String>) -> Result<State, DefinitionError> {
        let kind = match fields.as_object_mut().and_then(|fields| fields.remove("Type")) {
            Some(Value::String(kind)) => kind,
            Some(_) | None => return Err(self.state_error("missing field `Type`")),
        };
        match kind.as_str() {
            "Task" => self.task(self.fields(fields)?).map(State::Task),
            "Map" => self.map(self.fields(fields)?, names).map(Box::new).map(State::Map),
            "Choice" => self.choice(self.fields(fields)?).map(State::Choice),
            "Wait" => self.wait(self.fields(fields)?).map(State::Wait),
            "Succeed" => self.fields::<wire::Succeed>(fields).map(|_| State::Succeed),
            "Fail" => self.fail(self.fields(fields)?).map(State::Fail),
            other => Err(self.field_error("Type", format!("`{other}` is not a type that this engine knows"))),
        }
    }

    fn fields<T: DeserializeOwned>(&self, fields: Value) -> Result<T, DefinitionError> {
        serde_json::from_value(fields).map_err(|error| self.state_error(error))
    }

    fn task(&self, task: wire::Task) -> Result<Task, DefinitionError> {
        self.only("Resource", &task.resource, "arn:aws:states:::lambda:invoke")?;
        let function = task
            .parameters
            .function_name
            .strip_prefix("${")
            .and_then(|name| name.strip_suffix('}'))
            .ok_or_else(|| {
                self.field_error("FunctionName", "must be a placeholder such as `${PlanFunction}`")
            })?;
        Ok(Task {
            function: function.to_owned(),
            payload: self.template("Payload", task.parameters.payload)?,
            result_selector: task
                .result_selector
                .map(|selector| self.template("ResultSelector", selector))
                .transpose()?,
            result_path: self.result_path(task.result_path)?,
            timeout: self.seconds("TimeoutSeconds", task.timeout_seconds)?,
            retry: self.retry(task.retry)?,
            catch: self.catch(task.catch)?,
            next: self.next(task.next, task.end)?,
        })
    }

    fn map(&self, map: wire::Map, names: &mut BTreeSet<String>) -> Result<Map, DefinitionError> {
        if self.level == Level::Child {
            return Err(self.field_error("Type", "a Map inside a Map is not used"));
        }
        self.only("ItemReader.Resource", &map.item_reader.resource, "arn:aws:states:::s3:getObject")?;
        self.only("ItemReader.ReaderConfig.InputType", &map.item_reader.reader_config.input_type, "JSON")?;
        self.only("ResultWriter.Resource", &map.result_writer.resource, "arn:aws:states:::s3:putObject")?;
        let processor = map.item_processor;
        self.only("ItemProcessor.ProcessorConfig.Mode", &processor.processor_config.mode, "DISTRIBUTED")?;
        // Only a standard child is redriven from the state that failed.
        self.only(
            "ItemProcessor.ProcessorConfig.ExecutionType",
            &processor.processor_config.execution_type,
            "STANDARD",
        )?;
        if map.result_path != Some(None) {
            return Err(self.field_error("ResultPath", "must be null: this engine keeps no results of a Map"));
        }
        let concurrency = match (map.max_concurrency, map.max_concurrency_path) {
            (Some(_), Some(_)) => {
                return Err(self.field_error("MaxConcurrency", "stands beside MaxConcurrencyPath"));
            }
            (_, Some(path)) => Concurrency::At(self.path("MaxConcurrencyPath", &path)?),
            (fixed, None) => Concurrency::Fixed(fixed.unwrap_or(0)),
        };
        if map.tolerated_failure_percentage.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Err(self.field_error("ToleratedFailurePercentage", "must be from 0 to 100"));
        }
        Ok(Map {
            label: map.label.unwrap_or_else(|| self.state.to_owned()),
            bucket: self.path("ItemReader.Parameters.Bucket.$", &map.item_reader.parameters.bucket)?,
            key: self.path("ItemReader.Parameters.Key.$", &map.item_reader.parameters.key)?,
            item_selector: map.item_selector.map(|selector| self.item_selector(selector)).transpose()?,
            concurrency,
            tolerated_count: map.tolerated_failure_count,
            tolerated_percentage: map.tolerated_failure_percentage,
            workflow: workflow(processor.start_at, processor.states, Level::Child, names)?,
            retry: self.retry(map.retry)?,
            catch: self.catch(map.catch)?,
            next: self.next(map.next, map.end)?,
        })
    }

    fn choice(&self, choice: wire::Choice) -> Result<Choice, DefinitionError> {
        if choice.choices.is_empty() {
            return Err(self.field_error("Choices", "must hold a rule"));
        }
        let rules = choice.choices.into_iter().map(|mut rule| {
            let next = rule.next.take().ok_or_else(|| self.field_error("Choices", "a rule lacks `Next`"))?;
            Ok((self.condition(rule)?, next))
        });
        Ok(Choice { rules: rules.collect::<Result<_, _>>()?, default: choice.default })
    }

    fn condition(&self, rule: wire::Rule) -> Result<Condition, DefinitionError> {
        if rule.next.is_some() {
            return Err(self.field_error("Choices", "only an outermost rule has `Next`"));
        }
        let variable = rule.variable.map(|path| self.path("Variable", &path)).transpose()?;
        let mut found: Vec<Condition> = Vec::new();
        if let Some(path) = &variable {
            let path = || path.clone();
            found.extend(rule.string_equals.map(|text| Condition::StringEquals(path(), text)));
            found.extend(rule.numeric_equals.map(|number| Condition::NumericEquals(path(), number)));
            found.extend(
                rule.numeric_greater_than.map(|number| Condition::NumericGreaterThan(path(), number)),
            );
            found.extend(rule.boolean_equals.map(|expected| Condition::BooleanEquals(path(), expected)));
            found.extend(rule.is_present.map(|expected| Condition::IsPresent(path(), expected)));
        }
        if let Some(rules) = rule.and {
            if rules.is_empty() || variable.is_some() {
                return Err(self.field_error("And", "must hold rules, and stand without `Variable`"));
            }
            found.push(Condition::And(
                rules.into_iter().map(|rule| self.condition(rule)).collect::<Result<_, _>>()?,
            ));
        }
        match (found.pop(), found.is_empty()) {
            (Some(condition), true) => Ok(condition),
            (Some(_), false) | (None, _) => {
                Err(self.field_error("Choices", "a rule must be `And`, or `Variable` and one comparison"))
            }
        }
    }

    fn wait(&self, wait: wire::Wait) -> Result<Wait, DefinitionError> {
        let seconds = match (wait.seconds, wait.seconds_path) {
            (Some(seconds), None) => {
                self.seconds("Seconds", seconds)?;
                Seconds::Fixed(seconds)
            }
            (None, Some(path)) => Seconds::At(self.path("SecondsPath", &path)?),
            (Some(_), Some(_)) | (None, None) => {
                return Err(self.field_error("Seconds", "there must be either Seconds or SecondsPath"));
            }
        };
        Ok(Wait { seconds, next: self.next(wait.next, wait.end)? })
    }

    fn fail(&self, fail: wire::Fail) -> Result<Fail, DefinitionError> {
        Ok(Fail {
            error: self.text("ErrorPath", fail.error, fail.error_path)?,
            cause: self.text("CausePath", fail.cause, fail.cause_path)?,
        })
    }

    fn text(
        &self,
        field: &'static str,
        fixed: Option<String>,
        path: Option<String>,
    ) -> Result<Text, DefinitionError> {
        match (fixed, path) {
            (Some(_), Some(_)) => Err(self.field_error(field, "stands beside the field that it replaces")),
            (None, Some(path)) => self.path(field, &path).map(Text::At),
            (fixed, None) => Ok(Text::Fixed(fixed.unwrap_or_default())),
        }
    }

    fn retry(&self, retriers: Vec<wire::Retrier>) -> Result<Vec<Retrier>, DefinitionError> {
        let lists: Vec<&[String]> = retriers.iter().map(|retrier| retrier.error_equals.as_slice()).collect();
        self.error_names("Retry", &lists)?;
        retriers.into_iter().map(|retrier| self.retrier(retrier)).collect()
    }

    fn retrier(&self, retrier: wire::Retrier) -> Result<Retrier, DefinitionError> {
        let backoff_rate = retrier.backoff_rate.unwrap_or(2.0);
        if !(1.0..=f64::MAX).contains(&backoff_rate) {
            return Err(self.field_error("Retry", "BackoffRate must be at least 1"));
        }
        let max_delay = retrier.max_delay_seconds.map(Duration::from_secs);
        let interval = self.seconds("Retry", retrier.interval_seconds.unwrap_or(1))?;
        if max_delay.is_some_and(|longest| longest < interval || longest >= Duration::from_secs(31_622_400)) {
            return Err(self.field_error("Retry", "MaxDelaySeconds must be from IntervalSeconds to 31622399"));
        }
        Ok(Retrier {
            error_equals: retrier.error_equals,
            interval,
            max_attempts: retrier.max_attempts.unwrap_or(3),
            backoff_rate,
            max_delay,
            jitter: match retrier.jitter_strategy {
                Some(wire::JitterStrategy::Full) => Jitter::Full,
                Some(wire::JitterStrategy::None) | None => Jitter::None,
            },
        })
    }

    fn catch(&self, catchers: Vec<wire::Catcher>) -> Result<Vec<Catcher>, DefinitionError> {
        let lists: Vec<&[String]> = catchers.iter().map(|catcher| catcher.error_equals.as_slice()).collect();
        self.error_names("Catch", &lists)?;
        catchers
            .into_iter()
            .map(|catcher| {
                Ok(Catcher {
                    result_path: self.result_path(catcher.result_path)?,
                    error_equals: catcher.error_equals,
                    next: catcher.next,
                })
            })
            .collect()
    }

    fn error_names(&self, field: &'static str, lists: &[&[String]]) -> Result<(), DefinitionError> {
        for (position, names) in lists.iter().enumerate() {
            let last = position + 1 == lists.len();
            if names.is_empty() {
                return Err(self.field_error(field, "ErrorEquals must hold a name"));
            }
            if names.iter().any(|name| name == ALL) && !(last && names.len() == 1) {
                return Err(self.field_error(field, format!("{ALL} must stand alone and last")));
            }
            let unknown =
                names.iter().find(|name| name.starts_with("States.") && !MATCHABLE.contains(&name.as_str()));
            if let Some(name) = unknown {
                return Err(self.field_error(field, format!("`{name}` is never matched by this engine")));
            }
        }
        Ok(())
    }

    fn next(&self, next: Option<String>, end: Option<bool>) -> Result<Next, DefinitionError> {
        match (next, end) {
            (Some(name), None) => Ok(Next::State(name)),
            (None, Some(true)) => Ok(Next::End),
            (Some(_), Some(_)) | (None, Some(false) | None) => {
                Err(self.field_error("Next", "there must be either Next or \"End\": true"))
            }
        }
    }

    fn only(&self, field: &'static str, found: &str, known: &str) -> Result<(), DefinitionError> {
        if found == known {
            return Ok(());
        }
        Err(self.field_error(field, format!("`{found}` is not supported, only `{known}`")))
    }

    fn seconds(&self, field: &'static str, seconds: u64) -> Result<Duration, DefinitionError> {
        if (1..=LONGEST_SECONDS).contains(&seconds) {
            return Ok(Duration::from_secs(seconds));
        }
        Err(self.field_error(field, format!("seconds must be from 1 to {LONGEST_SECONDS}")))
    }

    /// Absent is `$`, as in the States Language.
    fn result_path(&self, written: Option<Option<String>>) -> Result<ResultPath, DefinitionError> {
        match written {
            None => Ok(ResultPath::Place(Vec::new())),
            Some(None) => Ok(ResultPath::Discard),
            Some(Some(text)) => {
                ResultPath::parse(&text).map_err(|reason| self.field_error("ResultPath", reason))
            }
        }
    }

    fn path(&self, field: &'static str, text: &str) -> Result<Path, DefinitionError> {
        let path = Path::parse(text).map_err(|reason| self.field_error(field, reason))?;
        self.known_context(field, [&path], &[])?;
        Ok(path)
    }

    fn template(&self, field: &'static str, value: Value) -> Result<Template, DefinitionError> {
        let template = Template::parse(value).map_err(|reason| self.field_error(field, reason))?;
        self.known_context(field, template.paths(), &[])?;
        Ok(template)
    }

    fn item_selector(&self, value: Value) -> Result<Template, DefinitionError> {
        let template = Template::parse(value).map_err(|reason| self.field_error("ItemSelector", reason))?;
        self.known_context("ItemSelector", template.paths(), &["Map"])?;
        Ok(template)
    }

    /// Refuses paths into parts of the context object that the engine does not fill in. Inside a Map's
    /// children `$$.Execution` is the child, not the run: nobody means that, so it is refused as well.
    fn known_context<'p>(
        &self,
        field: &'static str,
        paths: impl IntoIterator<Item = &'p Path>,
        more: &[&str],
    ) -> Result<(), DefinitionError> {
        for path in paths {
            let Some(steps) = path.context_steps() else { continue };
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let known = match steps.as_slice() {
                ["Execution", "Id" | "Name" | "StartTime"] | ["Execution", "Input", ..] => {
                    self.level == Level::Top
                }
                ["State", "Name" | "RetryCount"] => true,
                ["Map", "Item", "Index"] | ["Map", "Item", "Value", ..] => more.contains(&"Map"),
                _ => false,
            };
            if !known {
                return Err(self.field_error(field, format!("`{}` is not known here", path.as_str())));
            }
        }
        Ok(())
    }
}
