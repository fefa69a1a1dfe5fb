"""Talks to a simulated provider through the official `openai` package.

Usage: openai_client.py BASE_URL STRICT_URL FLAKY_URL
The first server has no limits, the second lets two requests through at once and then one every
0.3 s, the third fails often. Exits 0 if everything is as the package's users would expect it.
"""

import base64
import struct
import sys

import openai

base_url, strict_url, flaky_url = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="any", max_retries=0)
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
assert client.models.retrieve("anything").id == "anything"
completion = client.completions.create(model="m", prompt=["a", "b"], max_tokens=4)
assert [choice.finish_reason for choice in completion.choices] == ["length", "length"]
response = client.responses.create(model="m", input="Say hello.", max_output_tokens=30)
assert response.output_text.startswith("Simulated answer")
assert response.usage.input_tokens > 0
judged = client.moderations.create(input=["x", "y"])
assert [result.flagged for result in judged.results] == [False, False]

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

print("openai", openai.__version__, "ok")
