//! A 2xx that is no answer.

use crate::support::faultd::Faultd;
use crate::support::reply::Reply;
use crate::tool::Folder;

#[test]
fn a_good_answer_is_one() {
    let folder = Folder::new();
    folder.requests(1);
    let server = Faultd::replies([Reply::ok_chat("hello")]);
    folder.tool(&["run", "p.jsonl"]).at(&server).run().code(0);
    assert_eq!(server.requests().len(), 1);
}
