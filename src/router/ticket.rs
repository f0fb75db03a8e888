//! The facts by which a version is chosen for a request that names none.

use std::{fmt, iter};

use crate::{
    error::{Error, Result},
    traffic::{LONGEST_ROUTING_KEY, ROUTING_KEY_HEADER},
};

/// The facts that decide where a request goes that names no version. All of it is asked only where there is something to decide.
pub struct Ticket<'a, 'h> {
    /// The routing key that the request itself gives. An empty one is none.
    pub key: Option<&'a [u8]>,
    /// The headers of the request.
    pub header: &'a HeaderLookup<'h>,
    /// Any number, each as likely as the others.
    pub random: &'a dyn Fn() -> u64,
}

/// The value of a header over HTTP, of metadata over gRPC; names are in small letters.
pub type HeaderLookup<'h> = dyn Fn(&str) -> Option<&'h [u8]> + 'h;

/// Facts about a request that come beside its message.
pub struct Meta<'a, 'h> {
    /// The values of its headers.
    pub header: &'a HeaderLookup<'h>,
}

/// Nothing comes beside the message.
impl Default for Meta<'_, '_> {
    fn default() -> Self {
        Meta { header: &|_| None }
    }
}

impl<'a> Ticket<'a, '_> {
    /// The routing key: the request's own, else that of the header `onnxd-routing-key`, else the first that one of these
    /// headers has.
    pub(super) fn routing_key(&self, model: &str, headers: &[String]) -> Result<Option<&'a [u8]>> {
        let mut names = iter::once(ROUTING_KEY_HEADER).chain(headers.iter().map(String::as_str));
        let is_key = |key: &&[u8]| !key.is_empty();
        let key = self.key.filter(is_key).or_else(|| names.find_map(|name| (self.header)(name).filter(is_key)));
        if let Some(length) = key.map(<[u8]>::len).filter(|length| *length > LONGEST_ROUTING_KEY) {
            return Err(Error::invalid(format!(
                "the routing key of the request for model '{model}' must have at most {LONGEST_ROUTING_KEY} bytes, got {length}"
            )));
        }
        Ok(key)
    }
}

/// Nothing has come, and nothing is left to chance.
impl Default for Ticket<'_, '_> {
    fn default() -> Self {
        Ticket { key: None, header: &|_| None, random: &|| 0 }
    }
}

impl fmt::Debug for Ticket<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_key_is_the_first_non_empty_one() {
        let read = |key: Option<&str>, given: &[(&str, &str)], headers: &[&str]| {
            let header = |name: &str| Some(given.iter().find(|(given, _)| *given == name)?.1.as_bytes());
            let ticket = Ticket { key: key.map(str::as_bytes), header: &header, ..Ticket::default() };
            let headers: Vec<_> = headers.iter().map(|name| name.to_string()).collect();
            ticket.routing_key("m", &headers).map(|key| key.map(|key| String::from_utf8(key.into()).unwrap()))
        };
        let given = [("x-user", "u"), ("x-empty", ""), (ROUTING_KEY_HEADER, "h")];
        assert_eq!(read(Some("p"), &given, &["x-user"]), Ok(Some("p".into())));
        assert_eq!(read(Some(""), &given, &["x-user"]), Ok(Some("h".into())));
        assert_eq!(read(None, &given[..2], &["x-other", "x-empty", "x-user"]), Ok(Some("u".into())));
        assert_eq!(read(None, &given[..2], &["x-empty"]), Ok(None));
        assert_eq!(read(None, &given[..2], &[]), Ok(None));
        let longest = "k".repeat(LONGEST_ROUTING_KEY);
        assert_eq!(read(Some(&longest), &[], &[]), Ok(Some(longest.clone())));
        let error = read(None, &[("x", &format!("{longest}k"))], &["x"]).unwrap_err();
        assert_eq!(
            error.message(),
            "the routing key of the request for model 'm' must have at most 1024 bytes, got 1025"
        );
    }
}
