"""Sweeps on a real Ray cluster of two nodes: the same table, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import psutil
import pytest
from ray_cluster import two_nodes

import chatlab
from chatlab.experiments.rows import RowsFile
from chatlab.testing import ScriptedModel

PROMPTS = ["What is the capital of France?", "Tell me a joke."]
SLOW = {"temperature": [0.5, 1], "seeds": 12, "progress": False}  # three batches


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as cluster:
        yield cluster


def slow_model():
    return ScriptedModel("Hello, world!", seconds_per_token=0.02)


def working() -> list[psutil.Process]:
    """Return Ray's workers that are making replies right now."""
    return [
        each for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [""])[0].startswith("ray::_batch")
    ]


def when(condition, do):
    """Do something in a thread as soon as a condition holds; return the thread."""

    def wait():
        until = time.monotonic() + 60
        while not condition() and time.monotonic() < until:
            time.sleep(0.02)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_the_table_is_that_of_one_process(cluster, model):
    """On the real model, to the last bit; each worker has loaded it once."""
    options = {"temperature": [0, 1.2], "seeds": 5, "max_completion_tokens": 5, "progress": False, "store": False}
    there = chatlab.sweep(PROMPTS, model, cluster=cluster.address, **options)
    here = chatlab.sweep(PROMPTS, model, **options)
    pd.testing.assert_frame_equal(there.table, here.table, check_exact=True)


def test_a_killed_worker_loses_no_row(cluster, tmp_path):
    store, killed = tmp_path / "rows.jsonl", []

    def kill():
        killed.extend(each.pid for each in working()[:1])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    killer = when(lambda: store.exists() and working(), kill)
    sweep = chatlab.sweep("Hi", slow_model(), cluster=cluster.address, store=store, **SLOW)
    killer.join()
    assert len(killed) == 1 and not psutil.pid_exists(killed[0])
    assert sweep.missing == 0 and len(RowsFile(store).read()) == 24
    pd.testing.assert_frame_equal(
        sweep.table, chatlab.sweep("Hi", ScriptedModel("Hello, world!"), store=False, **SLOW).table
    )


def test_a_node_that_goes_loses_no_row(cluster, tmp_path):
    import ray

    node, store = next(iter(cluster.worker_nodes)), tmp_path / "rows.jsonl"
    remover = when(store.exists, lambda: cluster.remove_node(node, allow_graceful=False))
    sweep = chatlab.sweep("Hi", slow_model(), cluster=cluster.address, store=store, **SLOW)
    remover.join()
    assert ray.cluster_resources()["CPU"] == 1, "the node has gone"
    assert sweep.missing == 0 and len(RowsFile(store).read()) == 24


def test_what_a_cluster_cannot_do_is_told(cluster):
    with pytest.raises(chatlab.BadRequestError, match="is on a server"):
        chatlab.sweep("Hi", chatlab.connect("http://127.0.0.1:1", model="x"), cluster=cluster.address, store=False)


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
