//! The body of a request, made of templates and a row.
//!
//! The language is Jinja, by `minijinja`, with Python's methods of strings and dictionaries. A name
//! that has no value is an error and never an empty text. Cells are values and never templates.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use minijinja::value::Kwargs;
use minijinja::{
    AutoEscape, Environment, Error as JinjaError, ErrorKind, UndefinedBehavior, Value,
};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value as Json, json};

use super::row::{Names, ROW, Row};
use super::template::Template;
use crate::error::{Result, config};

const PROMPT: &str = "prompt";
const SYSTEM: &str = "system";

/// The most steps that a template may take for a row: a loop over some 30,000 things. One that
/// never seems to end would hold up the run, and Ctrl-C.
const FUEL: u64 = 200_000;

/// Makes the bodies of requests.
pub(super) struct Renderer {
    templates: Environment<'static>,
    /// The columns that the templates name, but for those by way of `row`.
    pub(super) names: BTreeSet<String>,
    has_system: bool,
    shape: Shape,
    /// Those of all requests.
    fields: Map<String, Json>,
}

impl Renderer {
    /// Reads the templates of requests that go to the path `endpoint`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the setting.
    pub(super) fn new(template: &Template, endpoint: &str) -> Result<Self> {
        let shape = Shape::of(endpoint);
        let mut renderer = Self {
            templates: environment(),
            names: BTreeSet::new(),
            has_system: template.system.is_some(),
            shape,
            fields: Map::new(),
        };
        renderer.add(PROMPT, &template.prompt, &["prompt"])?;
        let missing = |what, settings| {
            let why = format!("requests to {endpoint:?} have no {what}: leave one of them out");
            config(why).with_settings(settings)
        };
        if let Some(system) = &template.system {
            if shape.system.is_empty() {
                return Err(missing("system message", &["system", "endpoint"]));
            }
            renderer.add(SYSTEM, system, &["system"])?;
        }
        let fields = &mut renderer.fields;
        fields.insert("model".to_owned(), template.model.as_str().into());
        if let Some(tokens) = template.max_tokens {
            if shape.max_tokens.is_empty() {
                let what = "limit on the tokens of an answer";
                return Err(missing(what, &["max_tokens", "endpoint"]));
            }
            fields.insert(shape.max_tokens.to_owned(), tokens.into());
        }
        fields.extend(template.params.clone());
        if fields.get("stream") == Some(&true.into()) {
            let why = "streams are not read: leave out the field \"stream\"";
            return Err(config(why).with_settings(&["param"]));
        }
        if shape.system == ANTHROPICS && !fields.contains_key("max_tokens") {
            let why = "Anthropic's messages need a limit on the tokens of an answer: set one";
            return Err(config(why).with_settings(&["max_tokens"]));
        }
        Ok(renderer)
    }

    fn add(
        &mut self,
        name: &'static str,
        source: &str,
        setting: &'static [&'static str],
    ) -> Result<()> {
        let refused = |error: JinjaError| {
            config(format!("the template has a mistake: {error}")).with_settings(setting)
        };
        if source.trim().is_empty() {
            let why = "the template is empty: say what to ask of each row";
            return Err(config(why).with_settings(setting));
        }
        let source = source.to_owned();
        self.templates
            .add_template_owned(name, source)
            .map_err(refused)?;
        let template = self.templates.get_template(name).map_err(refused)?;
        let mut names: BTreeSet<String> =
            template.undeclared_variables(false).into_iter().collect();
        for (function, _) in self.templates.globals() {
            names.remove(function);
        }
        names.remove(ROW);
        self.names.extend(names);
        Ok(())
    }

    /// The body of a row's request.
    ///
    /// # Errors
    /// What is wrong, for people: a template fails on this row.
    pub(super) fn body(&self, row: Row) -> Result<String, String> {
        let row = Arc::new(row);
        let render = |name| {
            let template = self.templates.get_template(name);
            let names = Value::from_object(Names(Arc::clone(&row)));
            template
                .and_then(|template| template.render(names))
                .map_err(|error| self.why(&error, &row))
        };
        let prompt = render(PROMPT)?;
        let system = self.has_system.then(|| render(SYSTEM)).transpose()?;
        let mut body = self.fields.clone();
        self.shape.fill(&mut body, prompt, system);
        Ok(Json::from(body).to_string())
    }

    /// Why a template fails on a row: as a rule the row has no cell of a name.
    fn why(&self, error: &JinjaError, row: &Row) -> String {
        let mut missing = self.names.iter().filter(|name| row.get(name).is_none());
        match missing
            .next()
            .filter(|_| error.kind() == ErrorKind::UndefinedError)
        {
            Some(name) if row.columns.contains(name) => format!("{name:?} is there twice"),
            Some(name) => format!("no {name:?}, which the template names"),
            None if error.kind() == ErrorKind::OutOfFuel => {
                "the template does too much for one row: shorten its loops".to_owned()
            }
            None => format!("the template fails: {error}"),
        }
    }

    /// What is added to all requests: the names of fields and messages.
    pub(super) fn additions(&self) -> Vec<String> {
        let fields = self.fields.keys().filter(|name| *name != "model").cloned();
        let system = self.has_system.then(|| SYSTEM.to_owned());
        fields.chain(system).collect()
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renderer")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

fn environment() -> Environment<'static> {
    let mut templates = Environment::new();
    templates.set_fuel(Some(FUEL));
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_auto_escape_callback(|_| AutoEscape::None);
    templates.set_unknown_method_callback(unknown_method_callback);
    templates.add_filter("tojson", to_json);
    templates
}

