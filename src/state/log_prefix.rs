//! The beginning of a server's log lines: the server's name, if it has one.

use std::fmt;

use log::kv::{ToValue, Value};

/// The name of a server in the log. `Display` shows the beginning of a log line: `service=NAME `.
#[derive(Debug, Default)]
pub(crate) struct LogPrefix(Option<String>);

impl LogPrefix {
    pub(crate) fn new(name: Option<String>) -> Self {
        Self(name)
    }
}

impl LogPrefix {
    /// Returns the name of a thread: the server's name and `what` the thread does.
    pub(crate) fn thread_name(&self, what: &str) -> String {
        match &self.0 {
            Some(name) => format!("{name} {what}"),
            None => what.to_owned(),
        }
    }
}

impl fmt::Display for LogPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "service={name} "),
            None => Ok(()),
        }
    }
}

/// The value of the field `service`.
impl ToValue for LogPrefix {
    fn to_value(&self) -> Value<'_> {
        self.0.as_deref().map_or_else(Value::null, Value::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_begins_a_line() {
        assert_eq!(
            LogPrefix::new(Some("echo".into())).to_string(),
            "service=echo "
        );
        assert_eq!(LogPrefix::default().to_string(), "");
    }
}
