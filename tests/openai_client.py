"""Talks to a simulated provider through the official `openai` package.

Usage: openai_client.py BASE_URL STRICT_URL FLAKY_URL
The first server has no limits, the second lets two requests through at once and then one every
0.3 s, the third fails often. Exits 0 if everything is as the package's users would expect it.
"""

import base64
import importlib.util
import struct
import sys
from datetime import date
from typing import Literal, Optional

import openai
from openai.types import Completion, CreateEmbeddingResponse, Model, ModerationCreateResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel, Field

base_url, strict_url, flaky_url = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="any", max_retries=0)


def strictly(kind, path, body, get=False):
    """The answer, read by the package's own type. Its client takes whatever comes; this does not."""
    raw = client.get(path, cast_to=object) if get else client.post(path, cast_to=object, body=body)
    made = kind.model_validate(raw, strict=True)
    assert not made.model_extra, (path, made.model_extra)
    return made

hello = [{"role": "user", "content": "Say hello."}]

# Chat: the usage adds up, and the same request has the same answer.
reply = client.chat.completions.create(model="gpt-4o-mini", messages=hello)
assert reply.choices[0].message.role == "assistant"
assert reply.choices[0].message.content.startswith("Simulated answer")
assert reply.choices[0].finish_reason == "stop"
assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
assert reply._request_id.startswith("req_sim")
again = client.chat.completions.create(model="gpt-4o-mini", messages=hello)
assert again.choices[0].message.content == reply.choices[0].message.content

# Two choices, cut short by either name of the limit.
for limit in ({"max_tokens": 5}, {"max_completion_tokens": 5}):
    two = client.chat.completions.create(model="gpt-4o-mini", messages=hello, n=2, **limit)
    assert [choice.finish_reason for choice in two.choices] == ["length", "length"]
    assert two.choices[0].message.content != two.choices[1].message.content
    assert two.usage.completion_tokens == 10
    assert reply.choices[0].message.content.startswith(two.choices[0].message.content)

# A stream puts together the same text.
text, usage, finish = "", None, None
for chunk in client.chat.completions.create(
    model="gpt-4o-mini", messages=hello, stream=True, stream_options={"include_usage": True}
):
    for choice in chunk.choices:
        text += choice.delta.content or ""
        finish = choice.finish_reason or finish
    usage = chunk.usage or usage
assert text == reply.choices[0].message.content, text
assert finish == "stop"
assert usage == reply.usage, usage

# Embeddings: the package asks for base64 by default; both encodings hold the same numbers.
def embed(**more):
    made = client.embeddings.create(model="text-embedding-3-small", **more)
    return made, [item.embedding for item in made.data]

made, packed = embed(input=["one", "two"], dimensions=8)
_, plain = embed(input=["one", "two"], dimensions=8, encoding_format="float")
assert [len(vector) for vector in packed] == [8, 8]
for ours, theirs in zip(packed, plain):
    assert struct.pack("<8f", *ours) == struct.pack("<8f", *theirs)
_, raw = embed(input=["one"], dimensions=8, encoding_format="base64")
assert base64.b64decode(raw[0]) == struct.pack("<8f", *plain[0])
assert made.usage.prompt_tokens == made.usage.total_tokens > 0
assert len(embed(input="one")[1][0]) == 1536
assert len(embed(input=[[1, 2], [3]])[1]) == 2
assert len(embed(input=[1, 2, 3])[1]) == 1

# The other endpoints.
names = [model.id for model in client.models.list()]
assert "gpt-4o-mini" in names
assert client.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"
try:
    client.models.retrieve("anything")
    raise AssertionError("a model that is not in the list was found")
except openai.NotFoundError as error:
    assert error.code == "model_not_found", error
completion = client.completions.create(model="m", prompt=["a", "b"], max_tokens=4)
assert [choice.finish_reason for choice in completion.choices] == ["length", "length"]
response = client.responses.create(model="m", input="Say hello.", max_output_tokens=30)
assert response.output_text.startswith("Simulated answer")
assert response.usage.input_tokens > 0
judged = client.moderations.create(input=["x", "y"])
assert [result.flagged for result in judged.results] == [False, False]

# Every answer is of the package's type, strictly.
conversation = {"model": "m", "messages": hello}
strictly(ChatCompletion, "/chat/completions", conversation)
strictly(Completion, "/completions", {"model": "m", "prompt": "a"})
strictly(CreateEmbeddingResponse, "/embeddings", {"model": "m", "input": "a", "dimensions": 2})
strictly(ModerationCreateResponse, "/moderations", {"input": "a"})
strictly(Model, "/models/gpt-4o", None, get=True)
for more in ({}, {"max_output_tokens": 3}):
    strictly(Response, "/responses", {"model": "m", "input": "a"} | more)


# Formats and tools, as the package's users ask for them.
class Pet(BaseModel):
    name: str = Field(min_length=2, max_length=9)
    kind: Literal["cat", "dog"]
    age: int = Field(ge=0, le=30)
    weight: float = Field(gt=0)
    born: date
    tame: bool
    owner: Optional["Pet"] = None
    friends: list["Pet"]


