//! Batch files: lines in, lines out, and what a rerun does.
//!
//! [`Client::jsonl`](crate::Client::jsonl) and `tollgate run` read a file of requests, the *input*,
//! and write a file of results, the *output*. Both have one JSON object a line, in the format of
//! the provider's own batch service. Programs that read those files can read these.
//!
//! A *row* is a line of the input that is not blank. Its `custom_id` is the name you give it. A
//! *record* is a line of the output or of the errors file, and says what became of one row.
//!
//! ```
//! # use tollgate::{HttpResponse, Client, MemoryTransport};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let (requests, results) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
//! # let echo = MemoryTransport::new(|_| Ok(HttpResponse {
//! #     body: br#"{"choices":[{"message":{"content":"Hi!"}}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#.to_vec(),
//! #     ..HttpResponse::default()
//! # }));
//! # let client = Client::builder().no_auth().transport(echo).build()?;
//! std::fs::write(
//!     &requests,
//!     r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"Say hi"}]}}
//! {"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}
//! this line is no request
//! "#,
//! )?;
//!
//! let first = client.jsonl(&requests, &results).run()?;
//! assert_eq!((first.progress.succeeded, first.progress.failed), (2, 1));
//!
//! let again = client.jsonl(&requests, &results).run()?;
//! assert_eq!((again.progress.succeeded, again.progress.skipped), (0, 2));
//! # assert_eq!(std::fs::read_to_string(&results)?.lines().count(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Lines in
//!
//! A line may have any of these forms. Each line is looked at by itself:
//!
//! | Form | Fields | Sent to |
//! |---|---|---|
//! | `OpenAI`'s batch | `custom_id`, `method` (`POST`), `url`, `body` | its `url` |
//! | the same without `url` | `custom_id`, `body` | [`endpoint`](crate::FileRun::endpoint), `/v1/chat/completions` unless set |
//! | Anthropic's batch | `custom_id`, `params` | `/v1/messages` |
//! | prompts | the line is the prompt | [`endpoint`](crate::FileRun::endpoint), with what [`prompts`](crate::FileRun::prompts) says |
//! | rows | the cells, by a template: see [below](#rows-of-a-table) | [`endpoint`](crate::FileRun::endpoint) |
//!
//! The tool reads a file whose name ends in `.txt` as prompts, and with `--prompts` any input. The
//! id of a prompt is `line-N`, where N is the number of its line in the file. A prompt is kept to
//! the byte, but for the line's end. [`param`](crate::FileRun::param) (`--param`) sets further
//! fields of its request, such as `temperature`. If the model refuses such a field, or
//! `max_tokens`, before anything has succeeded, the run stops at that answer: the rows are for a
//! rerun without the field.
//!
//! A file that is one JSON array of requests is read as well. An element counts as a line, so that
//! `line 3` in a message is the third element, and line ends within it are sent as blanks.
//!
//! The body is sent byte for byte. Numbers, doubled keys, order and spelling stay as you wrote
//! them. A leading `/v1` of a `url` stands for the root of the API: if the base URL has a path,
//! that replaces it. A `url` with a scheme, `//`, `..`, a fragment or a control byte is an error.
//! So is a body that asks for a stream.
//!
//! Blank lines are skipped, and so is a byte order mark at the start of any line. A line that is no
//! request becomes a failed row, and its message has the number of the line; the other lines are
//! answered. A line may have at most 64 MiB.
//!
//! Some inputs are refused as a whole before anything is sent, with one sentence that says what
//! they seem to be:
//!
//! | Input | Refused if |
//! |---|---|
//! | no text at all: gzip, a spreadsheet, UTF-16 | it begins so |
//! | no requests: pretty-printed objects, CSV, commas at the ends of lines, lines that end in CR alone, results, plain text | of the first 1,000 lines that are not blank, fewer than one in ten is a request; if there are fewer than 10 lines, none |
//!
//! Of a file the first 8 MiB are judged at most, of a stream the first 64 KiB. The run does not
//! wait for all of them: it begins as soon as one line in ten of those that have come is a
//! request.
//!
//! Each `custom_id` must be unique, because nothing else connects a result with its request. If a
//! file has the same id twice, the run ends before anything is sent, with an error that names the
//! id and both lines. An input that is a stream (standard input, a pipe) can be read only once, so
//! there the later line becomes a failed row.
//!
//! # Rows of a table
//!
//! An input can be a table: CSV with a header, or JSON lines that are plain objects. A template
//! makes one request of each row:
//!
//! ```text
//! tollgate run reviews.csv --prompt 'Good or bad? {{ text }}' --model gpt-5 --max-tokens 5
//! ```
//!
//! In the library it is [`Client::rows`](crate::Client::rows) with a
//! [`Template`](crate::Template), behind the feature `rows`. The tool takes an input as rows,
//! whatever its name, if there is a `--prompt` or a `--prompt-file`. Without one, an input that
//! ends in `.csv` or `.tsv`, or that holds plain objects, is refused.
//!
//! | Setting | Flag | Meaning |
//! |---|---|---|
//! | [`new`](crate::Template::new) | `--prompt TEMPLATE` or `--prompt-file FILE`; `--model` | the template of the prompt; the model |
//! | [`system`](crate::Template::system) | `--system` | the template of the system message |
//! | [`max_tokens`](crate::Template::max_tokens) | `--max-tokens` | the longest answer; Anthropic's messages need it |
//! | [`param`](crate::Template::param) | `--param` | a further field of all requests; its value is no template |
//! | [`id`](crate::Template::id) | `--id` | the column whose cells are the `custom_id`s |
//! | [`delimiter`](crate::Template::delimiter) | `--delimiter` | what separates the cells of CSV |
//!
//! Rows go to [`endpoint`](crate::FileRun::endpoint) (`--endpoint`). With `--provider anthropic`
//! its default is `/v1/messages`. The end of the path tells which field of the body holds the
//! prompt: `input` for `responses`, `embeddings` and `moderations`, `prompt` for `completions`, and
//! `messages` for all others.
//!
//! **Templates** are [Jinja](https://jinja.palletsprojects.com/en/stable/templates/), as
//! [minijinja](https://docs.rs/minijinja) has it, with Python's methods of strings and dictionaries
//! (`{{ text.strip() }}`).
//!
//! - `{{ text }}` is the cell in the column `text`. The whole row is `row`. A cell in a
//!   column whose name is no identifier is `{{ row["my column"] }}`, and all cells are
//!   `{{ row | tojson }}`. A column that is called `row` is `{{ row["row"] }}`.
//! - A cell of CSV is a text, and an empty cell an empty text: to compare numbers, write
//!   `{% if n | int > 3 %}`. A value of a JSON object keeps its type: `{{ user.name }}`,
//!   `{% for tag in tags %}`.
//! - A name without a value is an error, never an empty text, unless the template allows for it
//!   (`{{ note | default("none") }}`).
//! - Nothing is escaped, and `tojson` writes plain JSON. A cell is a value: braces in it mean
//!   nothing. One line end at the end of a template is dropped.
//!
//! **Columns.** A column that a template names by itself must be there: if CSV or a file of objects
//! has none of that name, or CSV has two, the run ends before anything is sent, with an error that
//! lists the columns there are. Write `{{ row["note"] | default("none") }}` for a column that may
//! be missing. The names of other columns may be empty or come twice.
//!
//! **CSV** is read as the [csv](https://docs.rs/csv) crate does. A cell in quotes may hold
//! separators, line ends and doubled quotes. The separator is the one of comma, semicolon and tab
//! that the header has most of, and a tab in `.tsv`. Blank lines are skipped: in a table of one
//! column, an empty cell is written `""`. Lines end in LF or CRLF: a table whose header ends in CR
//! alone is refused. A header may have 64 KiB, and a row 64 MiB. An input of another name is JSON
//! if it begins with `{` or `[`, and CSV otherwise.
//!
//! A row fails, and the others are answered, if it has more or fewer cells than the header, is not
//! UTF-8, has a quote that is never closed, lacks a value that the template needs, or makes the
//! template fail or take more than 200,000 steps. Its record has the number of its first line.
//! `tollgate check` with the same flags finds all such rows. If a template fails on nearly all
//! rows, the input is refused, as is said above for lines that are no requests.
//!
//! **Ids.** By default the `custom_id` of a row is the hash of its request. Of rows with the same
//! request the second has `-2` behind it, the third `-3`. So rows may be added, removed and moved
//! between runs, and other columns changed: what has been asked is not asked again. A run with
//! another template asks everything anew, and keeps the old answers in its output.
//!
//! With [`id`](crate::Template::id), the cell of one column is the `custom_id`. It must be a text
//! or a number that no other row has. A run with another template is then refused, as each request
//! has changed; `--force-resume` keeps the old answers, and `--overwrite` starts anew.
//!
//! # Lines out
//!
//! The tool writes to a file beside the input unless `-o` names another: for `p.jsonl` and `p.txt`
//! to `p.results.jsonl`, and with any other ending to a name that keeps it, such as
//! `p.json.results.jsonl`; without an ending `p` has `p..results.jsonl`. Prompts and requests do
//! not share such a file: a `.txt` input beside the results of requests is refused, and the other
//! way round.
//!
//! Results are appended as they finish. Each write has whole lines. The output has successes only,
//! each id once. They are in the order in which they finished, unless
//! [`ordered`](crate::FileRun::ordered) asks for the order of the input.
//!
//! ```json
//! {"id":"batch_req_…","custom_id":"a","response":{"status_code":200,"request_id":"…","body":{…}},"error":null,"tollgate":{"attempts":1,"wait_s":0.000,"time_s":{"wire":0.521},"binding":"wire","timeline":[{"start_ms":1764270000123,"end_ms":1764270000644}],"prompt_tokens":9,"completion_tokens":2,"line":1,"hash":"…"}}
//! ```
//!
//! A row in Anthropic's form gets a record in Anthropic's form: `custom_id`, and a `result` of the
//! type `succeeded` or `errored`.
//!
//! A program reads a record as it reads one of the provider: any JSON parser finds the text of a
//! chat at `response.body.choices[0].message.content`. `tollgate extract` writes the texts of all
//! kinds of answers, one a line.
//!
//! The key `tollgate` holds what is not in the provider's format:
//!
//! | Key | Value | Present |
//! |---|---|---|
//! | `simulated` | `true`: no provider has answered | in a simulated run, with `strict`, too |
//! | `attempts` | requests sent for the row by the run that wrote the record; 0 for a line that is no request | always |
//! | `hedge_won` | `true` if the answer is that of a second attempt beside the first ([hedging](super::limits#hedging)) | such answers |
//! | `wait_s` | seconds that the row waited, for the limiter and between attempts | always |
//! | `time_s` | where its seconds went: `wire` is the time in which it was sent and answered; the others are waits, named by [what binds](super::limits#what-binds) (`requests`, `tokens`, `input_tokens`, `output_tokens`, `in_flight`, `shared_limit`, `queue`, `pause`, `backoff`, `warmup`). What is shorter than 1 ms is left out | always |
//! | `binding` | the longest of them: what held the row back | always, unless nothing took time |
//! | `timeline` | the attempts that were sent, in the order in which they ended. Each has a `start_ms` and an `end_ms`, which are times of day in milliseconds since the start of 1970 in UTC. One that failed has the `status` of its answer too, or a `code` of the list below. At most 100 are kept. The last one decided about the row. One that was cut off because another [beside it](super::limits#hedging) was answered first has `cut`, which is `true`, and stands before that | if one was sent |
//! | `status` | the HTTP status of the last answer | in Anthropic's form, if there was an answer |
//! | `body` | the body of an answer of no use, kept as is said below | in Anthropic's form, if a 2xx was of no use |
//! | `code` | the provider's code for the failure, such as `rate_limit_exceeded`; in Anthropic's form, if it gave none, the `error.code` of the list below | if the row failed and there is one |
//! | `again` | `true`: it failed as all others did when [the run stopped](super::retries#when-everything-fails-alike); a rerun sends the row, after all others | then |
//! | `prompt_tokens`, `completion_tokens` | model tokens of the answer, as the provider counted them | if the answer says them |
//! | `cost_usd` | their cost | with a [`price`](crate::FileRun::price), if the answer says its tokens |
//! | `line` | the number of the row's line in the input, from 1, blank lines counted | always |
//! | `hash` | 32 hexadecimal digits by which a rerun sees whether the request has changed | unless the line is over 64 MiB, or its id is that of another row |
//!
//! With [`strict`](crate::FileRun::strict) the key is left out.
//!
//! Failed rows go to the *errors file*. For the output `out.jsonl` it is `out.errors.jsonl`, for
//! `p.results.jsonl` it is `p.errors.jsonl`. A record there holds the last answer. If there was
//! none, or a 2xx that is [no answer](super::retries#answers), it has an `error`:
//!
//! | `error.code` | What happened | A rerun |
//! |---|---|---|
//! | `timeout` | no complete answer in time | sends the row |
//! | `connection_error` | no answer: the connection failed | sends the row |
//! | `invalid_response` | a 2xx that is no answer: an error, an empty list, a web page, half of an answer | sends the row |
//! | `rejected` | a failure that another try would not change: an answer [in all but form](super::retries#answers) (`NaN` in it), one that is too large, a wrong setting | does not |
//! | `invalid_request_line` | the line is no request, or a 2xx says that the request is wrong | does not |
//!
//! What came is kept, as it may have been paid for. A body that is a JSON object is the `body` of
//! the `response`. Of any other body that is no answer the first 64 KiB are kept as a text in an
//! object, `{"text": ".."}`, with `"cut": true` if there was more. So is what had come of a 2xx
//! that broke off, took too long or was too large, always with `"cut": true`. Whether a rerun sends
//! its row is as the table says.
//!
//! A row has no id of its own if its line is no request, or if its id is that of another row. The
//! `custom_id` of its record is `line-N`, where N is the number of its line.
//!
//! At the end of a run the errors file holds the rows that are failed now. If there are none, the
//! file is removed.
//!
//! Some rows get no record: those never sent, those cut off by a cancel or the end of the run, and
//! those whose answer stopped the run. A rerun sends them.
//!
//! `-` stands for standard input or standard output. If results go to standard output, failures do,
//! too.
//!
//! # Tables of answers
//!
//! An output whose name ends in `.csv` or `.tsv` is a *table*: the columns of the input in their
//! order, and `answer`. The input `p.csv` has one by default, `p.results.csv`. The library has it
//! behind the feature `rows`, for every run over a file; without the feature such an output is
//! refused.
//!
//! ```text
//! tollgate run reviews.csv --prompt 'Good or bad? {{ text }}' --model gpt-5 -o out.csv --with error
//! ```
//!
//! The records, which a rerun carries on with, stand beside it: for `out.csv` in `out.csv.jsonl`,
//! failures in `out.csv.errors.jsonl`. While a run goes on there are the locks `out.csv.lock` and
//! `out.csv.errors.jsonl.lock`. The table is made of the records when the run ends: when it is
//! done, on Ctrl-C, at a deadline or a limit on money, and on an error. It is replaced as a whole,
//! so there is no half of one, and what you have changed in it is lost with the next run. A run
//! that is killed leaves the table of the run before, and so does a second Ctrl-C. A run whose time
//! to finish (`--grace`) is over has 2 s left to write the table. Run the command again: if all is
//! answered, it sends nothing and writes the table.
//!
//! - **Rows.** Each row of the input is a row of the table, in the same order. One that is not
//!   answered has an empty `answer`. Of an answer without a text, the tool calls are given as JSON,
//!   or the whole response if there are none, as with an embedding. A row of CSV with more or fewer
//!   cells than the header has failed. It has as many cells as there are columns: those that are
//!   too many stand in the last one. A quote that is never closed takes the rest of the file into
//!   its cell.
//! - **Your columns** come back as they are. Of an input of plain objects, the columns are the keys
//!   of all objects; a text is itself, null is an empty cell, and anything else is its JSON. For
//!   lines that are requests the one column is `id`, the `custom_id`; for prompts they are `id` and
//!   `prompt`. An input that can be read only once, such as a pipe, cannot become a table.
//! - **Added columns.** [`columns`](crate::FileRun::columns) (`--with`) adds `finish_reason`,
//!   `prompt_tokens`, `completion_tokens` and `error`, which says why a row has failed. With
//!   [`json_answer`](crate::FileRun::json_answer) (`--json-answer`), each top-level key of answers
//!   whose text is a JSON object has a column behind `answer`. The object may be in a Markdown code
//!   fence. The keys stand in the order in which they first come. At most 1,000 keys have a column;
//!   `answer` has all. If an added column's name is there already, in whatever case, it gets a
//!   number: `answer_2`.
//! - **Formulas.** A spreadsheet runs a cell that begins with `=`, and what a model writes is not
//!   to be trusted. So in added columns a text gets an apostrophe in front if it begins with `=`,
//!   `+`, `-` or `@` (also in full width, and behind blanks), a tab or a carriage return, and is no
//!   plain number such as `-5` or `+1e9`. With [`raw_cells`](crate::FileRun::raw_cells)
//!   (`--raw-cells`) it stays as it is. Your own columns, and `id`, are never changed.
//! - **Form.** UTF-8, quotes where they are needed, LF at the end of a line. A `.tsv` has tabs. A
//!   `.csv` has the delimiter of the input, or commas if that is a tab. If the input begins with a
//!   byte order mark, which Excel wants, so does the table.
//!
//! A table that exists without its records may be the work of somebody else. So the run is refused,
//! unless [`overwrite`](crate::FileRun::overwrite) (`--overwrite`) is set. A simulated run never
//! replaces such a table.
//!
//! `tollgate extract` takes the answers out of any file of results, of other tools and of the
//! providers' batch services, too: as text, one answer a line, or as a table.
//!
//! ```text
//! tollgate extract p.results.jsonl                                      # answers, one a line
//! tollgate extract batch_output.jsonl -o a.csv --ordered-by p.jsonl --with error
//! ```
//!
//! Of several records with one id the last answer counts, or the last failure if there is none.
//! Failures are also looked for in the errors file beside the results. A file that `-o` names is
//! replaced, unless it holds requests or results, or is a table without a column `answer`.
//!
//! | | Text | Table |
//! |---|---|---|
//! | alone | the answers, in the order of the results | a row for each id of the results, in their order, with `id` and the added columns |
//! | `--ordered-by INPUT` | the answers in the order of INPUT; an empty line where there is none | all rows of INPUT, with its columns and the added columns |
//!
//! If INPUT is prompts or rows, give the flags of the run that asked for them (`--prompt`,
//! `--model` and so on), as the ids follow from these. As text, line ends within an answer become
//! blanks; `-0` keeps them, and ends each answer with NUL. Warnings say what is missing. Lines that
//! are no records are left out, and the exit code is then 1.
//!
//! # A rerun
//!
//! A *rerun* is the same command, or the same call, once more. It needs no state but the output and
//! the errors file. If the output exists, a run
//!
//! - skips rows whose `custom_id` has an answer there, whichever tool wrote it. What is an answer
//!   is decided as for one that has just come. A record with a 200 and no body, or with an error in
//!   it, is no answer, and a `status_code` of 0 counts as if it were not there. Records without an
//!   answer are taken out of the output before anything is sent;
//! - sends the rows again that failed for a reason that may pass, such as a time-out;
//! - leaves the rows that *failed for good*, such as a request that the provider calls invalid,
//!   unless [`retry_failed`](crate::FileRun::retry_failed) is set;
//! - removes an incomplete last line, which a killed run leaves;
//! - refuses an input in which a request has changed since it was answered. Each record has a hash
//!   of its request line to tell this by; a record without one is matched by its id alone. With
//!   [`force_resume`](crate::FileRun::force_resume) the old answers are kept. If the input is a
//!   stream, such a row becomes a failed row instead. Its record has the `custom_id` `line-N`, and
//!   so has that of a row whose id an earlier line has: the id belongs to the other row;
//! - refuses an output with a damaged line in its midst, and names it. With
//!   [`repair`](crate::FileRun::repair) such lines are moved to a file whose name ends in
//!   `.rejected`.
//!
//! Lines of the input may be added, removed and moved between runs.
//! [`overwrite`](crate::FileRun::overwrite) empties the output and starts anew. An output that
//! holds something else than results is refused. A file never holds both simulated answers and
//! others, and a simulated run (`--simulate`) empties only files of simulated answers.
//!
//! Several inputs may share an output, one after the other: the answers of all of them stay. Their
//! failures do not. A run that has read its whole input removes from the errors file the rows that
//! are not in this input, and a warning says how many. A later run over their own input sends those
//! rows again, even those that failed for good. So it is better to give each input its own output,
//! or its own errors file.
//!
//! A run says what it found before it sends anything: the tool in a line, the library in
//! [`FileProgress::found`](crate::FileProgress::found).
//!
//! With [`ordered`](crate::FileRun::ordered), a rerun appends, too. At the end of the input it
//! sorts the whole output into the order of the input. Records of rows that are not in the input
//! come last. If the run is stopped before that, the output is whole but in another order, and the
//! next run sorts it.
//!
//! # What a run says
//!
//! While it goes on, the tool shows how far it is: a bar on a terminal, a line every 5 s elsewhere,
//! and with `--progress json` an object a second. A program shows the same with
//! [`bar`](fn@crate::bar) or [`Bar`](crate::Bar) (feature `bar`). It says
//! [what binds](super::limits#what-binds) at the moment (`limit: requests`), and what was learned
//! of limits. If the run sends nothing because the server is down or asked for a pause, that comes
//! first: until when, why, and what helps. If the server has named its limit, that is a flag to
//! copy (`the server says 60 a minute: --rpm 60`).
//!
//! The time that is left (*ETA*) follows from the limit that binds: what is left to send divided by
//! what the limit allows, from the first second on. For model tokens it goes by what the rows so
//! far have taken, and for the concurrency by the mean time of an attempt. A limit that is learned,
//! or changes, counts from then on. If anything else binds, such as the input, the ETA goes by the
//! last 30 s. A pause is added to it. It is unknown as long as nothing tells. A run that is
//! stopping (after Ctrl-C, or for an error that ends it) has none: what is left is left undone.
//!
//! On a narrow terminal the less important is left out. There is no colour, so `NO_COLOR` changes
//! nothing. With `TERM=dumb`, or without a terminal, there are lines in place of the bar;
//! `--progress always` draws it all the same.
//!
//! # Progress for a program
//!
//! With `--progress json` each line on standard error is an object with an `event`:
//!
//! | `event` | When | Other keys |
//! |---|---|---|
//! | `resume` | once, if the run carries on | `done`, `to_do`, `failed`: rows; `torn_bytes`: bytes removed from the end of the output; `rejected`: damaged lines moved away; `possibly_billed`: rows that may be billed twice |
//! | `progress` | every second, and at the end | see below |
//! | `message`, `warning`, `error` | when there is something to say | `text`; with `-v` also `time`, in RFC 3339 |
//! | `summary` | last | `summary`, the object of `--summary` |
//!
//! These are the keys of a `progress` event. A number that nobody can know is null, such as the
//! rows of a stream before its end:
//!
//! | Key | Value |
//! |---|---|
//! | `elapsed_s` | seconds since the start of the run |
//! | `total` | rows of the input |
//! | `done` | rows: `skipped` + `succeeded` + `failed` |
//! | `succeeded`, `failed`, `skipped` | rows answered in this run, given up in this run or for good in an earlier one, and answered in an earlier one |
//! | `eta_s` | seconds until the run is over |
//! | `rps`, `tokens_per_s` | rows and model tokens a second, in the last 30 s or so |
//! | `binding` | what [holds the run back](super::limits#what-binds) at the moment |
//! | `in_flight`, `waiting`, `backing_off` | requests sent and not yet answered; rows that wait for the limiter; rows that wait for their next attempt |
//! | `concurrency.low`, `concurrency.high`, `concurrency.now` | how many requests may be in flight at once, as set, and the number that holds now |
//! | `attempts`, `retries`, `throttled` | requests sent; of these, all but the first of each row; answers that said to slow down |
//! | `hedges` | of the attempts, copies of those that took too long, which are no retries ([hedging](super::limits#hedging)) |
//! | `prompt_tokens`, `completion_tokens` | model tokens in this run, as the provider counted them |
//! | `cost_usd` | their cost in US dollars, with that of [attempts without an answer](#money-and-time); null without `--price` |
//! | `learned.requests_per_s`, `learned.tokens_per_s` | limits that the provider's headers announce, if they are lower than those set |
//! | `learned.input_tokens_per_s`, `learned.output_tokens_per_s` | the same, of a provider that limits the model tokens of prompts and answers apart |
//! | `learned.from_refusals_per_s`, `learned.at_once` | requests a second, and requests in flight, as learned from refusals |
//! | `learned.maybe_at_once` | how many requests were let in at once when others were refused, as long as nobody knows whether that was for their rate or for their number |
//! | `learned.tokens_from_refusals_per_s` | the limit on model tokens that refusals name |
//! | `learned.ignored` | announcements that made no sense |
//! | `shared_limit` | null unless the limits are [shared](super::sharing_a_limit) with other processes |
//! | `shared_limit.store` | where they are kept |
//! | `shared_limit.processes`, `shared_limit.processes_peak` | how many processes share them, this one among them, now and at the most; 0 before the store has said it |
//! | `shared_limit.round_trips` | how often the store has answered |
//! | `shared_limit.gone_s` | for how many seconds the store has not been reached; null if it is there |
//! | `shared_limit.error` | why the store was not reached when it was last tried; null if it is there |
//! | `shared_limit.falls_back` | true while requests are sent without the store, at the share to fall back on |
//! | `held` | null unless the run sends nothing because of a pause or an outage |
//! | `held.is_pause` | true if the server asked for a pause; false if it is down, and is asked now and then |
//! | `held.next_try_s` | seconds until the next request; null if the run's time is over before that |
//! | `held.error` | what the server said last |
//! | `held.remedy` | the limit that it has named and the flag that keeps to it |
//!
//! # The summary
//!
//! The summary at the end has the reasons for which rows failed, the most frequent first, with the
//! first row of each: `10 x HTTP 400 "Invalid model name" (first: line 3, "r-3")`. Failures have
//! the same reason if their kind, status, code and message are the same; numbers and ids in
//! messages may differ. The summary shows ten reasons. `--summary` and
//! [`FileProgress::failures`](crate::FileProgress::failures) have up to a hundred, and beyond them
//! the number of rows by kind and status. These are the failures of this run. A row that an earlier
//! run gave up counts as failed, and its record in the errors file says why.
//!
//! If the run took 2 s or more and sent 20 requests or more, the summary ends with *advice*: which
//! limit bound for how much of the time, and a number that helps. For example: `the limit on
//! requests (500/min learned from headers) bound for 81 % of the time; 34 at once would have been
//! enough`.
//!
//! The keys of `--summary` are those of [`Summary::to_json`](crate::Summary::to_json), and
//! `advice`: that sentence, or null. Its time is the whole time from the start to the end, however
//! the run ended.
//!
//! The exit code of `tollgate run` is
//!
//! | Exit code | Meaning |
//! |---|---|
//! | 0 | all requests succeeded |
//! | 1 | some failed, in this run or in an earlier one |
//! | 2 | the command line or the input is wrong; so is a file to read that cannot be opened, or a directory that does not exist |
//! | 3 | the run stopped early: run it again to carry on |
//! | 4 | a local file could not be written, or read to its end |
//! | 129, 130, 143 | SIGHUP, Ctrl-C or SIGTERM ended it |
//!
//! With `-v` the failed attempts are shown, with `-vv` all attempts. Each has the time, and the
//! line and the id of its row. With `-vv` each has a line with its status, how long it took, how
//! long the row has waited so far, and those headers of the answer that speak of limits, waits,
//! times and the request's id. A failed attempt has two lines then: why it failed, and this one. Of
//! an answer that broke off it says `status 200 and a part of the answer`.
//!
//! ```text
//! 2026-11-27T16:58:03.120Z line 2 ("r1"), /v1/chat/completions, attempt 1: status 200 in 0.512 s after a wait of 0.051 s; x-request-id: req_1; x-ratelimit-remaining-requests: 59
//! ```
//!
//! In a program these are records of the `log` crate with the level `debug` and the target
//! `tollgate::attempt`. Why an attempt failed is a record with the level `info`. Any logger that
//! the program has set up for this target shows them, such as `env_logger` with
//! `RUST_LOG=tollgate=debug`. The tool has its own logger, and does not read `RUST_LOG`.
//!
//! # Files of other tools
//!
//! A run can carry on with the output and error files of `OpenAI`'s Batch API, the results file of
//! Anthropic's, and files that vLLM writes. Name them as the output and with
//! [`errors`](crate::FileRun::errors). Rows that expired or were cancelled there are sent. A record
//! may have `NaN` or `Infinity` for a number, as Python writes them; it stays as it is.
//!
//! Such an output may hold failures, and the same id more than once, as when several files were put
//! together. A row with an answer stays answered. Before the run begins the failures are moved to
//! the errors file, so that the output holds the last success of each row, and nothing else. At the
//! end of the run the errors file holds the rows that are failed now, each once. Both are written
//! as new files and then renamed, so at every moment there is a whole file.
//!
//! # What may go wrong
//!
//! If the process is killed, everything written stays. Requests that were in flight are lost. With
//! [`ordered`](crate::FileRun::ordered) those are lost, too, whose answer waits for the rows before
//! them. The next run sends them again, and says how many that may be.
//!
//! If the *machine* goes down, results that were written but not yet synced to the disk are lost.
//! [`fsync`](crate::FileRun::fsync) (`--fsync`) sets how often results are synced: once a second by
//! default. With [`Always`](crate::Fsync::Always) a row counts as done only when it is on the disk.
//! One sync serves all rows that finished since the last.
//!
//! A write or sync that fails is not tried again. Nothing more is sent or written, and the run ends
//! with an error that says what to do ([`Io`](crate::ErrorKind::Io), exit code 4). If a record was
//! written in part, that part is removed. So a full disk leaves a file of whole records, and a
//! rerun carries on.
//!
//! Only one run at a time may write to a file. It holds a lock, `out.jsonl.lock`, a file that
//! contains its process id. A second run is refused, and its error names that process. The
//! operating system releases the lock when the process ends, so the lock file of a killed run does
//! not block the next run. On a file system without locks, a warning says so.
//!
//! Other programs may read the files at any time, but must not write to them. If an output or
//! errors file is removed, replaced, cut or added to, the run ends with an error within about a
//! second. (On systems other than Unix this is found only if the length changes.) Answers that are
//! no longer in the output do not count as done: [`FileProgress::lost`](crate::FileProgress::lost)
//! and the summary say how many there are.
//!
//! # A look before the run
//!
//! `tollgate check INPUT` reads a file as a run does, on all cores, and sends nothing. It says how
//! many requests the file has, which models and endpoints, about how many model tokens are in the
//! prompts (a quarter of the text's bytes), and how many tokens the answers may have at most. It
//! lists what a run would refuse or turn into a failed row: lines that are no requests, with line
//! and column (in bytes, from 1), ids that two lines have, with both lines, and bodies that ask for
//! a stream. The exit code is 0 if nothing is wrong, 1 if something is, 2 if the file cannot be
//! read, and 4 if standard output cannot be written.
//!
//! With `--provider` it also says what that provider's own batch service would not accept. A run
//! does not need these rules:
//!
//! | | `openai` | `anthropic` | `azure` |
//! |---|---|---|---|
//! | form | `method` and `url` in each line | `custom_id` and `params` | `method` and `url` in each line |
//! | requests | 50,000 | 100,000 | 100,000 |
//! | bytes | 200 million | 256 million | 200 million |
//! | endpoints, models | one of each; the endpoint is a known one | | one of each |
//! | also | 50,000 embedding inputs; no blank lines | a `max_tokens` of 1 or more; an id of 1 to 64 letters, digits, `_` and `-` | |
//!
//! `--json` prints one object instead. Its keys: `requests`, `bad_lines`, `blank_lines` (together
//! `lines`, except that CSV also has a header and cells of several lines), `bytes`; `models` and
//! `endpoints`, lists of `name` and `requests`, the most used first (1,000 at most, names cut to
//! 200 bytes), with the requests of all others in `other_models_requests` and
//! `other_endpoints_requests`; `prompt_tokens`, `output_tokens` (the sum of the limits that
//! requests set) and `requests_without_limit`; `findings_total`, `findings_by_kind` (counts) and
//! `findings`, the first 1,000 of each kind: `kind`, `line`, `column`, `first_line` (the other one,
//! of a `duplicate_id`) and `message`, null where there is none. A kind is `not_json`, `not_utf8`,
//! `not_an_object`, `too_long`, `too_deep`, `lone_surrogate`, `missing_field`, `field_twice`,
//! `custom_id`, `method`, `url`, `body_not_an_object`, `two_forms`, `stream` or `duplicate_id`, of
//! rows also `cells`, `open_quote` or `template`, and with `run --dry-run` also `changed`
//! and `other_shard`; those of
//! `--provider` begin with `batch_`.
//!
//! # The report page
//!
//! `tollgate report RESULTS...` makes one HTML page of files of results. For `p.results.jsonl` it
//! is `p.report.html`, unless `-o` names another. It replaces only such a page. Lines that are no
//! records are left out, and a warning and the page say how many. `tollgate run --report FILE`
//! makes the page when a run ends or stops, of all that is in the output then. If the page cannot
//! be written, the results are there all the same, and the exit code is 4.
//!
//! The page holds all that it needs: it loads nothing and runs no script, so it can be mailed, and
//! read without a network. It follows the light or dark mode of the browser, and fits a phone. It
//! is smaller than 3 MB however many rows there are. No answer is in it. Ids and error messages
//! are, shortened; they are shown as text, whatever they hold.
//!
//! | It shows | From |
//! |---|---|
//! | rows answered and failed, p50 and p95 in words | all records |
//! | requests, model tokens, requests in flight and failed attempts over time | `timeline` |
//! | the limits beside them | the run, with `run --report`: records do not hold them |
//! | how long answers took, and rows as a whole | `timeline`, `time_s` |
//! | where the time went | `time_s` |
//! | why rows failed, with an example each | the errors file beside each output, which is read as well |
//! | why attempts failed that were tried again | `timeline` |
//! | model tokens and cost | `usage` of answers; `cost_usd`, which records have if the run had a price |
//! | the ten slowest rows | `time_s` |
//!
//! Several files make one page. Each record counts: a row that has two, in one file or in two,
//! counts twice. A page needs one record at least. Records of other tools
//! and with [`strict`](crate::FileRun::strict) have no `timeline`: the page says what it cannot
//! show for them. A time in which nothing was under way, as between two runs, is left out of the
//! plots. Requests are counted when they are sent, so a burst that the limit allows stands above
//! its line. The files are read on all cores, in memory that does not grow with them. Percentiles
//! are accurate to 1 %.
//!
//! # Money and time
//!
//! A [`price`](crate::FileRun::price) (`--price IN,OUT`) is in US dollars for 1,000,000 model
//! tokens of prompts and of answers. With a price, each record has the `cost_usd` of its answer,
//! and [`FileProgress`](crate::FileProgress) and the summary have the cost of the run. Sums are
//! exact.
//!
//! The number of tokens is the one that the provider reports (`usage`). Failed answers count if
//! they report it. The provider's bill may be lower, as cached tokens are counted in full here.
//! Answers without a `usage` are not counted:
//! [`uncounted`](crate::FileProgress::uncounted) says how many there were. If there is a budget, a
//! warning tells of the first.
//!
//! An attempt may have been billed although its answer never came. Its answer was lost on the way,
//! or it was cut off: by a timeout, by the end of the run, or because [another attempt at its
//! row](super::limits#hedging) was answered first. Such an attempt counts in the cost and against
//! the budget as what it is likely to have taken, by what answers of the run have taken so far.
//! [`unanswered`](crate::FileProgress::unanswered) says how many there were, and
//! [`estimated_cost`](crate::FileProgress::estimated_cost) which part of the cost is such an
//! estimate. The summary shows both: `cost $1.2700, of that some $0.0400 for 17 attempts without an
//! answer, which may have been billed`. The `cost_usd` of a record is that of its answer alone.
//! `possibly_billed` says how many rows may be paid for more than once.
//!
//! [`max_cost`](crate::FileRun::max_cost) (`--max-cost USD`) and
//! [`token_budget`](crate::FileRun::token_budget) (`--token-budget N`) stop a run when it has spent
//! so much. An answer is counted when it arrives, before another request may take its place in
//! flight. From then on nothing is sent, and nothing is tried again. Requests in flight are
//! finished and their results written. So what exceeds the budget is at most one answer for each
//! request in flight. The run ends early with an error of the kind
//! [`Budget`](crate::ErrorKind::Budget), the tool with exit code 3. Rows that were not sent have no
//! record. A rerun carries on with them, and has a budget of its own, as large again. If the budget
//! is reached by the last row, the run is not stopped.
//!
//! An empty account ([`Quota`](crate::ErrorKind::Quota)) stops a run in the same way.
//!
//! [`ClientBuilder::timeout`](crate::ClientBuilder::timeout) (`--timeout`) limits one attempt,
//! [`Client::with_deadline`](crate::Client::with_deadline) (`--deadline`) the whole run. An attempt
//! may take as long as both allow. Requests that the deadline cuts off are left for a rerun.
//!
//! # Memory
//!
//! However long the input, at most max(1024, 4 × concurrency) rows are in memory at once. What
//! grows with the input are tables of ids, kept as hashes of 128 bits:
//!
//! | Table | Kept | Bytes a row |
//! |---|---|---|
//! | ids of the input, to find duplicates | before anything is sent | 24, for a moment twice that |
//! | rows that have a record of an earlier run | for the whole run | 24 |
//! | ids read so far, if the input is a stream | for the whole run | 20 to 40 |
//! | hashes of requests, for rows without a column of ids | before anything is sent; for a stream, and for requests that come more than once, during the whole run | 17 to 35, for a moment half as much again |
//! | records of an output that is sorted, or cleaned of repeats | at the end | 32 |
//! | where the record of each row is, for a table (also in `tollgate extract`) | at the end | 32, for a moment some 80 |
//! | the order of the input, for sorting | for the whole run | 24 |
#![cfg_attr(
    not(all(feature = "bar", feature = "rows")),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "what a feature adds is linked where it is there"
    )
)]
