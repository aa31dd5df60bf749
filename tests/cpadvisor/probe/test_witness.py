import sys

from cpadvisor.node import Gpu, Node
from cpadvisor.probe.witness import Witness, compare

MATRIX = r"\tGPU0\tGPU1\tNIC0\tCPU Affinity\nGPU0\t X \tNV4\tPIX\t0-7\nGPU1\tNV4\t X \tSYS\t8-15\n"


def run(code, *, timeout_s=30.0):
    return Witness.start((sys.executable, "-c", code), timeout_s=timeout_s).node()


def pair(code):
    return Node(name="here", source="nvml", gpus=(Gpu(index=0), Gpu(index=1)), links=((None, code), (code, None)))


def test_the_output_of_the_command_becomes_a_node():
    shown = run(f"print('{MATRIX}')")
    assert isinstance(shown, Node) and shown.links[0][1] == "NV4"


def test_a_failing_command_is_quoted_with_its_status():
    said = run("import sys; print('Failed to run topology matrix', file=sys.stderr); sys.exit(255)")
    assert said == "nvidia-smi topo -m failed with status 255 (Failed to run topology matrix): NICs are not known"


def test_a_command_that_hangs_is_ended():
    assert "gave no answer in 0 s" in str(run("import time; time.sleep(60)", timeout_s=0.2))


def test_a_command_that_is_not_installed_or_prints_nonsense_is_a_sentence():
    assert "not installed" in str(Witness.start(("nvidia-smi-of-no-machine",)).node())
    assert "no topology matrix" in str(run("print('hello')"))


def test_closing_ends_a_command_that_still_runs():
    witness = Witness.start((sys.executable, "-c", "import time; time.sleep(60)"))
    witness.close()
    assert "failed with status -9" in str(witness.node())


def test_affinities_and_links_that_nvml_lacks_are_filled_in():
    shown = run(f"print('{MATRIX}')")
    node = compare(pair(None), shown)
    assert node.links[0][1] == "NV4"
    assert [gpu.cpus for gpu in node.gpus] == ["0-7", "8-15"]
    assert node.nics[0].links == ("PIX", "SYS")
    assert node.warnings == ()


def test_a_gpu_that_the_command_does_not_show_is_named():
    shown = run(r"print('\tGPU0\nGPU0\t X \n')")
    assert "does not show GPU1" in compare(pair("NV4"), shown).warnings[0]