for number in range(10):
    asked = [{"role": "user", "content": f"Pet {number}?"}]
    parsed = client.chat.completions.parse(model="m", messages=asked, response_format=Pet)
    assert isinstance(parsed.choices[0].message.parsed, Pet)
    parsed = client.responses.parse(model="m", input=asked, text_format=Pet)
    assert isinstance(parsed.output_parsed, Pet)
tool = openai.pydantic_function_tool(Pet)
forced = conversation | {"tools": [tool], "tool_choice": "required"}
called = strictly(ChatCompletion, "/chat/completions", forced).choices[0]
assert called.finish_reason == "tool_calls" and called.message.content is None
function = called.message.tool_calls[0].function
assert function.name == "Pet" and Pet.model_validate_json(function.arguments)
with client.chat.completions.stream(**forced) as stream:
    streamed = stream.get_final_completion().choices[0]
assert streamed.message.tool_calls[0].function.arguments == function.arguments
assert streamed.finish_reason == "tool_calls"
flat = {"type": "function"} | tool["function"]
forced = {"model": "m", "input": "a", "tools": [flat], "tool_choice": {"type": "function", "name": "Pet"}}
item = strictly(Response, "/responses", forced).output[0]
assert (item.type, item.name) == ("function_call", "Pet") and Pet.model_validate_json(item.arguments)

# Errors become the package's own, with their codes.
try:
    client.chat.completions.create(model="m", messages=[])
    raise AssertionError("an empty conversation was answered")
except openai.BadRequestError as error:
    assert error.param == "messages", error
try:
    client.batches.list()
    raise AssertionError("an unknown path was answered")
except openai.NotFoundError as error:
    assert error.type == "invalid_request_error", error

# 429: the code without retries, and an answer with the package's own retries.
strict = openai.OpenAI(base_url=strict_url, api_key="any", max_retries=0)
codes = []
for _ in range(4):
    try:
        strict.chat.completions.create(model="m", messages=hello)
    except openai.RateLimitError as error:
        codes.append(error.code)
        assert float(error.response.headers["retry-after-ms"]) <= 300
        assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
assert "rate_limit_exceeded" in codes
patient = strict.with_options(max_retries=5)
for _ in range(3):
    patient.chat.completions.create(model="m", messages=hello)

# Errors and broken connections: retried by the package until they pass.
flaky = openai.OpenAI(base_url=flaky_url, api_key="any", max_retries=10)
retries = 0
for number in range(8):
    raw = flaky.chat.completions.with_raw_response.create(
        model="m", messages=[{"role": "user", "content": f"Question {number}"}]
    )
    retries += raw.retries_taken
    assert raw.parse().choices[0].finish_reason == "stop"
assert retries > 0


def anthropics():
    """Anthropic's path, through Anthropic's package."""
    import anthropic
    from anthropic.types import ErrorResponse, Message

    root = base_url.removesuffix("/v1")
    client = anthropic.Anthropic(base_url=root, api_key="any", max_retries=0)
    asked = {"model": "m", "max_tokens": 900, "messages": hello}
    raw = client.messages.with_raw_response.create(**asked)
    made = Message.model_validate_json(raw.text(), strict=True)
    assert not made.model_extra and made.content[0].text.startswith("Simulated answer")
    assert raw.parse()._request_id.startswith("req_sim")
    tools = [{"name": "note", "input_schema": Pet.model_json_schema()}]
    for choice in ({"type": "any"}, {"type": "tool", "name": "note"}):
        raw = client.messages.with_raw_response.create(**asked, tools=tools, tool_choice=choice)
        made = Message.model_validate_json(raw.text(), strict=True)
        assert not made.model_extra and made.stop_reason == "tool_use"
        assert made.content[0].name == "note" and Pet.model_validate(made.content[0].input)
    format = {"type": "json_schema", "schema": Pet.model_json_schema()}
    made = client.messages.create(**asked, output_config={"format": format})
    assert Pet.model_validate_json(made.content[0].text)
    strict = anthropic.Anthropic(
        base_url=strict_url.removesuffix("/v1"), api_key="any", max_retries=0
    )
    seen = set()
    for number in range(5):
        try:
            strict.messages.create(**asked)
        except anthropic.RateLimitError as error:
            seen.add(error.type)
            ErrorResponse.model_validate(error.body, strict=True)
    assert seen == {"rate_limit_error"}, seen
    try:
        client.messages.create(model="m", max_tokens=5, messages=[])
        raise AssertionError("an empty conversation was answered")
    except anthropic.BadRequestError as error:
        ErrorResponse.model_validate(error.body, strict=True)
        assert error.type == "invalid_request_error" and error.request_id.startswith("req_sim")


if importlib.util.find_spec("anthropic"):
    anthropics()
else:
    print("SKIPPED: anthropic is not installed")
print("openai", openai.__version__, "ok")
