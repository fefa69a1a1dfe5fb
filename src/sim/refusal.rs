//! What goes wrong with a request, in the shape OpenAI's API says it (its specification's `Error`:
//! `message`, `type`, `param` and `code`, all four always there).

use std::borrow::Cow;

use serde_json::json;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) message: Cow<'static, str>,
    pub(super) param: Option<&'static str>,
    pub(super) code: Option<&'static str>,
    /// The methods that would be taken, of a 405.
    pub(super) allow: Option<&'static str>,
}

impl Refusal {
    /// 400: the request is wrong in itself.
    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    pub(super) fn new(
        status: u16,
        kind: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            param: None,
            code: None,
            allow: None,
        }
    }

    /// 405: the path is there, for other methods.
    pub(super) fn method(method: &str, path: &str, allow: &'static str) -> Self {
        let message = format!("Not allowed to {method} on {path}: use {allow}.");
        Self {
            allow: Some(allow),
            ..Self::new(405, "invalid_request_error", message).code("method_not_supported")
        }
    }

    pub(super) fn missing(param: &'static str) -> Self {
        Self::invalid(format!("Missing required parameter: '{param}'."))
            .param(param)
            .code("missing_required_parameter")
    }

    pub(super) fn param(self, param: &'static str) -> Self {
        Self {
            param: Some(param),
            ..self
        }
    }

    pub(super) fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    pub(super) fn body(&self) -> Vec<u8> {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
        .to_string()
        .into_bytes()
    }
}
