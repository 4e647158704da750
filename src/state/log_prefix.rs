//! Which server a line of the log is about, where a process has several.

use std::fmt;

use log::kv::{ToValue, Value};

/// What a server is called in the log. Displayed, it is the beginning of a line.
#[derive(Debug, Default)]
pub(crate) struct Tag(Option<String>);

impl Tag {
    pub(crate) fn new(name: Option<String>) -> Self {
        Self(name)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "service={name} "),
            None => Ok(()),
        }
    }
}

/// The value of the field `service`.
impl ToValue for Tag {
    fn to_value(&self) -> Value<'_> {
        self.0.as_deref().map_or_else(Value::null, Value::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_begins_a_line() {
        assert_eq!(Tag::new(Some("echo".into())).to_string(), "service=echo ");
        assert_eq!(Tag::default().to_string(), "");
    }
}
