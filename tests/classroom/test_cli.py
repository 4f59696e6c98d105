"""The `coursekit` command starts fast, works from any folder, and says clearly what is wrong."""

import builtins
import dataclasses
import json
import os
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner

from classroom.cli import main
from classroom.publish import claims as publish_claims
from classroom.publish import runs
from classroom.publish.endings import EXTRA_OF, STATUSES
from classroom.records.claim import claim
from coursekit.memory.fit import fits
from coursekit.memory.planner import Plan, estimate

COMMANDS = ("build", "check", "claims", "doctor", "plan", "run", "slides")


@pytest.fixture
def coursekit(monkeypatch):
    """coursekit("run", "demo", cwd=folder) is the command's result: exit_code, output."""

    def call(*arguments, cwd):
        monkeypatch.chdir(cwd)
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return call


@pytest.mark.parametrize(
    "arguments", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=" ".join
)
def test_help_loads_nothing_heavy(arguments):
    heavy = {
        "torch",
        "numpy",
        "matplotlib",
        "nbconvert",
        "nbformat",
        "papermill",
        "jupytext",
        "nbgrader",
        "rich",
    }
    code = f"""if True:
        import sys
        from coursekit.cli import main
        try:
            main({arguments!r})
        except SystemExit as end:
            print("loaded:", sorted({heavy!r} & set(sys.modules)), end.code)
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "loaded: [] 0", result.stdout + result.stderr


def test_the_command_is_installed_and_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "coursekit.cli", "--help"], capture_output=True, text=True)
    assert all(f"  {command} " in result.stdout for command in COMMANDS)


def test_run_ends_in_a_table_and_keeps_its_results(coursekit, course):
    result = coursekit("run", "demo", "-p", "steps", "4", cwd=course / "notebooks")
    assert result.exit_code == 0, result.output
    assert "peak RAM, GB" in result.output and "solutions/01_demo" in result.output
    assert (course / "build" / "notebooks" / "01_demo.html").is_file()


def test_run_tells_the_failing_cell_and_fails(coursekit, course):
    path = course / "notebooks" / "src" / "01_demo.py"
    path.write_text(path.read_text().replace("steps * 2.5", "steps / 0"))
    result = coursekit("run", "notebooks/demo", cwd=course)
    assert result.exit_code == 1
    for words in (
        "notebooks/01_demo, code cell 2",
        "print(PROFILE, steps / 0)",
        "ZeroDivisionError: division by zero",
    ):
        assert words in result.output


def test_run_holds_a_notebook_to_its_limits(coursekit, course):
    path = course / "notebooks" / "src" / "01_demo.py"
    path.write_text(
        path.read_text().replace("print(PROFILE, steps * 2.5)", "block = bytearray(10**9); time.sleep(60)")
    )
    path.write_text(path.read_text().replace('PROFILE = "ci"', 'import time; PROFILE = "ci"'))
    result = coursekit("run", "notebooks/demo", "--ram-limit", "0.3", cwd=course)
    assert result.exit_code == 1 and "the limit is 0.30 GB of memory" in result.output


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["run", "deno"], "there is no notebook 'deno'. Did you mean 01_demo?"),
        (["build", "--check", "deno"], "Did you mean 01_demo?"),
        (["run", "demo", "-p", "step", "4"], "Did you mean steps?"),
        (["check", "exercises/02_more.ipynb"], "there is no file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_the_user_can_fix_is_a_sentence(coursekit, course, arguments, words):
    result = coursekit(*arguments, cwd=course)
    assert result.exit_code == 2
    assert words in result.output.replace("\n", " ") and "Traceback" not in result.output


def test_build_check_names_what_is_stale_and_the_command_that_helps(coursekit, copy_of_built):
    assert coursekit("build", "--check", cwd=copy_of_built).exit_code == 0
    path = copy_of_built / "solutions" / "src" / "01_demo.py"
    path.write_text(path.read_text().replace("Twice x", "x twice"))
    result = coursekit("build", "--check", cwd=copy_of_built)
    assert result.exit_code == 1
    assert "solutions/01_demo  STALE" in result.output and "exercises/01_demo.ipynb  STALE" in result.output
    assert "coursekit build" in result.output


def test_check_tells_verdicts_and_its_status_says_whether_all_passed(coursekit, built_course):
    exercise = coursekit("check", "exercises/01_demo.ipynb", cwd=built_course)
    assert exercise.exit_code == 1 and "0 of 1 passed" in exercise.output
    solution = coursekit("check", "../solutions/01_demo.ipynb", cwd=built_course / "exercises")
    assert solution.exit_code == 0 and "1 of 1 passed" in solution.output


@pytest.fixture
def uninstall(monkeypatch):
    """uninstall("nbgrader") makes the import of these modules fail as if they were not installed."""
    real_import = builtins.__import__

    def block(*modules):
        def without(name, *args, **kwargs):
            if name.split(".")[0] in modules:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real_import(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)

    return block


@pytest.mark.parametrize("module, extra", [("jupytext", "publish"), ("nbclient", "lab")])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    coursekit, course, uninstall, module, extra
):
    uninstall(module)
    result = coursekit("run", "notebooks/demo", cwd=course)
    assert result.exit_code == 2
    assert f"needs {module}" in result.output and f'-e ".[{extra}]"' in result.output


def test_a_student_checks_an_exercise_without_the_tools_of_authors(coursekit, built_course, uninstall):
    uninstall(*(module for module, extra in EXTRA_OF.items() if extra == "publish"))
    result = coursekit("check", "exercises/01_demo.ipynb", cwd=built_course)
    assert "0 of 1 passed" in result.output


def test_a_missing_module_of_no_extra_is_not_explained_away(coursekit, course, monkeypatch, tmp_path):

    def broken(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'coursekit.typo'", name="coursekit.typo")

    monkeypatch.setattr(runs, "run_all", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = coursekit("run", cwd=course)
    assert result.exit_code == 70 and "please send it" in result.output


def test_help_lists_every_status(coursekit, tmp_path):
    words = coursekit("--help", cwd=tmp_path).output
    assert all(f"{status:>3}  {meaning}" in words for status, meaning in STATUSES.items())


def test_check_says_that_it_is_a_self_check(coursekit, tmp_path):
    words = " ".join(coursekit("check", "--help", cwd=tmp_path).output.split())
    assert "runs the notebook's own code as you, with your rights" in words
    assert "can forge them" in words and "docker run --rm --network none" in words


def test_a_notebook_that_is_not_there_is_said_before_anything_heavy_is_loaded(tmp_path):
    code = """if True:
        import sys
        from coursekit.cli import main
        try:
            main(["check", "nosuch.ipynb"])
        except SystemExit as end:
            print(end.code, sorted({"torch", "numpy", "nbformat", "nbclient"} & set(sys.modules)))
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "2 []" and "there is no file nosuch.ipynb" in result.stderr


