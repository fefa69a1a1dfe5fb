"""Reads the tool's files with parsers that nobody here wrote.

Usage: openai_results.py FOLDER STRICT_FOLDER
Each folder has what runs over OpenAI's and Anthropic's batch lines have left, the second with
--strict. The bodies are
read by the types of the official packages, and whole files by `instructor`'s batch parser, where
`anthropic` and `instructor` are installed. Exits 0 if they find what was answered.
"""

import importlib.util
import json
import sys
from pathlib import Path

import openai
from openai.types import Completion, CreateEmbeddingResponse, ErrorObject, ModerationCreateResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

TYPES = {
    "chat": ChatCompletion,
    "person": ChatCompletion,
    "completion": Completion,
    "embedding": CreateEmbeddingResponse,
    "moderation": ModerationCreateResponse,
    "response": Response,
}


def lines(path):
    text = path.read_bytes().decode("utf-8")
    assert text.endswith("\n"), path
    # Not splitlines: U+2028 is a character like any other in JSON.
    return {(record := json.loads(line))["custom_id"]: record for line in text[:-1].split("\n")}


def installed(package):
    if importlib.util.find_spec(package):
        return True
    print(f"SKIPPED: {package} is not installed")
    return False


def read_openai(folder, extras):
    results = lines(folder / "openai.results.jsonl")
    assert results.keys() == TYPES.keys(), results.keys()
    for name, record in results.items():
        assert record.keys() == {"id", "custom_id", "response", "error"} | extras, record
        assert record["error"] is None and record["id"].startswith("batch_req_")
        response = record["response"]
        assert response.keys() == {"status_code", "request_id", "body"}, response
        assert response["status_code"] == 200 and isinstance(response["request_id"], str)
        # Validated strictly: the packages' own clients take whatever comes.
        body = TYPES[name].model_validate(response["body"], strict=True)
        assert not body.model_extra, (name, body.model_extra)
    chat = ChatCompletion.model_validate(results["chat"]["response"]["body"])
    assert chat.choices[0].message.content == "naïve 漢字 🦀\u2028\n\"quoted\"", chat
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
    embedding = CreateEmbeddingResponse.model_validate(results["embedding"]["response"]["body"])
    assert len(embedding.data[0].embedding) == 3
    response = Response.model_validate(results["response"]["response"]["body"])
    assert response.output_text == "hello"

    errors = lines(folder / "openai.errors.jsonl")
    assert errors.keys() == {"refused", "garbled"}, errors.keys()
    refused = errors["refused"]
    assert refused["response"]["status_code"] == 400 and refused["error"] is None
    error = ErrorObject.model_validate(refused["response"]["body"]["error"], strict=True)
    assert error.code == "context_length_exceeded", error
    # No use in its answer: the reason stands beside it, in the form of `errors` in OpenAI's files.
    assert {"code", "message"} == errors["garbled"]["error"].keys()
    assert errors["garbled"]["response"]["body"] == {"text": "<html>log in</html>"}


def read_anthropic(folder, extras):
    if not installed("anthropic"):
        return
    from anthropic.types.messages import MessageBatchIndividualResponse

    read = {}
    for name in ("results", "errors"):
        for record in lines(folder / f"anthropic.{name}.jsonl").values():
            line = MessageBatchIndividualResponse.model_validate(record, strict=True)
            assert line.model_extra.keys() == extras, line
            read[line.custom_id] = line.result
    assert read["a"].type == "succeeded"
    assert read["a"].message.content[0].text == "Grüße 漢字"
    assert read["a"].message.usage.output_tokens == 4
    assert read["refused"].type == "errored"
    assert read["refused"].error.error.type == "invalid_request_error"
    assert read["garbled"].type == "errored"


def read_by_instructor(folder):
    if not installed("instructor"):
        return
    from instructor.batch.processor import BatchProcessor
    from instructor.batch.utils import filter_successful
    from pydantic import BaseModel

    class Person(BaseModel):
        name: str
        age: int

    for provider in ("openai", "anthropic"):
        text = (folder / f"{provider}.results.jsonl").read_text(encoding="utf-8")
        parsed = BatchProcessor(f"{provider}/m", Person).parse_results(text)
        found = {result.custom_id: result.result for result in filter_successful(parsed)}
        assert found["person"] == Person(name="Zoë", age=7), parsed


for name, extras in zip(sys.argv[1:], ({"tollgate"}, set()), strict=True):
    folder = Path(name)
    read_openai(folder, extras)
    read_anthropic(folder, extras)
    read_by_instructor(folder)
print("openai", openai.__version__, "ok")
