"""The server under load: many clients at once, clients that leave, clients that hardly read.

`CHATLAB_LOAD_SECONDS` says how long the crowd stays, 20 seconds if it does not.
"""

from __future__ import annotations

import gc
import json
import os
import random
import socket
import threading
import time
from collections import Counter

import httpx2
import openai
import psutil
import pytest

import chatlab
from chatlab import chat_completions, user
from chatlab.server import ServerSettings
from chatlab.testing import ScriptedModel

SECONDS = float(os.environ.get("CHATLAB_LOAD_SECONDS", "20"))
CLIENTS = 50
LEAVERS = 100
QUESTIONS = [
    "Count from one to ten.",
    "What is the capital of France?",
    "Tell me a joke.",
    "Who are you?",
    "Write a haiku about rain.",
    "What is 2 + 2?",
    "Name three colours.",
    "Translate 'good morning' to Spanish.",
    "Where do penguins live?",
    "List two fruits.",
    "¿Qué es una manzana? 🍎",
    "Write a SQL query.",
]
SLOW = ScriptedModel("A long story. " * 500, seconds_per_token=0.002)
LONG_PROMPT = "word " * 1500


@pytest.fixture
def slow_server():
    settings = ServerSettings(side_by_side=4, queue_length=200, send_timeout=1.5)
    with chatlab.serve(SLOW, settings=settings) as server:
        yield server


def health(server):
    return httpx2.get(f"{server.url}/health", trust_env=False).json()


