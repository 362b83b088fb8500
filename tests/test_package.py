"""The package as a whole: its public names, its import direction, its examples, its style, its metadata."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chatlab

ROOT = Path(__file__).parent.parent
PACKAGE = Path(chatlab.__file__).parent
MODULES = sorted(info.name for info in pkgutil.walk_packages([str(PACKAGE)], "chatlab."))
DOING = ("chatlab.__main__", "chatlab.classroom.preloaded")  # run the command line, or load the model, when imported
IMPORTABLE = [name for name in MODULES if name not in DOING]

# A module for each topic of the course: they stand side by side.
TOPICS = [
    f"{folder}.{path.stem}"
    for folder in ("evidence", "cases")
    for path in sorted((PACKAGE / folder).glob("*.py"))
    if path.stem not in ("__init__", "common")
]

# Each module may import only from those before it: the order in which one turn of a chat flows.
LAYERS = [
    "garbage",
    "errors",
    "interruption",
    "cluster",
    "checks",
    "files",
    "time_limits",
    "display",
    "markdown",
    "weights",
    "weights.home",
    "weights.hub",
    "weights.inventory",
    "weights.download",
    "weights.gguf_tokenizer",
    "course",
    "records",
    "loops.sizes",
    "loops.processor",
    "loops.arrays",
    "loops.lanes",
    "loops.parts",
    "loops.products",
    "loops.attention",
    "loops.layers",
    "loops.building",
    "loops.object_file",
    "loops",
    "team",
    "kernels",
    "linear",
    "kv_memory",
    "llama",
    "weights.packed",
    "weights.gguf",
    "weights.conversion",
    "engines",
    "prefixes",
    "chat_model",
    "threads",
    "transformers_model",
    "llama_model",
    "model",
    "cluster_model",
    "messages",
    "tool_messages",
    "spans",
    "promptview",
    "chat_templates",
    "templating",
    "detokenizer",
    "byte_pairs",
    "encodings",
    "token_table",
    "tokens",
    "prices",
    "findings",
    "readings",
    "linting",
    "sampling",
    "steps",
    "logprobs",
    "constraints",
    "schemas",
    "response_formats",
    "reading",
    "stop_strings",
    "generation",
    "tools",
    "tool_calls",
    "requests",
    "parameters",
    "choices",
    "chunks",
    "streaming",
    "remote_answers",
    "remote_stream",
    "remote",
    "completions",
    "fitted",
    "summaries",
    "context",
    "conversation",
    "testing",
    "plots.figures",
    "plots.facets",
    "plots.budget",
    "plots.calibration",
    "plots.sampling",
    "plots.reply",
    "prediction",
    "draws",
    "samples",
    "scoring",
    "tracing",
    "turn",
    "anatomy",
    "kv_cache",
    "forward",
    "plots.forward",
    "plots",
    "experiments.metrics",
    "experiments.grid",
    "experiments.rows",
    "experiments.making",
    "experiments.on_cluster",
    "experiments.comparing",
    "experiments.sweeps",
    "experiments",
    "transcripts",
    "magics",
    "server.api_keys",
    "server.usage",
    "server.settings",
    "server.scheduler",
    "server.budgets",
    "server.metrics",
    "server.answers",
    "server.guard",
    "server.documentation",
    "server.room",
    "server.app",
    "server.running",
    "server.replicas",
    "server",
    "snippets",
    "questions.question",
    "authoring",
    "questions.question_schema",
    "questions.question_files",
    "questions.given",
    "questions.evidence",
    "questions.verdict",
    "questions.placements",
    "guesses",
    "confidence",
    "exercises.case",
    "exercises.exercise",
    "exercises.task_files",
    "progress",
    "recall",
    "review",
    "questions.quizzes",
    "questions.placement_test",
    "questions",
    "exercises.exercises",
    "exercises.notebooks",
    "exercises",
    "evidence.common",
    *TOPICS,
    "evidence",
    "cases",
    "panels.page_scripts",
    "panels.in_order",
    "panels.panel",
    "panels.saved",
    "panels.message_box",
    "panels.chat_log",
    "panels.chat_progress",
    "panels.chat_settings",
    "panels.chat_export",
    "panels.chat",
    "panels.compare",
    "panels.sampling",
    "panels.asking",
    "panels.garden",
    "panels.context",
    "panels.message_fields",
    "panels.tokens",
    "panels.template",
    "panels.token_row",
    "panels.rooms",
    "panels.glass_box",
    "panels.guess",
    "panels.receipts",
    "panels.stream",
    "panels.answer_fields",
    "panels.quiz",
    "panels.progress",
    "panels.recall",
    "panels",
    "terminal",
    "benchmark.peers",
    "benchmark.measures",
    "benchmark.report",
    "benchmark",
    "lab",
    "classroom.rebuilding",
    "classroom.preloaded",
    "classroom.forked_kernels",
    "classroom.execution",
    "classroom.on_cluster",
    "classroom.grading_steps",
    "classroom.classroom",
    "classroom",
    "classroom_commands",
    "learner_commands",
    "key_commands",
    "cli",
    "__main__",
]


def test_public_names():
    assert chatlab.__all__ == sorted(chatlab.__all__)
    assert set(chatlab.__all__) == set(chatlab._HOME)
    for name in chatlab.__all__:
        assert getattr(chatlab, name).__module__ == f"chatlab.{chatlab._HOME[name]}"
        assert name in importlib.import_module(f"chatlab.{chatlab._HOME[name]}").__all__
        assert name in dir(chatlab)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        chatlab.nonsense  # noqa: B018


@pytest.mark.parametrize("name", [name for name in IMPORTABLE if name != "chatlab.weights"])
def test_all_lists_what_a_module_offers(name):
    module = importlib.import_module(name)
    assert all(hasattr(module, public) for public in module.__all__)


def test_every_module_has_its_place():
    assert sorted(f"chatlab.{name}" for name in LAYERS) == MODULES


@pytest.mark.parametrize("position", range(len(LAYERS)), ids=LAYERS)
def test_imports_go_one_way(position):
    path = PACKAGE / (LAYERS[position].replace(".", "/") + ".py")
    path = path if path.exists() else path.with_suffix("") / "__init__.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chatlab"):
            parents = [node.module.removeprefix("chatlab").removeprefix(".")]
            names = [".".join(filter(None, [*parents, alias.name])) for alias in node.names]
            for imported in [name if name in LAYERS else parents[0] for name in names]:
                if imported:
                    assert imported in LAYERS[:position], f"{path.name} imports {imported}, which comes after it"


@pytest.mark.parametrize("name", IMPORTABLE)
def test_examples_run(name, model):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in IMPORTABLE for test in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in tests) > 60


def test_modules_can_be_looked_at_without_importing_them_first():
    code = "import chatlab; print(chatlab.messages.__name__, chatlab.panels.__name__)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert output == "chatlab.messages chatlab.panels\n"


def test_import_is_free_of_torch():
    code = "import sys, chatlab; print([name for name in ('torch', 'transformers', 'openai') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_modules_open_with_what_comes_in_and_what_goes_out():
    for name in IMPORTABLE:
        documentation = " ".join((importlib.import_module(name).__doc__ or "").split())
        if name not in ("chatlab.panels", "chatlab.plots", "chatlab.server"):
            assert "In: " in documentation and "Out: " in documentation and "nows nothing" in documentation, name


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_style(command):
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_conda_environment_installs_what_pyproject_says():
    """No package is named a second time, so nothing can drift apart."""
    text = (ROOT / "environment.yml").read_text()
    assert re.findall(r"^ +- (.+)$", text, re.MULTILINE) == ["conda-forge", "python=3.12", "pip", "pip:", '".[test]"']


def test_readme_opens_with_the_two_commands():
    commands = re.findall(r"```(?:bash|sh)\n(.+?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    tested = "python -m pip install '.[test]' && pytest --numprocesses=2 --dist=loadfile"
    assert commands[:2] == ["python -m pip install . && chatlab lab", tested]
    assert commands[1] in (ROOT / ".ci/run").read_text()
