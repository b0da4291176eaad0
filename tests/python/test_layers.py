"""scripts/check_layers.py finds what it is there to find, and nothing else."""

import subprocess
import sys

import pytest

import check_layers


@pytest.fixture
def violations(tmp_path):
    """violations({path: text, ...}): what the check says of a checkout of these files."""

    def run(files):
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return [f"{path}:{line}: {message}" for path, line, message in check_layers.check(tmp_path)]

    return run


INCLUDES = [
    (
        '#include "engine/event_queue.h"',
        'cache includes "engine/event_queue.h" of the higher layer engine',
    ),
    ('#include "sim/command.h"', 'src/ includes "sim/command.h" of sim/'),
    ('#include "util/strings.h"', '"util/strings.h" names the unknown layer util'),
    ('#include "lru.h"', '"lru.h" does not name its layer'),
    ('#include "../core/ids.h"', 'relative include "../core/ids.h"; include paths start at src/'),
    (
        '#include "cache/../core/ids.h"',
        'relative include "cache/../core/ids.h"; include paths start at src/',
    ),
    ("#include <../core/ids.h>", 'relative include "../core/ids.h"; include paths start at src/'),
    (
        "  #  include <core/ids.h>",
        '<core/ids.h> is a header of the project; write "core/ids.h"',
    ),
]


@pytest.mark.parametrize(("include", "message"), INCLUDES)
def test_a_wrong_include_is_found(violations, include, message):
    files = {"src/core/ids.h": "", "src/cache/lru.cpp": f"// A comment.\n\n{include}\n"}
    assert violations(files) == [f"src/cache/lru.cpp:3: {message}"]


def test_the_order_has_no_exception(violations):
    """Each layer may include each one up to itself, and none after it."""
    for rank, layer in enumerate(check_layers.LAYERS):
        text = "".join(f'#include "{other}/a.h"\n' for other in check_layers.LAYERS)
        found = violations({f"src/{layer}/{layer}.h": text})
        ours = [line for line in found if line.startswith(f"src/{layer}/{layer}.h")]
        higher = check_layers.LAYERS[rank + 1 :]
        assert ours == [
            f'src/{layer}/{layer}.h:{rank + 2 + i}: {layer} includes "{other}/a.h" '
            f"of the higher layer {other}"
            for i, other in enumerate(higher)
        ]


def test_a_file_outside_the_layers_is_found(violations):
    found = violations({"src/util/strings.h": "", "src/loose.h": "", "src/CMakeLists.txt": ""})
    assert [line.split(";")[0] for line in found] == [
        "src/loose.h:1: not in a layer",
        "src/util/strings.h:1: not in a layer",
    ]


CALLS = [
    ("std::cout << 1;", "cout prints"),
    ("using namespace std; cerr << 1;", "cerr prints"),
    ('std::printf("%d", 1);', "printf prints"),
    ("puts(text);", "puts prints"),
    ("std::fprintf(stderr, text);", "fprintf prints"),
    ("std::fputs(\n    text, stdout);", "fputs prints"),
    ('fmt::print("{}", 1);', "print prints"),
    ("fmt::print(stderr, text);", "print prints"),
    ("std::exit(1);", "exit ends the program"),
    ("_exit (1);", "_exit ends the program"),
    ("abort();", "abort ends the program"),
    ("std::terminate();", "terminate ends the program"),
    ("auto t = std::chrono::steady_clock::now();", "steady_clock reads the wall clock"),
    ("clock_gettime(CLOCK_MONOTONIC, &t);", "clock_gettime reads the wall clock"),
]


@pytest.mark.parametrize(("statement", "message"), CALLS)
def test_a_library_that_prints_or_ends_is_found(violations, statement, message):
    found = violations({"src/core/a.cpp": f"void f() {{\n  {statement}\n}}\n"})
    assert [line.split(";")[0] for line in found] == [f"src/core/a.cpp:2: {message}"]


CLEAN = """\
// Never calls exit() nor std::cout; see "engine/run.h".
/* abort();
   #include "engine/run.h" */
#include <nlohmann/json.hpp>
#include "core/ids.h"
constexpr int kTokens = 1'000'000; char quote = '"';
std::string text = "exit( std::cout \\" abort()"; auto raw = R"(puts("a"))";
void f(std::ostream& out) { run.exit(); graph->abort(); on_exit(); std::snprintf(b, 1, "x"); }
void g(std::ostream& out) { fmt::print(out, "{}", 1); std::fwrite(b, 1, 2, file); }
"""


def test_what_only_looks_like_it_is_left_alone(violations):
    assert violations({"src/cache/a.cpp": CLEAN}) == []


def test_only_the_layers_that_time_real_work_read_the_clock(violations):
    files = {f"src/{layer}/a.cpp": "steady_clock::now();\n" for layer in ("kernels", "calibration")}
    assert violations(files) == []


def test_sim_may_print_and_include_any_layer_but_not_relatively(violations):
    text = '#include "command.h"\n#include "api/api.h"\n#include "../src/core/ids.h"\nexit(1);\n'
    assert violations({"sim/main.cpp": text}) == [
        'sim/main.cpp:3: relative include "../src/core/ids.h"; include paths start at src/'
    ]


@pytest.mark.parametrize(
    ("text", "status", "output"),
    [
        ("", 0, "layers in order: core config "),
        ("\nabort();\n", 1, "src/core/a.h:2: abort ends the program; only sim/ does\n"),
    ],
)
def test_the_program_says_where_and_fails(tmp_path, repo_root, text, status, output):
    (tmp_path / "src/core").mkdir(parents=True)
    (tmp_path / "src/core/a.h").write_text(text)
    script = repo_root / "scripts/check_layers.py"
    result = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (status, "")
    assert result.stdout.startswith(output)
