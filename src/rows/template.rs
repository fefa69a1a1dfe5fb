//! What the user says of the requests that rows become.

use serde_json::{Map, Value};

/// What each row of a table becomes: a request made of a Jinja template and the row's cells; see
/// [`Client::rows`](crate::Client::rows).
///
/// In the template `{{ text }}` stands for the cell in the column `text`. A column whose name is no
/// identifier is `{{ row["its name"] }}`, and `row` is the whole row. The
/// [guide](crate::_guide::batch_files#rows-of-a-table) has more.
///
/// ```
/// use tollgate::Template;
///
/// let template = Template::new("gpt-5", "Is this review good or bad? One word.\n\n{{ text }}")
///     .system("You judge reviews in {{ language }}.")
///     .max_tokens(5)
///     .param("temperature", 0)
///     .id("review_id");
/// # let _ = template;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a template says what becomes of rows that are given to `Client::rows`"]
pub struct Template {
    pub(super) model: String,
    pub(super) prompt: String,
    pub(super) system: Option<String>,
    pub(super) max_tokens: Option<u64>,
    pub(super) params: Map<String, Value>,
    pub(super) id: Option<String>,
    pub(super) separator: Option<char>,
}

impl Template {
    /// Requests to `model`, with what the template `prompt` makes of each row.
    pub fn new(model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            prompt: prompt.into(),
            system: None,
            max_tokens: None,
            params: Map::new(),
            id: None,
            separator: None,
        }
    }

    /// The system message, a template like the prompt. Default: none.
    pub fn system(mut self, template: impl Into<String>) -> Self {
        self.system = Some(template.into());
        self
    }

    /// The most tokens to write. Default: the provider's. Anthropic's messages need it.
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// A further field of each request, such as `temperature`. Its value is sent as it is: it is no
    /// template.
    pub fn param(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.params.insert(name.into(), value.into());
        self
    }

    /// The column that names the rows, each with another text or number. Default: a row is named by
    /// a hash of its request, so that rows may be added, removed and moved between runs. Of rows
    /// with the same request the second has `-2` behind it, and so on.
    pub fn id(mut self, column: impl Into<String>) -> Self {
        self.id = Some(column.into());
        self
    }

    /// What separates the cells of CSV: one ASCII character. Default: a comma, a semicolon or a
    /// tab, whichever the header has most of. An input with a delimiter is CSV, whatever it begins
    /// with.
    pub fn delimiter(mut self, separator: char) -> Self {
        self.separator = Some(separator);
        self
    }
}
