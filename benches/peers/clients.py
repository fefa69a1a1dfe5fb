"""The patterns of Python programs: asyncio with aiohttp, and with the official client of OpenAI.

A semaphore for the places in flight, gather for the order. It takes its task as its only argument and
prints its figures as one line of JSON, as the clients beside it do (src/task.rs).
"""

import asyncio
import json
import os
import resource
import ssl
import sys
import time

TEXT_BYTES, TOTAL_TOKENS = 1_100, 500
MODEL, KEY = "a-model", "a-key-that-opens-nothing"
SENTENCE = "A toll gate lets one cart through at a time, and nobody waits in vain. "
PROMPT = (SENTENCE * 20)[:900]
MESSAGES = [{"role": "user", "content": PROMPT}]


async def gather(task, ask):
    places = asyncio.Semaphore(task["at_once"])

    async def one():
        async with places:
            return await ask()

    said = await asyncio.gather(*(one() for _ in range(task["requests"])))
    return sum(len(text) == TEXT_BYTES and tokens == TOTAL_TOKENS for text, tokens in said)


async def with_aiohttp(task):
    import aiohttp

    context = ssl.create_default_context(cafile=task["ca_file"]) if task["ca_file"] else None
    connector = aiohttp.TCPConnector(limit=0, ssl=context or True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask():
            async with session.post(
                task["base_url"] + "/chat/completions",
                headers={"authorization": "Bearer " + KEY},
                json={"model": MODEL, "messages": MESSAGES},
            ) as response:
                response.raise_for_status()
                body = await response.json()
                return body["choices"][0]["message"]["content"], body["usage"]["total_tokens"]

        return await gather(task, ask)


async def with_openai(task):
    import openai

    async with openai.AsyncOpenAI(base_url=task["base_url"], api_key=KEY) as client:

        async def ask():
            body = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
            return body.choices[0].message.content, body.usage.total_tokens

        return await gather(task, ask)


def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def main():
    if sys.argv[1] == "--has":
        __import__(sys.argv[2])
        return
    task = json.loads(sys.argv[1])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if task["ca_file"]:
        # Where the official client's own connections look for it; set before it is loaded.
        os.environ["SSL_CERT_FILE"] = task["ca_file"]
    way = {"aiohttp": with_aiohttp, "openai": with_openai}[task["way"]]
    # The packages are loaded before the clock starts, as a program's own code is elsewhere.
    __import__(task["way"])
    started = time.monotonic()
    answers = asyncio.run(way(task))
    wall = time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_kib": peak_kib(),
        "answers": answers,
    }
    print(json.dumps(figures))


main()
