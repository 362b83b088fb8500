"""Sweeps on a real Ray cluster of two nodes: the same table, whoever is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pandas as pd
import psutil
import pytest
import ray
from ray_cluster import two_nodes, when, working

import chatlab
from chatlab.cluster import connect_ray
from chatlab.errors import ClusterError
from chatlab.experiments.rows import RowsFile
from chatlab.server import ServerSettings
from chatlab.server.replicas import serve_replicas
from chatlab.testing import ScriptedModel

PROMPTS = ["What is the capital of France?", "Tell me a joke."]
SLOW = {"temperature": [0.5, 1], "seeds": 12, "progress": False}  # three batches


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as cluster:
        yield cluster


def slow_model():
    return ScriptedModel("Hello, world!", seconds_per_token=0.02)


def test_the_table_is_that_of_one_process(cluster, model):
    """On the real model, to the last bit; each worker has loaded it once."""
    options = {"temperature": [0, 1.2], "seeds": 5, "max_completion_tokens": 5, "progress": False, "store": False}
    there = chatlab.sweep(PROMPTS, model, cluster=cluster.address, **options)
    here = chatlab.sweep(PROMPTS, model, **options)
    pd.testing.assert_frame_equal(there.table, here.table, check_exact=True)


def test_a_killed_worker_loses_no_row(cluster, tmp_path):
    store, killed = tmp_path / "rows.jsonl", []

    def kill(workers):
        killed.append(workers[0].pid)
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = when(lambda: store.exists() and working("_batch"), kill)
    sweep = chatlab.sweep("Hi", slow_model(), cluster=cluster.address, store=store, **SLOW)
    killer.join()
    assert len(killed) == 1 and not psutil.pid_exists(killed[0])
    assert sweep.missing == 0 and len(RowsFile(store).read()) == 24
    pd.testing.assert_frame_equal(
        sweep.table, chatlab.sweep("Hi", ScriptedModel("Hello, world!"), store=False, **SLOW).table
    )


def ask(client, number):
    messages = [chatlab.user(f"Hello {number}")]
    asked = client.chat.completions.create(model="scripted", messages=messages, max_completion_tokens=13)
    return asked.choices[0].message.content


def replica_processes():
    return [each for each in psutil.process_iter(["cmdline"]) if "ServeReplica" in "".join(each.info["cmdline"] or [])]


@pytest.fixture(scope="class")  # while they are there, no core is free for anything else
def replicas(cluster):
    """Two replicas of a model whose reply takes a minute, unless one asks for less."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    model = ScriptedModel("Hello, world!" * 45, seconds_per_token=0.1)
    settings = ServerSettings(port=port, api_keys=("secret",), side_by_side=2)
    with serve_replicas(model, settings, replicas=2, cluster=cluster.address) as server:
        yield server


class TestReplicas:
    def test_they_answer_as_one_server_and_a_killed_one_loses_no_request(self, replicas):
        """The one that is killed is in the middle of replies; the official client asks again by itself."""
        client = replicas.client().with_options(max_retries=5)
        assert client.models.list().data[0].id == "scripted"
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()
        processes = replica_processes()
        assert len(processes) == 2
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, client, number) for number in range(12)]
            time.sleep(1)
            processes[0].kill()
            assert [each.result(120) for each in asked] == ["Hello, world!"] * 12
        assert any(not each.is_running() for each in processes)

    def test_a_stream_of_a_killed_one_ends_in_an_error_and_never_as_if_it_were_complete(self, replicas):
        """For the official client, for chatlab's own, and in the bytes; what is asked next is answered."""
        client, asked = replicas.client(), {"model": "scripted", "messages": [chatlab.user("Hi")], "stream": True}
        whole = client.chat.completions.create(**asked, max_completion_tokens=13)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in whole) == "Hello, world!"

        address = f"{replicas.base_url}/chat/completions"
        headers = {"Authorization": f"Bearer {client.api_key}"}
        connected = chatlab.connect(replicas.base_url, model="scripted", api_key=client.api_key)
        with httpx2.stream("POST", address, json=asked, headers=headers, trust_env=False, timeout=60) as response:
            streams = [
                (client.chat.completions.create(**asked), openai.APIConnectionError),
                (chatlab.chat_completions(asked["messages"], connected, stream=True), chatlab.APIConnectionError),
                (response.iter_lines(), httpx2.RemoteProtocolError),
            ]
            begun = [[next(stream)] for stream, _ in streams]
            for each in replica_processes():
                each.kill()
            for (stream, error), seen in zip(streams, begun, strict=True):
                with pytest.raises(error):
                    seen.extend(stream)
        *chunks, lines = begun
        assert all(chunk.choices[0].finish_reason is None for seen in chunks for chunk in seen)
        assert not any("[DONE]" in line or '"finish_reason":"' in line for line in lines)
        assert ask(client, 0) == "Hello, world!"


def test_what_a_cluster_cannot_do_is_told(cluster):
    with pytest.raises(chatlab.BadRequestError, match="is on a server"):
        chatlab.sweep("Hi", chatlab.connect("http://127.0.0.1:1", model="x"), cluster=cluster.address, store=False)


def test_a_node_that_goes_loses_no_row(cluster, tmp_path):
    node, store = next(iter(cluster.worker_nodes)), tmp_path / "rows.jsonl"
    there = []

    def remove(_):
        there.append(len(RowsFile(store).read()))
        cluster.remove_node(node, allow_graceful=False)

    remover = when(store.exists, remove)
    sweep = chatlab.sweep("Hi", slow_model(), cluster=cluster.address, store=store, **SLOW)
    remover.join()
    assert 0 < there[0] < 24, "it went in the middle"
    until = time.monotonic() + 60
    while ray.cluster_resources()["CPU"] > 1 and time.monotonic() < until:
        time.sleep(0.1)
    assert ray.cluster_resources()["CPU"] == 1
    assert sweep.missing == 0 and len(RowsFile(store).read()) == 24


def test_replicas_refuse_a_key_file_since_its_budgets_are_counted_in_one_process(tmp_path):
    settings = ServerSettings(port=1, key_file=tmp_path / "api-keys.yaml")
    with pytest.raises(ClusterError, match="leave --replicas out"):
        serve_replicas(ScriptedModel("Hi"), settings, replicas=2)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (Exception("The node timed out during startup."), "Ray did not start: The node timed out.* less busy"),
        (ConnectionError("No head."), "no Ray cluster at 'here:1': No head. Start one with `ray start --head`"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_plainly(monkeypatch, raised, said):
    def init(**options):
        raise raised

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ClusterError, match=said):
        connect_ray("here:1")


def test_without_ray_the_error_says_how_to_get_it():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import chatlab; from chatlab.testing import ScriptedModel\n"
        "chatlab.sweep('Hi', ScriptedModel('Hello!'), store=False, progress=False)\n"
        "chatlab.sweep('Hi', ScriptedModel('Hello!'), store=False, progress=False, cluster='local')"
    )
    error = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert error.splitlines()[-1] == (
        "chatlab.errors.ClusterError: This needs Ray, which is not installed: pip install 'chatlab-classroom[cluster]'"
    )