def test_several_notebooks_are_all_there_before_the_first_runs(coursekit, built_course):
    result = coursekit("check", "exercises/01_demo.ipynb", "exercises/02.ipynb", cwd=built_course)
    assert result.exit_code == 2 and "passed" not in result.output


@pytest.mark.parametrize("option", ["--ram-limit", "--cell-timeout", "--timeout"])
def test_a_limit_is_a_number(coursekit, course, option):
    result = coursekit("run", option, "nan", cwd=course)
    assert result.exit_code == 2 and "is not a finite number" in result.output


def json_of(coursekit, *arguments, cwd):
    """Return (exit status, what the command printed on stdout as data)."""
    result = coursekit(*arguments, "--json", cwd=cwd)
    return result.exit_code, json.loads(result.stdout)


def test_check_as_json(coursekit, built_course):
    paths = ["solutions/01_demo.ipynb", "exercises/01_demo.ipynb"]
    status, data = json_of(coursekit, "check", *paths, cwd=built_course)
    assert status == 1 and data["ok"] is False
    assert [(n["notebook"], n["ok"], n["passed"], n["total"]) for n in data["notebooks"]] == [
        (paths[0], True, 1, 1),
        (paths[1], False, 0, 1),
    ]
    assert data["notebooks"][1]["verdicts"][0]["status"] == "not started"


def test_run_as_json(coursekit, course):
    status, data = json_of(coursekit, "run", "notebooks/demo", cwd=course)
    assert status == 0 and data["ok"] is True and data["runs"][0]["label"] == "notebooks/01_demo"