/// Plain JSON, as chat templates have it. The one of `minijinja` is made for HTML: it writes
/// `\u003c` for `<`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a filter is given its options so"
)]
fn to_json(value: &Value, options: Kwargs) -> Result<String, JinjaError> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let no_json = |_| JinjaError::new(ErrorKind::InvalidOperation, "no JSON can be made of this");
    let Some(indent) = indent else {
        return serde_json::to_string(value).map_err(no_json);
    };
    let (mut out, indent) = (Vec::new(), " ".repeat(indent.min(100)));
    let formatter = PrettyFormatter::with_indent(indent.as_bytes());
    let written = value.serialize(&mut Serializer::with_formatter(&mut out, formatter));
    written.map_err(no_json)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The field that holds messages, and not a text.
const MESSAGES: &str = "messages";
/// The field of the system message in Anthropic's bodies.
const ANTHROPICS: &str = "system";

/// The fields of a body, which the endpoint's path tells. An empty name is that of no field.
#[derive(Clone, Copy, Debug)]
struct Shape {
    prompt: &'static str,
    system: &'static str,
    max_tokens: &'static str,
}

impl Shape {
    fn of(endpoint: &str) -> Self {
        let path = endpoint.split('?').next().unwrap_or_default();
        let mut names = path.trim_end_matches('/').rsplit('/');
        let (prompt, system, max_tokens) = match (names.next(), names.next()) {
            (Some("messages"), _) => (MESSAGES, ANTHROPICS, "max_tokens"),
            (Some("responses"), _) => ("input", "instructions", "max_output_tokens"),
            (Some("completions"), before) if before != Some("chat") => ("prompt", "", "max_tokens"),
            (Some("embeddings" | "moderations"), _) => ("input", "", ""),
            // OpenAI's chats, and all paths that are not known.
            _ => (MESSAGES, MESSAGES, "max_tokens"),
        };
        Self {
            prompt,
            system,
            max_tokens,
        }
    }

