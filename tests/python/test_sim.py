"""The outside of the program: streams and exit status."""


def test_help_goes_to_stdout(run_sim):
    result = run_sim("--help")
    assert result.returncode == 0
    assert result.stdout
    assert result.stderr == ""


def test_a_usage_mistake_is_one_line_and_status_2(run_sim):
    result = run_sim("no-such-command")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("sim: error: ")
    assert result.stderr.count("\n") == 1