def test_build_check_as_json(coursekit, copy_of_built):
    path = copy_of_built / "notebooks" / "src" / "01_demo.py"
    path.write_text(path.read_text().replace("# # A lesson", "# # Another"))
    status, data = json_of(coursekit, "build", "--check", cwd=copy_of_built)
    assert status == 1 and list(data["stale"]) == ["notebooks/01_demo"] and data["rest"] == []
    assert coursekit("build", "--json", cwd=copy_of_built).exit_code == 2


def test_claims_as_json(coursekit, course, monkeypatch):
    (course / "claims").mkdir()
    facts = {"said": "3", "where": "here", "verdict": "wrong", "right": "{n}", "source": "sum"}
    row = claim("X1", figures={"n": 4}, **facts)(lambda: {"n": 5})
    monkeypatch.setattr(publish_claims, "load", lambda: {"demo": [row]})
    status, data = json_of(coursekit, "claims", cwd=course)
    assert (
        status == 1
        and data["claims"] == {"demo": 1}
        and "X1: n came out as 5, should be 4" in data["wrong"][0]
    )


def test_doctor_as_json(coursekit, tmp_path, monkeypatch):
    from classroom.machine import doctor as module

    quick = module.doctor(network=False, try_packages=False)
    monkeypatch.setattr(module, "doctor", lambda: quick)
    status, data = json_of(coursekit, "doctor", cwd=tmp_path)
    assert data == json.loads(json.dumps(module.as_dict(quick))) and status == (0 if quick.ready else 1)


if os.name != "nt":  # there a process ends without a signal

    def test_sigterm_leaves_no_kernel_and_no_traceback(course, tmp_path):
        """SIGTERM comes from a CI that cancels, or from `timeout`."""
        started, path = tmp_path / "started", course / "notebooks" / "src" / "01_demo.py"
        line = f"import os, pathlib, time; pathlib.Path({str(started)!r}).write_text(str(os.getpid())); time.sleep(600)"
        path.write_text(path.read_text().replace("print(PROFILE, steps * 2.5)", line))
        command = [sys.executable, "-m", "coursekit.cli", "run", "notebooks/demo"]
        process = subprocess.Popen(command, cwd=course, stderr=subprocess.PIPE, text=True)
        while not (started.exists() and started.read_text()):
            time.sleep(0.1)
        process.terminate()
        _, words = process.communicate(timeout=120)
        assert process.returncode == 143 and "Stopped" in words and "Traceback" not in words
        assert not psutil.pid_exists(int(started.read_text()))


def test_ctrl_c_is_told_and_has_its_own_status(coursekit, course, monkeypatch):

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run_all", interrupted)
    result = coursekit("run", cwd=course)
    assert result.exit_code == 130 and "Stopped" in result.output


def plan_of(coursekit, tmp_path, *arguments):
    """Return (exit status, what `coursekit plan --json` printed as data)."""
    result = coursekit("plan", *arguments, "--json", cwd=tmp_path)
    return result.exit_code, json.loads(result.output)


def test_plan_prints_the_estimate_of_the_planner(coursekit, tmp_path):
    status, data = plan_of(coursekit, tmp_path, "llama-3-8b", "--qlora", "--seq", 2048, "--gpu", 24)
    fit = fits(Plan("llama-3-8b", lora_rank=16, quantization="nf4"), 24)
    assert {name: data[name] for name in fit.estimate.to_dict()} == json.loads(
        json.dumps(fit.estimate.to_dict())
    )
    assert (status, data["cards"][0]["fits"]) == (1, False) and fit.ways


