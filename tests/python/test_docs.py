"""Every command in the documentation runs: each fenced block whose info string starts with `sh`.
What `text` blocks show below a line `$ COMMAND` is what the command prints. So do the `python` blocks,
each as a program of its own, which prints what a `text` block right behind it shows.

The blocks of a document run in their order, in one scratch copy of what the commands use, with `sim`
on PATH. The info string may add a word: `sh data` needs third-party data and skips where
MOESIM_DATA_DIR is not set; `sh no-run` is not run, which NO_RUN must give a reason for.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import REPOSITORY

COPIED = ["README.md", "configs", "docs", "scripts", "traces"]
# What a command that is not run may start with, and why it is not run.
NO_RUN = {
    "git clone ": "fetches the project",
    "cd ": "into the clone",
    "sudo apt-get ": "installs packages",
    "scripts/install_dependencies.sh": "installs packages",
    "scripts/quickstart.sh": "installs packages and builds",
    "scripts/test.sh": "runs these tests",
    "sim calibrate ": "measures this machine, and takes a minute or more",
    "sim validate --config ": "decodes for real, with a file of 3 GiB",
    "scripts/validate_machine.py ": "measures this machine for many minutes",
    "scripts/report_picture.py ": "needs a browser",
    "scripts/bench.sh": "builds, and takes minutes",
    "dask-scheduler ": "serves a cluster until it is stopped",
    "dask-worker ": "serves a cluster until it is stopped",
    "scripts/sweep.py --scheduler ": "needs a cluster",
    "scripts/sweep_slurm.sh ": "needs Slurm",
    "scripts/record_trace.py allenai/": "fetches a model",
    "cmake ": "builds",
    "ctest ": "runs these tests",
    "python3 -m venv ": "makes an environment in the home folder",
    "~/moesim/bin/pip install ": "installs into that environment",
}
OTHER_SHELLS = {"bash", "shell", "console", "zsh", "shell-session"}
FENCE = re.compile(r"^ *(```+|~~~+) *(.*?) *$")


class Block(NamedTuple):
    document: Path
    line: int  # of the opening fence, from 1
    info: list
    text: str


def fenced_blocks(document):
    """The fenced blocks of a Markdown file, in order."""
    blocks, fence, start, info, lines = [], None, 0, [], []
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        match = FENCE.match(line)
        if fence is None:
            if match:
                fence, start, info, lines = match[1], number, match[2].split(), []
        elif match and match[1].startswith(fence) and not match[2]:
            blocks.append(Block(document, start, info, "\n".join(lines) + "\n"))
            fence = None
        else:
            lines.append(line)
    if fence is not None:
        raise ValueError(f"{document}:{start}: a fence that is not closed")
    return blocks


def documents():
    return [
        file
        for file in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
        if file.is_file()
    ]


def commands(text):
    """The commands of a block: lines, without comments, continued ones joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def why_not_run(command):
    return next((reason for start, reason in NO_RUN.items() if command.startswith(start)), None)


def environment(checkout):
    return {
        **os.environ,
        "PATH": f"{checkout / 'build/release/bin'}:/usr/bin:/bin:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(checkout / "build/release/python"),
    }


def make_checkout(folder, sim):
    """What a reader's checkout holds once quickstart.sh has run, and ../shared beside it."""
    checkout = folder / "moesim"
    (checkout / "build/release/bin").mkdir(parents=True)
    (checkout / "build/release/bin/sim").symlink_to(sim)
    (checkout / "build/release/python").symlink_to(sim.parents[1] / "python")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, checkout / name)
        elif source.is_file():
            shutil.copy2(source, checkout / name)
    if os.environ.get("MOESIM_DATA_DIR"):
        (folder / "shared").symlink_to(os.environ["MOESIM_DATA_DIR"])
    return checkout


def run_block(block, checkout):
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=checkout,
        env=environment(checkout),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def checkout_of(tmp_path_factory, sim):
    """checkout_of(document): the scratch checkout that the blocks of this document share."""
    checkouts = {}

    def get(document):
        if document not in checkouts:
            checkouts[document] = make_checkout(tmp_path_factory.mktemp("docs"), sim)
        return checkouts[document]

    return get


ALL_BLOCKS = [block for document in documents() for block in fenced_blocks(document)]
SH_BLOCKS = [block for block in ALL_BLOCKS if block.info[:1] == ["sh"]]


def name_of(block):
    return f"{block.document.relative_to(REPOSITORY)}:{block.line}"


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, id=name_of(b)) for b in SH_BLOCKS if b.info[1:] != ["no-run"]],
)
def test_the_commands_run(block, checkout_of):
    if block.info[1:] == ["data"] and not os.environ.get("MOESIM_DATA_DIR"):
        pytest.skip("MOESIM_DATA_DIR is not set")
    result = run_block(block, checkout_of(block.document))
    assert result.returncode == 0, f"{name_of(block)}\n{result.stdout}\n{result.stderr}"


def programs():
    """The python blocks, each with the text block behind it, or None."""
    for block, behind in zip(ALL_BLOCKS, [*ALL_BLOCKS[1:], None], strict=True):
        if block.info[:1] == ["python"]:
            shows = behind and behind.document == block.document and behind.info[:1] == ["text"]
            yield pytest.param(block, behind.text if shows else None, id=name_of(block))