def wait_until(condition, *, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def idle(server):
    state = health(server)
    return (state["running"], state["waiting"]) == (0, 0)


def in_threads(work, arguments):
    """Do the work for each argument at the same time; raise the first error there was."""
    errors = []

    def guarded(argument):
        try:
            work(argument)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_small_pieces_are_sent_at_once():
    """Nagle's algorithm would hold the second piece of an answer back until the client acknowledged the first."""
    with chatlab.serve(ScriptedModel("Hi")) as server:
        assert server._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_crowd_gets_its_own_answers_or_a_429(model):
    asked = [(text, 6 + number % 6) for number, text in enumerate(QUESTIONS)]
    expected = {}
    for text, tokens in asked:
        reply = chat_completions([user(text)], model, temperature=0, max_completion_tokens=tokens)
        expected[text, tokens] = reply.choices[0].message.content
    assert len(set(expected.values())) == len(QUESTIONS)
    counted, errors = Counter(), []
    until = time.monotonic() + SECONDS

    def ask_until_the_end(number):
        dice = random.Random(number)
        with server.client().with_options(max_retries=0, timeout=120) as client:
            while time.monotonic() < until:
                text, tokens = key = dice.choice(asked)
                request = {
                    "model": model.name,
                    "messages": [user(text)],
                    "temperature": 0,
                    "max_completion_tokens": tokens,
                }
                try:
                    if streamed := dice.random() < 0.5:
                        chunks = list(client.chat.completions.create(**request, stream=True))
                        answer = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
                        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
                    else:
                        answer = client.chat.completions.create(**request).choices[0].message.content
                except openai.RateLimitError as error:
                    counted["429"] += 1
                    assert int(error.response.headers["retry-after"]) >= 1
                    time.sleep(0.5 + dice.random())
                    continue
                counted["streamed" if streamed else "whole"] += 1
                if answer != expected[key]:
                    errors.append((key, answer, expected[key]))

    with chatlab.serve(model, settings=ServerSettings(side_by_side=4, queue_length=20)) as server:
        in_threads(ask_until_the_end, range(CLIENTS))
        wait_until(lambda: idle(server))
    print(f"{CLIENTS} clients, {SECONDS:.0f} s: {dict(counted)}")
    assert errors == []
    assert counted["streamed"] and counted["whole"]


def leave(server, number, dice):
    """Ask for something long and leave at a random moment, without a word."""
    stream, prompt = number % 2 == 0, LONG_PROMPT if number % 4 < 2 else "Hi"
    body = json.dumps({"model": "scripted", "messages": [user(prompt)], "stream": stream}).encode()
    with socket.create_connection(server._address) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        if number % 10 == 9:
            connection.sendall(body[: len(body) // 2])  # in the middle of a sentence
            return
        connection.sendall(body)
        if stream and dice.random() < 0.5:
            connection.recv(dice.randrange(1, 5000))
        time.sleep(dice.random() * 0.5)
        if dice.random() < 0.5:  # half of them slam the door: the connection is reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def test_a_hundred_who_leave_leave_nothing_behind(slow_server, caplog):
    memory, threads = [], []
    for round_number in range(3):  # the first one fills caches and thread pools
        dice = random.Random(round_number)
        chances = [(number, random.Random(dice.random())) for number in range(LEAVERS)]
        in_threads(lambda chance: leave(slow_server, *chance), chances)
        wait_until(lambda: idle(slow_server))
        SLOW._read.clear()  # what the scripted model remembers is not the server's
        gc.collect()
        memory.append(psutil.Process().memory_info().rss / 2**20)
        # The library's pool for blocking calls has up to 40 threads, which it lets go when they are idle for long.
        threads.append(sum("AnyIO" not in thread.name for thread in threading.enumerate()))
    print(f"memory after each {LEAVERS} who left: {[round(each) for each in memory]} MiB; threads: {threads}")
    assert "Traceback" not in caplog.text
    assert threads[0] == threads[1] == threads[2]
    assert memory[2] - memory[1] < 15  # MiB; a request with all that belongs to it is about 0.2, so 100 were 20
    with slow_server.client() as client:
        reply = client.chat.completions.create(model="scripted", messages=[user("Hi")], max_completion_tokens=6)
    assert reply.choices[0].message.content == "A long"


def open_stream_by_hand(server, *, receive_buffer):
    """A connection that has asked for a long streamed reply and takes little at a time."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(server._address)
    request = {"model": "scripted", "messages": [user("Hi")], "stream": True, "logprobs": True, "top_logprobs": 20}
    body = json.dumps(request).encode()  # with so many logprobs, a reply is more than any buffer between the two holds
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return connection


def test_slow_readers_hold_nobody_up():
    model = ScriptedModel("A long story. " * 150)
    with chatlab.serve(model, settings=ServerSettings(side_by_side=2, send_timeout=60)) as server:
        readers = [open_stream_by_hand(server, receive_buffer=1024) for _ in range(3)]  # more than there are places
        for reader in readers:
            assert reader.recv(1)

        def ask(number):
            with server.client() as client:
                request = {"model": "scripted", "messages": [user(f"{number}")], "max_completion_tokens": 6}
                assert client.chat.completions.create(**request).choices[0].message.content == "A long"
                for reader in readers:
                    reader.recv(1)

        in_threads(ask, range(8))
        for reader in readers:  # they have read a few bytes of a megabyte each, and are still there
            assert reader.recv(1)
            reader.close()
        wait_until(lambda: idle(server))


def test_a_reader_that_stops_reading_is_dropped(slow_server, caplog):
    """Its place is free when its reply is complete or, as here, `send_timeout` after its buffers were full."""
    connection = open_stream_by_hand(slow_server, receive_buffer=1024)
    assert connection.recv(1)
    time.sleep(0.2)
    assert health(slow_server)["running"] == 1
    wait_until(lambda: idle(slow_server), seconds=30)
    connection.settimeout(10)
    received = b""
    with pytest.raises(ConnectionError):  # the connection was cut: it does not end with [DONE]
        while piece := connection.recv(65536):
            received += piece
        raise ConnectionError("closed")
    assert b"[DONE]" not in received
    connection.close()
    assert "left its stream unread" in caplog.text and "Traceback" not in caplog.text
