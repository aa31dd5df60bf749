"""The questions that the interpreter which trains is asked, really asked of interpreters of this machine."""

import importlib.util
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from cpadvisor.doctor import libraries_child
from cpadvisor.doctor.facts import MachineFacts
from cpadvisor.doctor.gathering import gather_libraries
from cpadvisor.doctor.library_checks import library_checks

HAS_TORCH = importlib.util.find_spec("torch") is not None
CHILD = libraries_child.__file__


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """An interpreter with the standard library alone."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    return str(folder / "bin" / "python")


def rules(facts):
    return {one.rule: one for one in library_checks(MachineFacts(libraries=facts))}


@pytest.mark.skipif(not HAS_TORCH, reason="this interpreter has no torch")
def test_this_interpreter_is_asked_and_answers():
    facts = gather_libraries(sys.executable, environ=os.environ)
    assert facts.torch.data is not None, facts.torch.why
    found = rules(facts)
    assert found["torch"].severity == "ok"
    assert str(facts.torch.data["version"]) in found["torch"].title
    assert "of 90 s" in found["torch"].evidence
    assert found["safetensors"].severity == "ok"


def test_an_interpreter_without_torch_is_told_with_the_command_that_installs_it(bare_python):
    facts = gather_libraries(bare_python, environ=os.environ)
    assert facts.python is None
    torch = rules(facts)["torch"]
    assert torch.severity == "warning", "a machine without a GPU may be there to plan"
    assert f"{bare_python}: has no torch" in torch.evidence
    assert any("cpadvisor[train]" in (mend.command or "") for mend in torch.mends)


def test_the_child_runs_where_neither_cpadvisor_nor_torch_is(bare_python):
    done = subprocess.run(
        [bare_python, CHILD, "installed", "torch", "json"], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["modules"] == ["json"]
    assert answer["python"].startswith("3.")


def test_a_module_that_breaks_on_import_is_told_by_its_own_words(bare_python, tmp_path):
    package = tmp_path / "flash_attn" / "cute"
    package.mkdir(parents=True)
    (tmp_path / "flash_attn" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("raise ImportError('undefined symbol: _ZN3c10')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    asked = [bare_python, CHILD]
    found = subprocess.run(
        [*asked, "installed", "flash_attn.cute", "flash_attn.none"], capture_output=True, env=env, check=True
    )
    assert json.loads(found.stdout.splitlines()[-1])["modules"] == ["flash_attn.cute"], "found without an import"
    broken = subprocess.run(
        [*asked, "import", "flash_attn.cute", "flash_attn_func"], capture_output=True, text=True, env=env, check=False
    )
    assert broken.returncode != 0
    assert "undefined symbol" in broken.stderr


def test_the_libraries_that_a_process_really_holds_are_read_from_its_map(tmp_path):
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 1  /usr/lib/x86_64-linux-gnu/libcudnn.so.9.1.0\n"
        "7f02-7f03 r-xp 00000000 08:01 2  /venv/lib/nvidia/cudnn/lib/libcudnn_graph.so.9\n"
        "7f04-7f05 r-xp 00000000 08:01 3  /venv/lib/nvidia/nccl/lib/libnccl.so.2\n"
        "7f06-7f07 rw-p 00000000 00:00 0  [heap]\n"
    )
    assert libraries_child.loaded_libraries(str(maps)) == {
        "cudnn": "/usr/lib/x86_64-linux-gnu/libcudnn.so.9.1.0",
        "nccl": "/venv/lib/nvidia/nccl/lib/libnccl.so.2",
    }


def test_the_child_needs_the_standard_library_alone():
    done = subprocess.run([sys.executable, "-S", "-I", CHILD, "installed"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["modules"] == []
    assert "import cpadvisor" not in Path(CHILD).read_text()


@pytest.mark.parametrize("number", ["250", "none"])
def test_a_lifeline_that_a_wrapper_of_the_interpreter_has_closed_is_done_without(number):
    env = {**os.environ, libraries_child.LIFELINE: number}
    done = subprocess.run([sys.executable, CHILD, "installed"], capture_output=True, text=True, env=env, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["modules"] == []
