"""What a new file changes."""

from cpadvisor.write.diff import unified_diff


def test_a_changed_size_is_one_line_out_and_one_in():
    old = "a: 1\ncontext_parallel_size: 2\n"
    assert unified_diff(old, old.replace("2", "4"), name="c.yaml").splitlines() == [
        "--- c.yaml",
        "+++ c.yaml",
        "@@ -1,2 +1,2 @@",
        " a: 1",
        "-context_parallel_size: 2",
        "+context_parallel_size: 4",
    ]


def test_a_new_file_is_all_additions_to_nothing():
    assert unified_diff("", "a: 1\n", name="c.yaml").splitlines()[0] == "--- /dev/null"


def test_the_same_text_has_no_difference():
    assert unified_diff("a: 1\n", "a: 1\n") == ""