    fn fill(self, body: &mut Map<String, Json>, prompt: String, system: Option<String>) {
        let message = |role: &str, content: String| json!({"role": role, "content": content});
        let mut messages = Vec::new();
        match system {
            Some(text) if self.system == MESSAGES => messages.push(message("system", text)),
            Some(text) => drop(body.insert(self.system.to_owned(), text.into())),
            None => {}
        }
        let prompt = if self.prompt == MESSAGES {
            messages.push(message("user", prompt));
            messages.into()
        } else {
            prompt.into()
        };
        body.insert(self.prompt.to_owned(), prompt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    fn renderer(prompt: &str) -> Renderer {
        Renderer::new(&Template::new("m", prompt), CHAT).unwrap()
    }

    fn row(json: &str) -> Row {
        Row::of_json(json).unwrap()
    }

    fn prompt(template: &str, json: &str) -> Result<String, String> {
        let body = renderer(template).body(row(json))?;
        let body: Json = serde_json::from_str(&body).unwrap();
        Ok(body["messages"][0]["content"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_template_is_jinja_as_prompts_have_it() {
        let cells = r#"{"text":"<b>it's & \"é\"</b>","tags":["x","y"],"user":{"name":"Ann"},"n":3,"my column":"c","none":null,"big":9007199254740993}"#;
        for (template, expected) in [
            ("Classify: {{ text }}", "Classify: <b>it's & \"é\"</b>"),
            (
                "{{ user.name }} {{ user[\"name\"] }} {{ tags[1] }}",
                "Ann Ann y",
            ),
            ("{{ row[\"my column\"] }} {{ row.n }}", "c 3"),
            (
                "{% for tag in tags %}{{ loop.index }}{{ tag }} {% endfor %}",
                "1x 2y ",
            ),
            ("{% if n > 2 %}many{% endif %}", "many"),
            ("{{ text.strip().upper()[:3] }}", "<B>"),
            ("{{ tags | join(', ') }}", "x, y"),
            ("{{ text | tojson }}", r#""<b>it's & \"é\"</b>""#),
            ("{{ user | tojson(indent=1) }}", "{\n \"name\": \"Ann\"\n}"),
            (
                "{% for name in row %}{{ name }};{% endfor %}",
                "text;tags;user;n;my column;none;big;",
            ),
            ("{{ missing | default('-') }}", "-"),
            ("{% set x = n %}{{ x }}{{ range(3) | list }}", "3[0, 1, 2]"),
            ("{{ big }} {{ none }}", "9007199254740993 None"),
            ("two\nlines\n", "two\nlines"),
            ("{# nothing #}", ""),
        ] {
            assert_eq!(
                prompt(template, cells).as_deref(),
                Ok(expected),
                "{template}"
            );
        }
        let whole = prompt("{{ row | tojson }}", r#"{"b":1,"a":"{{ n }}"}"#);
        assert_eq!(
            whole.unwrap(),
            r#"{"b":1,"a":"{{ n }}"}"#,
            "cells are no templates"
        );
    }

    #[test]
    fn what_a_row_lacks_is_an_error_that_names_it() {
        for (template, error) in [
            ("{{ text }}", "no \"text\", which the template names"),
            ("{{ twice }}", "\"twice\" is there twice"),
            (
                "{{ a.b }}",
                "the template fails: undefined value (in prompt:1)",
            ),
            (
                "\n{{ row.b }}",
                "the template fails: undefined value (in prompt:2)",
            ),
            ("{{ a.b.c }}", "(in prompt:1)"),
            ("{{ a | no_filter }}", "no_filter"),
            ("{{ a + 1 }}", "the template fails"),
            (
                "{% for i in range(50000) %}{% for j in range(50000) %}{% endfor %}{% endfor %}",
                "too much",
            ),
        ] {
            let told = prompt(template, r#"{"a":{},"twice":1,"twice":2}"#).unwrap_err();
            assert!(told.contains(error), "{template}: {told}");
        }
    }

    #[test]
    fn the_columns_that_templates_name_are_known_before_a_row_is() {
        let template = Template::new(
            "m",
            "{% set x = a %}{{ x }}{{ row.z }}{{ range(2) }}{% for i in b %}{{ i.c }}{% endfor %}",
        );
        let renderer = Renderer::new(&template.system("{{ s }}"), CHAT).unwrap();
        assert_eq!(renderer.names.iter().collect::<Vec<_>>(), ["a", "b", "s"]);
    }

    #[test]
    fn a_prompt_stands_where_the_endpoint_has_it() {
        let template = Template::new("m", "p")
            .max_tokens(5)
            .param("temperature", 0);
        let with_system = template.clone().system("s");
        let user = json!([{"role": "user", "content": "p"}]);
        for (endpoint, template, expected) in [
            (CHAT, &template, json!({"messages": user, "max_tokens": 5})),
            (
                "/openai/deployments/d/chat/completions?api-version=1",
                &with_system,
                json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}], "max_tokens": 5}),
            ),
            (
                "/v1/messages",
                &with_system,
                json!({"messages": user, "system": "s", "max_tokens": 5}),
            ),
            (
                "/v1/responses",
                &with_system,
                json!({"input": "p", "instructions": "s", "max_output_tokens": 5}),
            ),
            (
                "/v1/completions",
                &template,
                json!({"prompt": "p", "max_tokens": 5}),
            ),
            (
                "/other",
                &template,
                json!({"messages": user, "max_tokens": 5}),
            ),
        ] {
            let body = Renderer::new(template, endpoint)
                .unwrap()
                .body(row("{}"))
                .unwrap();
            let mut expected = expected;
            expected["model"] = "m".into();
            expected["temperature"] = 0.into();
            assert_eq!(
                serde_json::from_str::<Json>(&body).unwrap(),
                expected,
                "{endpoint}"
            );
        }
        let body = Renderer::new(&Template::new("m", "p"), "/v1/embeddings")
            .unwrap()
            .body(row("{}"));
        assert_eq!(body.unwrap(), r#"{"input":"p","model":"m"}"#);
    }

    #[test]
    fn what_cannot_be_made_is_refused_with_its_setting() {
        let template = || Template::new("m", "p");
        for (template, endpoint, words) in [
            (Template::new("m", "{{ a"), CHAT, "prompt:1"),
            (Template::new("m", " \n"), CHAT, "the template is empty"),
            (Template::new("m", "{% if %}"), CHAT, "prompt:1"),
            (template().system("{{ a b }}"), CHAT, "system:1"),
            (template().system("s"), "/v1/embeddings", "system message"),
            (template().max_tokens(5), "/v1/moderations", "tokens"),
            (template(), "/v1/messages", "Anthropic"),
            (template().param("stream", true), CHAT, "stream"),
        ] {
            let error = Renderer::new(&template, endpoint).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
