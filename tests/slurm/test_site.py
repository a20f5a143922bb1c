"""The site file: what it may say, and that nothing in it can leave the place in a script that it is meant for."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest

from radps_mpi.errors import UsageError
from radps_mpi.slurm.site import SiteConfig, check_word, read_site, site_of_toml

REPOSITORY = Path(__file__).resolve().parents[2]
PARTITION = '[[partition]]\nname = "short"\ncores_per_node = 64\nmemory_per_node = "250GB"\n'


def refusal(text: str) -> str:
    """The one line with which a site file is refused."""
    with pytest.raises(UsageError) as caught:
        site_of_toml(text, "site.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_example_is_a_site_file_and_what_it_comments_out_are_the_defaults() -> None:
    path = REPOSITORY / "jobs" / "site.toml"
    site = read_site(path)
    assert [partition.name for partition in site.partitions] == ["short", "long"]
    assert site.common.setup == ("module load python openmpi hdf5/parallel",)
    commented = [line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# ") and " = " in line]
    values = tomllib.loads("\n".join(commented))
    assert values.keys() | {"account", "setup"} == SiteConfig.model_fields.keys()
    assert SiteConfig(**values) == SiteConfig()


def test_partitions_are_plain_numbers_to_the_planner() -> None:
    site = site_of_toml(PARTITION + 'most_nodes = 4\ntime_limit = "2h"\n', "site.toml")
    pool = site.partitions[0].pool
    assert (pool.name, pool.cores_per_node, pool.memory_per_node_bytes) == ("short", 64, 250 * 10**9)
    assert (pool.most_nodes, pool.longest_s) == (4, 7200.0)
    assert site_of_toml(PARTITION, "site.toml").partitions[0].pool.longest_s == math.inf
    assert site_of_toml('stop_before = "90s"\n' + PARTITION, "site.toml").common.margins.stop_before_s == 90.0


def test_a_single_partition_may_be_a_table() -> None:
    assert site_of_toml(PARTITION.replace("[[", "[").replace("]]", "]"), "site.toml").partitions[0].name == "short"


@pytest.mark.parametrize(("text", "message"), [
    ("", "site.toml: no partition: describe at least one under [[partition]]"),
    ("partition = 3", "site.toml: no partition"),
    ("acount = 'x'\n" + PARTITION, "site.toml: unknown key 'acount' (did you mean 'account'?)"),
    ("[[partitions]]\nname = 'a'", "site.toml: unknown key 'partitions' (did you mean 'partition'?)"),
    (PARTITION + "core_per_node = 3", "site.toml: partition 1: unknown key 'core_per_node' (did you mean 'cores_per_node'?)"),
    (PARTITION + PARTITION, "site.toml: partition 'short' is described twice"),
    ("[[partition]]\nname = 'a'", "site.toml: partition 1: cores_per_node is missing"),
    (PARTITION.replace("64", "0"), "partition 1: cores_per_node: 0 is outside the allowed range: at least 1"),
    (PARTITION.replace("64", "'many'"), "partition 1: cores_per_node: 'many' is not a whole number"),
    (PARTITION.replace("250GB", "250"), "partition 1: memory_per_node: '250' has no unit"),
    (PARTITION.replace("250GB", ""), "partition 1: memory_per_node: "),
    (PARTITION + "time_limit = '5min'", "partition 1: time_limit: '5min' leaves no time to work before stop_before, '5min'"),
    (PARTITION + "time_limit = '30s'", "partition 1: time_limit: '30s' is shorter than a minute"),
    ("launcher = 'srn'\n" + PARTITION, "site.toml: launcher: 'srn' is not one of auto, srun, mpirun (did you mean 'srun'?)"),
    ("most_attempts = 0\n" + PARTITION, "site.toml: most_attempts: 0 is outside the allowed range: at least 1"),
    ("time_margin = 0.5\n" + PARTITION, "site.toml: time_margin: 0.5 is outside the allowed range"),
    ("site_version = 2\n" + PARTITION, "site.toml: site_version 2 is not known; this radps reads version 1"),
    ("account = ", "site.toml: not valid TOML"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line_that_names_it(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize("value", ["two words", "a#b", "a\\nb", 'a"b', "a'b", "a\\\\b", "zürich", "a\\tb"])
@pytest.mark.parametrize("key", ["account", "log"])
def test_values_of_sbatch_lines_cannot_leave_them(key: str, value: str) -> None:
    text = value.replace('"', '\\"')
    assert f"site.toml: {key}: " in (said := refusal(f'{key} = "{text}"\n{PARTITION}'))
    assert "can't stand in an #SBATCH line" in said


def test_the_name_of_a_partition_cannot_leave_its_line_either() -> None:
    assert "can't stand in an #SBATCH line" in refusal(PARTITION.replace('"short"', '"short --uid=0"'))


@pytest.mark.parametrize(("option", "message"), [
    ("--qos long", "is not an option of sbatch in one word"),
    ("-A radio", "is not an option of sbatch in one word"),
    ("exclusive", "is not an option of sbatch in one word"),
    ("--comment=it's", "can't stand in an #SBATCH line"),
    ("--time=1", "--time is set for each job: leave it out"),
    ("--array=0-3", "--array is set for each job"),
    ("--wrap=true", "--wrap is set for each job"),
])  # fmt: skip
def test_options_of_sbatch_are_single_words_and_none_that_a_job_sets_itself(option: str, message: str) -> None:
    assert message in refusal(f'sbatch_options = ["--exclusive", "{option}"]\n{PARTITION}')
    assert message in refusal(f'{PARTITION}sbatch_options = "{option}"')


@pytest.mark.parametrize("setup", ["module load 'openmpi", "if true; then", "cat <<END", "echo )"])
def test_set_up_lines_that_would_swallow_the_rest_of_the_script_are_refused(setup: str) -> None:
    assert "site.toml: setup: bash can't read these lines: " in refusal(f'setup = "{setup}"\n{PARTITION}')


def test_set_up_lines_are_shell_of_any_number_of_lines() -> None:
    site = site_of_toml(f'setup = """\nif true; then\n\tmodule load "openmpi"\nfi\n"""\n{PARTITION}', "site.toml")
    assert site.common.setup == ("if true; then", '\tmodule load "openmpi"', "fi")
    assert "setup: " in refusal(f'setup = "echo \\u001b"\n{PARTITION}')


def test_a_word_of_an_sbatch_line_may_hold_what_slurm_wants_there() -> None:
    for word in ("radio", "a,b", "[rack1|rack2]", "intel&gpu", "gpu:a100:2", "%x-%j.log", "user@example.org"):
        assert check_word(word) == word


def test_a_partition_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(PARTITION)
    with pytest.raises(UsageError, match=r"no partition 'shrt' in the site file \(did you mean 'short'\?\): one of short"):
        read_site(path).partition("shrt")
    with pytest.raises(UsageError, match=r"site file none\.toml: No such file"):
        read_site(Path("none.toml"))
