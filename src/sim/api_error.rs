//! An error in the shape of OpenAI's API (its specification's `Error`: `message`, `type`, `param`
//! and `code`, all four always there), or of Anthropic's.

use serde_json::{Value, json};

use crate::api::classify::anthropic_error_type;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) message: String,
    pub(super) param: Option<&'static str>,
    pub(super) code: Option<&'static str>,
    /// The methods that the path takes; for a 405.
    pub(super) allow: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            ..Self::default()
        }
    }

    /// The request is wrong in itself.
    pub(super) fn invalid(status: u16, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    /// 405: the path exists, for other methods.
    pub(super) fn method(method: &str, path: &str, allow: &'static str) -> Self {
        let message = format!("Not allowed to {method} on {path}: use {allow}.");
        let mut error = Self::invalid(405, message);
        error.allow = Some(allow);
        error.code("method_not_supported")
    }

    /// A field that must be there is not.
    pub(super) fn missing(param: &'static str) -> Self {
        Self::invalid(400, format!("Missing required parameter: '{param}'."))
            .param(param)
            .code("missing_required_parameter")
    }

    /// A field is there, and is not what it should be.
    pub(super) fn wrong_value(param: &'static str, takes: &str) -> Self {
        let message = format!("Invalid value for '{param}': it takes {takes}.");
        let error = Self::invalid(400, message);
        error.param(param).code("invalid_value")
    }

    pub(super) fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The answer's body. Anthropic's holds the id of the request as well.
    pub(super) fn body(&self, anthropic: bool, request_id: &str) -> Value {
        if anthropic {
            let error = json!({"type": self.anthropic_kind(), "message": self.message});
            json!({"type": "error", "error": error, "request_id": request_id})
        } else {
            json!({"error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }})
        }
    }

    /// The answer's body in the shape of Gemini's endpoint for `OpenAI`'s requests: an array, with a
    /// wait among the details.
    pub(super) fn gemini_body(&self, retry_delay: Option<String>) -> Value {
        let status = match self.status {
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            500.. => "INTERNAL",
            _ => "INVALID_ARGUMENT",
        };
        let mut error = json!({"code": self.status, "message": self.message, "status": status});
        if let Some(delay) = retry_delay {
            let kind = "type.googleapis.com/google.rpc.RetryInfo";
            error["details"] = json!([{"@type": kind, "retryDelay": delay}]);
        }
        json!([{ "error": error }])
    }

    /// Anthropic has one type for each status.
    fn anthropic_kind(&self) -> &'static str {
        match self.status {
            413 => "request_too_large",
            status => anthropic_error_type(status),
        }
    }
}
