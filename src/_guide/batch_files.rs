//! Batch files: lines in, lines out, and what a rerun does.
//!
//! [`Client::jsonl`](crate::Client::jsonl) and `tollgate run` take a file of requests, one JSON
//! object a line, and write a file of results in the format of the provider's own batch service, so
//! that whatever reads those reads these.
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
//! Which form a line has is seen line by line:
//!
//! | Form | Fields | Sent to |
//! |---|---|---|
//! | `OpenAI`'s batch | `custom_id`, `method` (`POST`), `url`, `body` | its `url` |
//! | the same without `url` | `custom_id`, `body` | [`endpoint`](crate::FileRun::endpoint), `/v1/chat/completions` unless set |
//! | Anthropic's batch | `custom_id`, `params` | `/v1/messages` |
//! | prompts | the line is the prompt | [`endpoint`](crate::FileRun::endpoint), with what [`prompts`](crate::FileRun::prompts) says |
//!
//! The tool takes a file whose name ends in `.txt` for prompts. A prompt's id is `line-N`, by its
//! line in the file.
//!
//! The body is sent byte for byte: numbers, doubled keys, order and spelling are yours. A leading
//! `/v1` of a `url` stands for the root of the API and is replaced by the base URL's own path where
//! that has one. A path with a scheme, `//`, `..`, a fragment or a control byte is refused, and so
//! is a body that asks for a stream.
//!
//! Blank lines are skipped. A line that is no request is one failed row with its line number in the
//! message; the others are answered. A line may have 64 MiB. An input that is no text at all (gzip,
//! a spreadsheet, UTF-16) is refused as a whole.
//!
//! Ids must be unique: results are matched by nothing else. In a file, doubled ids are refused
//! before anything is sent, with both lines named. In a stream, which can be read only once, the
//! later line is a failed row.
//!
//! # Lines out
//!
//! Results are appended as they finish, whole lines in each write. The results file has successes
//! only, each id once. Rows are in the order in which they finished, unless
//! [`ordered`](crate::FileRun::ordered).
//!
//! ```json
//! {"id":"batch_req_…","custom_id":"a","response":{"status_code":200,"request_id":"…","body":{…}},"error":null,"tollgate":{"attempts":1,"wait_s":0.000,"prompt_tokens":9,"completion_tokens":2,"line":1,"hash":"…"}}
//! ```
//!
//! A row that came in Anthropic's form goes out in it: `custom_id` and a `result` that is
//! `succeeded` or `errored`. What goes beyond the provider's format stands under the one key
//! `tollgate`, and [`strict`](crate::FileRun::strict) leaves it out.
//!
//! Failures go to a file of their own: `out.jsonl` has `out.errors.jsonl`, `p.results.jsonl` has
//! `p.errors.jsonl`. They hold the last answer, or where there was none an `error` whose `code` is
//! `timeout`, `connection_error`, `invalid_response`, `rejected` or `invalid_request_line`. At the end
//! of a run the errors file holds the rows failed now, and is removed if there are none.
//!
//! No record is made of rows that were never attempted, or were cut off by a cancel, the end of the
//! run or what stopped it.
//!
//! `-` stands for standard input and output. Failures then go to standard output, too.
//!
//! # A rerun
//!
//! The results file is all the state there is. A run over an output that has results already
//!
//! - skips the rows whose `custom_id` it answers; files of other tools will do;
//! - repeats what failed for a reason that may pass, and leaves what failed for good, unless
//!   [`retry_failed`](crate::FileRun::retry_failed);
//! - cuts off a last line that a kill has left torn;
//! - refuses rows that have another request under an id that was answered, by a hash of the line
//!   which the record carries (records without one are matched by id alone), unless
//!   [`force_resume`](crate::FileRun::force_resume) keeps the old answers.
//!   On a stream such a row fails, as one whose id stands in an earlier line does; its record has
//!   no `custom_id`, or it would speak for the row that has the id rightly;
//! - refuses an output with a line in its midst that is no record, and names it, unless
//!   [`repair`](crate::FileRun::repair) moves such lines to a file with `.rejected` behind its name.
//!
//! Lines may be added, removed and moved. [`overwrite`](crate::FileRun::overwrite) empties the
//! output and begins anew. An output whose lines are no results is refused, and so is mixing
//! simulated answers with paid ones. A trial run (`--simulate`) empties nothing but what trials have
//! left.
//!
//! Several inputs may share an output in turn: the answers of all stay. Their failures do not, since
//! the errors file holds the rows of the input that are failed now: those of rows that are not in the
//! input are taken out at the end of a run that has read all of it, and a warning says how many. A
//! run over their own input would then repeat them, those too that failed for good. So give each input
//! an output of its own, or name an errors file for each.
//!
//! What was found is told before anything is sent: by the tool in a line, in
//! [`FileProgress::found`](crate::FileProgress::found) by the library.
//!
//! An [`ordered`](crate::FileRun::ordered) rerun appends, and when it has come to the end of the
//! input, it puts the whole output into the input's order; records of rows that are not in the input
//! any more stand at the end. One that is stopped before, or while it does so, leaves a whole file in
//! another order, which the next puts right.
//!
//! # Files of other tools
//!
//! The output and the error file of `OpenAI`'s own Batch API, Anthropic's results file and what vLLM
//! writes are taken as what is done: name them as the output and with
//! [`errors`](crate::FileRun::errors). Rows that expired or were cancelled there are to do.
//!
//! An output may hold failures, too, and an id more than once, as several files put together do. A
//! row once answered stays answered. At the end of the run the output holds the last success of each
//! row, and the errors file the rows failed now, each once; both are written anew beside themselves
//! and then put in place, so that there is a whole file at every moment.
//!
//! # What may go wrong
//!
//! If the process is killed, the rows that were in flight are lost to it and sent again by the next
//! run, which says so and how many that may be; what was written stays. What was written and not yet
//! brought to the disk is lost if the *machine* goes down: [`fsync`](crate::FileRun::fsync)
//! (`--fsync`) says how much that may be, a second's worth unless set. With
//! [`Always`](crate::Fsync::Always) a row is done when it is on the disk, and each disk's round trip
//! is shared by all rows that finished in the meantime.
//!
//! A write that fails, or a sync, is not tried again: nothing more is sent or written, and the run
//! ends with an error that says what to do ([`Io`](crate::ErrorKind::Io), exit 4). What was written
//! of a record is cut off, so a full disk leaves a file of whole records, and a rerun carries on.
//!
//! One run at a time writes to a file. It holds a lock beside it, `out.jsonl.lock`, in which its
//! process id stands; a second run is refused and names that process. The lock is the system's: it
//! ends with its holder, and one that a killed run has left is taken over. Where the file system has
//! no locks, a warning says so. Other programs may read the files at any time, and must not write
//! to them: an output or errors file that was removed, replaced, cut or added to ends the run with an
//! error, within a second or so (on systems other than Unix, only one whose length has changed).
//! What the output does not hold any more is not counted as done:
//! [`FileProgress::lost`](crate::FileProgress::lost) and the summary say how many answers that is.
//!
//! # A look before the run
//!
//! `tollgate check INPUT` reads a file as a run would, on all cores, sends nothing and says what it
//! holds: requests, models, endpoints, about how many model tokens the prompts have (by the
//! estimate that a limit on tokens reserves with) and how many the answers may have at most. It
//! names what a run would refuse or make a failed row of: lines that are no requests, with line and
//! column (in bytes, from 1), ids that stand twice, with both lines, and bodies that ask for a
//! stream. The exit code is 0 where nothing is wrong, 1 where something is, and 2 for a file that
//! cannot be read.
//!
//! With `--provider` it also says what keeps the file from that provider's own batch service, whose
//! rules a run does not need:
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
//! `lines`), `bytes`; `models` and `endpoints`, lists of `name` and `requests`, the most used first
//! (1,000 at most, names cut to 200 bytes), with the requests of all others in
//! `other_models_requests` and `other_endpoints_requests`; `prompt_tokens`, `output_tokens` (the
//! sum of the limits that requests set) and `requests_without_limit`; `findings_total`,
//! `findings_by_kind` (counts) and `findings`, the first 1,000 of each kind: `kind`, `line`,
//! `column`, `first_line` (the other one, of a `duplicate_id`) and `message`, null where there is
//! none. A kind is `not_json`, `not_utf8`, `not_an_object`, `too_long`, `too_deep`,
//! `lone_surrogate`, `missing_field`, `field_twice`, `custom_id`, `method`, `url`,
//! `body_not_an_object`, `two_forms`, `stream` or `duplicate_id`; those of `--provider` begin with
//! `batch_`.
//!
//! # Money and time
//!
//! With a [`price`](crate::FileRun::price) (`--price IN,OUT`, US dollars for 1,000,000 model tokens of
//! prompts and of answers) each record has its answer's `cost_usd`, and
//! [`FileProgress`](crate::FileProgress) and the summary have the run's. Sums are exact. The count of
//! tokens is the provider's own, answers of no use included where they say what they took; tokens
//! that it had cached are counted in full, so its bill may be lower, and an answer that was lost on
//! the way counts nothing here but may be on the bill (`possibly_billed` says how many).
//! Nor does an answer without a `usage`: [`uncounted`](crate::FileProgress::uncounted) says how many
//! those were, and where there is a budget, the first is warned of.
//!
//! [`max_cost`](crate::FileRun::max_cost) (`--max-cost USD`) and
//! [`token_budget`](crate::FileRun::token_budget) (`--token-budget N`) stop a run when what it has
//! spent reaches so much. An answer is counted in the moment in which it comes, before its place at
//! the gate is free, and from then on nothing is sent, no retry either. What is in flight by then is
//! finished and written down, so at most that goes over: at most as many requests as may be in flight,
//! less one. The run ends early with an error of kind [`Budget`](crate::ErrorKind::Budget), the tool
//! with exit 3. Rows not sent have no record, and a rerun carries on with them; it has a budget of its
//! own, as large again. A budget that the last row spends has stopped nothing.
//!
//! An account that is empty ([`Quota`](crate::ErrorKind::Quota)) stops a run in the same way.
//!
//! [`ClientBuilder::timeout`](crate::ClientBuilder::timeout) (`--timeout`) is the time of one attempt,
//! [`Client::with_deadline`](crate::Client::with_deadline) (`--deadline`) that of the run: an attempt
//! has what is left of either. What the deadline cuts off is left for a rerun.
//!
//! # Memory
//!
//! A run holds no more rows than its window, max(1024, 4 × concurrency), however long the file.
//! What does grow with it are tables of ids, kept as 128-bit hashes: those of the file while it is
//! looked through for doubled ones (24 bytes a row, twice that for a moment), of the rows done
//! before in a rerun (24 bytes a row that is answered and 32 a row that failed, for all of the run),
//! and of the rows read so far in a stream. An output that is put in order or cleaned of repeats
//! takes 32 bytes a line at the end, and 24 a row of the input for the order.
