//! The page of `tollgate report` in a real browser, where there is one: `TOLLGATE_TEST_CHROMIUM`
//! names it, or `chromium` is found. Elsewhere the test says that it is not tried.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::tool::Folder;

/// The browser, if there is one here.
fn chromium() -> Option<String> {
    let named = std::env::var("TOLLGATE_TEST_CHROMIUM").ok();
    let known = ["chromium", "chromium-browser", "google-chrome"].map(str::to_owned);
    named.into_iter().chain(known).find(|name| {
        let version = Command::new(name)
            .arg("--version")
            .stderr(Stdio::null())
            .output();
        version.is_ok_and(|said| said.status.success())
    })
}

/// A page that shows another one as wide as a phone, and has in its title what it finds in it.
///
/// A page in `srcdoc` is of the same origin, so that it can be looked into, and keeps its own
/// rules for what it may load and run.
fn measuring(page: &str) -> String {
    let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
    format!(
        r##"<!doctype html><title></title>
<script>

window.hostile = 0;
function look(frame) {{
  const page = frame.contentDocument, view = frame.contentWindow;
  const style = element => view.getComputedStyle(element);
  document.title = JSON.stringify({{
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    plots: page.querySelectorAll("svg").length,
    lines: page.querySelectorAll("svg [stroke]").length,
    color: style(page.querySelector('svg [stroke="#010101"]')).stroke,
    loaded: view.performance.getEntriesByType("resource").length,
    scripts: page.scripts.length + page.images.length + page.links.length,
    hostile: window.hostile,
    text: page.body.innerText.includes("<script>"),
    titled: [...page.querySelectorAll("svg")].every(svg => svg.querySelector("title").textContent),
  }});
}}
</script>
<iframe width="400" height="800" onload="look(this)" style="border:0" srcdoc="{escaped}"></iframe>"##
    )
}

/// What the browser finds.
fn look(browser: &str, folder: &Folder, page: &Path) -> Value {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--virtual-time-budget=2000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path("profile").display()
        ))
        .arg(format!("file://{}", page.display()))
        .stderr(Stdio::null())
        .output()
        .expect("the browser starts");
    let dom = String::from_utf8_lossy(&output.stdout);
    let title = dom
        .split("<title>")
        .nth(1)
        .and_then(|rest| rest.split("</title>").next());
    let title = title
        .unwrap_or_default()
        .replace("&quot;", "\"")
        .replace("&amp;", "&");
    serde_json::from_str(&title).unwrap_or_else(|error| panic!("{error}: {title}"))
}

#[test]
fn the_page_stands_alone_in_a_browser_and_fits_a_phone() {
    let Some(browser) = chromium() else {
        eprintln!("not tried: no Chromium here (TOLLGATE_TEST_CHROMIUM names one)");
        return;
    };
    let folder = Folder::new();
    let hostile =
        "</svg><script>parent.hostile = 1</script><img src=x onerror='parent.hostile = 1'>";
    let long = "w".repeat(500);
    let mut records = Vec::new();
    for n in 0..300_u64 {
        let (start, id) = (1_764_270_000_000 + n * 100, format!("{hostile} {n}"));
        let end = start + 200 + n * 7 % 300;
        let record = json!({
            "custom_id": id, "response": {"status_code": 200, "body": {"choices": [{}]}}, "error": null,
            "tollgate": {"attempts": 1, "time_s": {"wire": 0.3, "requests": 0.1}, "cost_usd": 0.01,
                "prompt_tokens": 100, "completion_tokens": 5, "line": n,
                "timeline": [{"start_ms": start, "end_ms": end}]},
        });
        records.push(record.to_string());
    }
    for message in [hostile, &long, "\u{202e}drowssap \u{5d0}\u{5d1}"] {
        let record = json!({"custom_id": long, "response": null, "error": {"code": "timeout", "message": message}});
        records.push(record.to_string());
    }
    folder.write("r.jsonl", records.join("\n"));
    folder.tool(&["report", "r.jsonl"]).run().code(0);
    folder.write("look.html", measuring(&folder.read("r.report.html")));
    let found = look(&browser, &folder, &folder.path("look.html"));
    assert!(found["lines"].as_u64() > Some(20), "{found}");
    let expected = json!({
        "overflow": 0, "plots": 4, "lines": found["lines"], "color": found["color"], "loaded": 0,
        "scripts": 0, "hostile": 0, "text": true, "titled": true,
    });
    assert_eq!(found, expected);
    // Light or dark, a colour of the style sheet and not what the plot says.
    let colors = ["rgb(42, 109, 147)", "rgb(103, 178, 218)"];
    assert!(
        colors.contains(&found["color"].as_str().unwrap_or_default()),
        "{found}"
    );
}