def test_every_field_of_a_plan_can_be_said(coursekit, tmp_path):
    given = {
        "batch": 4, "sequence": 512, "ledger": "amp", "optimizer": "sgd-momentum", "implementation": "fused",
        "attention": "eager", "padded": True, "checkpointing": True, "accumulation": 2, "lora_rank": 8,
        "lora_targets": ("q_proj", "v_proj"), "lora_dropout": 0.1, "quantization": "nf4",
        "double_quantization": False, "kbit_preparation": False, "zero_stage": 2, "world_size": 4,
        "offload": "optimizer", "device": "cpu",
    }  # fmt: skip
    assert {"model", *given} == {field.name for field in dataclasses.fields(Plan)}
    words = (
        "--batch 4 --seq 512 --ledger amp --optimizer sgd-momentum --implementation fused --attention eager "
        "--padded --checkpointing --accumulation 2 --qlora --rank 8 --targets q_proj,v_proj --lora-dropout 0.1 "
        "--no-double-quantization --no-kbit-preparation --zero 2 --gpus 4 --offload optimizer --device cpu"
    )
    _, data = plan_of(coursekit, tmp_path, "tiny", *words.split())
    expected = estimate(Plan("tiny", **given)).to_dict()
    assert data == json.loads(json.dumps(expected | {"cards": []}))


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("tiny", 0, "GB (1 GB = 10^9 bytes)"),
        ("tiny --gpu T4", 0, "T4 (16.0 GB): fits"),
        ("llama-3-8b --gpu h200 --gpu 24", 1, "a card of 24 GB (24.0 GB): does not fit"),
        ("llama-3-8b --lora 8 --gpu 24", 1, "1. checkpointing"),
        ("lama-3-8b", 2, "Did you mean llama-3-8b"),
        ("tiny --ledger bf17", 2, "ledger must be one of 'fp32'"),
        ("tiny --gpu fast", 2, "no card 'fast'; give its memory in GB"),
        ("tiny --lora 4 --targets q", 2, "no linear layer of this model is called q; it has q_proj"),
        ("tiny --qlora --zero 3", 2, "stage 3 cannot shard bitsandbytes' 4-bit weights"),
        ("tiny --batch 0", 2, "batch must be a whole number of at least 1"),
        ("tiny --rank 8", 2, "--rank belongs to --qlora; use --lora 8."),
        ("tiny --lora 4 --rank 8", 2, "--rank belongs to --qlora; use --lora 8."),
        ("tiny --lora 4 --qlora --rank 8", 2, "--lora 4 and --rank 8 both say the rank of the adapters"),
        ("tiny --lora 0", 2, "argument --lora: '0' is not a whole number of at least 1."),
        (
            "tiny --targets q_proj",
            2,
            "--targets belongs to --lora or --qlora; without it there are no adapters",
        ),
        ("tiny --lora-dropout 0", 2, "--lora-dropout belongs to --lora or --qlora"),
        ("tiny --no-kbit-preparation", 2, "--no-kbit-preparation belongs to --qlora"),
        (
            "tiny --lora 4 --no-double-quantization",
            2,
            "--no-double-quantization belongs to --qlora; without it no",
        ),
        (
            "tiny --lora 4 --targets ,",
            2,
            "--targets names no layer; write for example --targets q_proj,v_proj.",
        ),
        ("tiny --lora 4 --targets q_proj,", 0, "LoRA r=4"),
        ("tiny --batch 99999999999", 2, "batch must be 1,000,000,000 at most"),
        ("tiny --gpu 1e300", 2, "the memory of a card is a positive number of GB"),
        ("--list", 0, "llama-3-8b"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_the_status_of_plan_is_its_verdict(coursekit, tmp_path, arguments, status, words):
    result = coursekit("plan", *arguments.split(), cwd=tmp_path)
    assert words in result.output and "Traceback" not in result.output
    assert (result.exit_code, type(result.exception)) == (status, SystemExit if status else type(None))


def test_plan_reads_a_config_or_its_folder(coursekit, tmp_path):
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "intermediate_size": 128, "vocab_size": 1000}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    counts = {plan_of(coursekit, tmp_path, name)[1]["parameters"] for name in (".", "config.json")}
    assert len(counts) == 1
    (tmp_path / "config.json").write_text("{")
    broken = coursekit("plan", ".", cwd=tmp_path)
    assert broken.exit_code == 2 and "is not a config.json of a model" in broken.output


def test_plan_answers_without_torch(tmp_path):
    code = """if True:
        import sys
        from coursekit.cli import main
        try:
            main("plan llama-3-8b --qlora --seq 2048 --gpu 24".split())
        except SystemExit as end:
            print(end.code, sorted({"torch", "numpy", "transformers"} & set(sys.modules)))
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "1 []", result.stdout + result.stderr
