//! The beginning of a log line: which server the line is about, if the server has a name.

use std::fmt;

use log::kv::{ToValue, Value};

/// The name of a server in the log. Displayed, it begins a line.
#[derive(Debug, Default)]
pub(crate) struct LogPrefix(Option<String>);

impl LogPrefix {
    pub(crate) fn new(name: Option<String>) -> Self {
        Self(name)
    }
}

impl LogPrefix {
    /// Returns the name of a thread that does this for the server.
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