@pytest.mark.parametrize(("block", "shown"), programs())
def test_a_python_program_prints_what_is_shown_behind_it(block, shown, checkout_of, package_path):
    result = run_block(
        block._replace(text=f"{sys.executable} - <<'END'\n{block.text}END\n"),
        checkout_of(block.document),
    )
    assert (result.returncode, result.stderr) == (0, ""), name_of(block)
    assert shown is None or result.stdout == shown


# A block that shows a run of `configs/phone.json` without the continuation of the line `recorded`.
PHONE = "olmoe-1b-7b on oneplus-15r\n"


def without_provenance(summary):
    """A summary without the lines that follow `recorded`, and these lines."""
    kept, left_out, label = [], [], ""
    for line in summary.splitlines(keepends=True):
        label = line[:17].strip() or label
        (left_out if label == "recorded" and not line[:17].strip() else kept).append(line)
    return "".join(kept), left_out


def test_the_first_example_of_the_readme_is_what_the_program_prints(run_sim):
    shown = [b.text for b in fenced_blocks(REPOSITORY / "README.md") if b.text.startswith(PHONE)]
    assert len(shown) == 1
    result = run_sim("--config", "configs/phone.json")
    assert result.returncode == 0, result.stderr
    printed, left_out = without_provenance(result.stdout)
    assert shown == [printed]
    assert len(left_out) == 2  # as the README says


def transcript(block):
    """The commands of a block that begin with `$ `, each with the lines that it shows below."""
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


SHOWN_RUNS = [
    pytest.param(block, command, output, id=f"{name_of(block)}-{number}")
    for block in ALL_BLOCKS
    if block.info[:1] == ["text"]
    for number, (command, output) in enumerate(transcript(block), 1)
]


@pytest.mark.parametrize(("block", "command", "output"), SHOWN_RUNS)
def test_a_command_prints_the_lines_shown_below_it(block, command, output, checkout_of):
    result = run_block(block._replace(text=command), checkout_of(block.document))
    assert result.stdout + result.stderr == output
    if output.startswith("sim: error: "):
        assert (result.returncode, result.stdout) == (2, "")


def test_commands_are_found_with_what_they_show(tmp_path):
    block = Block(tmp_path, 1, ["text"], "above\n$ sim a\none\ntwo\n$ sim b $c\n")
    assert transcript(block) == [("sim a", "one\ntwo\n"), ("sim b $c", "")]
    errors = [shown for shown in SHOWN_RUNS if shown.id.startswith("docs/config.md")]
    assert len(errors) >= 8


def complaints(block):
    """What is wrong with how a block is marked."""
    if block.info and block.info[0] in OTHER_SHELLS:
        return [f"write sh instead of {block.info[0]}, so that it is run"]
    if block.info[:1] != ["sh"]:
        return []
    if block.info[1:] not in ([], ["data"], ["no-run"]):
        return [f"unknown mark {' '.join(block.info[1:])}; known: data, no-run"]
    if block.info[1:] == ["no-run"]:
        return [
            f"no reason in NO_RUN not to run: {line}"
            for line in commands(block.text)
            if why_not_run(line) is None
        ]
    return []


def test_every_block_is_marked_right():
    found = [f"{name_of(block)}: {text}" for block in ALL_BLOCKS for text in complaints(block)]
    assert found == []


PLANTED = """\
Text.

```sh
sim --help >help.txt
test -s help.txt
```

```sh no-run
# Installs.
sudo apt-get install \\
  cmake
rm -r build
```

~~~text
```sh
never run
```
~~~

```bash
false
```

```sh
build/release/bin/sim --help | cmp - help.txt
false
exit 0
```
"""


@pytest.fixture
def planted(tmp_path):
    document = tmp_path / "page.md"
    document.write_text(PLANTED)
    return fenced_blocks(document)


def test_blocks_are_found(planted):
    assert [(block.line, block.info) for block in planted] == [
        (3, ["sh"]),
        (8, ["sh", "no-run"]),
        (15, ["text"]),
        (21, ["bash"]),
        (25, ["sh"]),
    ]
    assert planted[0].text == "sim --help >help.txt\ntest -s help.txt\n"


def test_blocks_of_a_document_share_a_checkout_and_a_failing_command_is_seen(
    planted, tmp_path, sim
):
    checkout = make_checkout(tmp_path, sim)
    assert run_block(planted[0], checkout).returncode == 0
    last = run_block(planted[-1], checkout)
    assert (last.returncode, last.stderr) == (1, "")


def test_wrong_marks_are_found(planted, tmp_path):
    assert [complaints(block) for block in planted] == [
        [],
        ["no reason in NO_RUN not to run: rm -r build"],
        [],
        ["write sh instead of bash, so that it is run"],
        [],
    ]
    assert complaints(Block(tmp_path, 1, ["sh", "norun"], "")) == [
        "unknown mark norun; known: data, no-run"
    ]


def test_a_fence_that_is_not_closed_is_an_error(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("a\n```sh\nb\n")
    with pytest.raises(ValueError, match="page.md:2: a fence that is not closed"):
        fenced_blocks(document)
