"""Extensions of the user's own: loaded by path or module, replaced when edited, refused where unusable."""

from pathlib import Path

import numpy as np
import pytest

from envs.rewards import REWARDS, RewardSpec
from optimize import extensions
from optimize.agents.registry import ALGORITHMS, hyperparameters_of
from optimize.data.cache import cache_key
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.registry import FEATURES, foreign_code
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from optimize.extensions import (
    absolute_names,
    copies_in,
    load_extensions,
    load_stored,
    loaded_code,
    name_extensions,
    refuse_untrusted,
)

BODY = '''"""A feature of mine."""

from optimize.data.features import feature


@feature("{name}", warmup=1)
def mine(bars):
    """Close over open."""
    return [bars.close / bars.open * {factor}]
'''


def write(path: Path, name: str = "mine", factor: float = 1.0) -> str:
    path.write_text(BODY.format(name=name, factor=factor))
    return str(path)


def test_an_extension_is_loaded_once_and_again_when_it_was_edited(tmp_path: Path) -> None:
    name = write(tmp_path / "my_features.py")
    load_extensions([name])
    first = FEATURES["mine"]
    load_extensions([name])
    assert FEATURES["mine"] is first
    write(tmp_path / "my_features.py", factor=2.0)
    load_extensions([name])
    assert FEATURES["mine"] is not first
    write(tmp_path / "my_features.py")
    load_extensions([name])
    assert FEATURES["mine"] is not first
    assert FEATURES["mine"].compute.__module__ == first.compute.__module__


def test_no_bytecode_is_written_beside_an_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    load_extensions([write(tmp_path / "my_features.py")])
    assert [path.name for path in tmp_path.iterdir()] == ["my_features.py"]


def test_its_code_counts_in_the_market_and_comments_do_not(tmp_path: Path) -> None:
    name = write(tmp_path / "my_features.py")
    data, feature, session = DataSpec(), FeatureSpec(indicators=["returns", "mine"]), SessionSpec()
    keys = []
    for text in (BODY, BODY + "# a comment\n", BODY.replace("bars.open *", "bars.high *")):
        Path(name).write_text(text.format(name="mine", factor=1.0))
        load_extensions([name])
        keys.append((foreign_code(["mine"])["my_features.py"], cache_key(data, feature, session)))
    assert keys[0] == keys[1]
    assert keys[0][0] != keys[2][0]
    assert keys[0][1] != keys[2][1]
    assert foreign_code(["returns", "rsi"]) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 +", "cannot be used: SyntaxError"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("x = 1", "registers nothing"),
        (BODY.format(name="rsi", factor=1), "registers 'rsi', a name that is taken"),
        (BODY.format(name="mine", factor=1) + "1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(tmp_path: Path, text: str, words: str) -> None:
    before = dict(FEATURES)
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(BadInputError, match=words):
        load_extensions([str(tmp_path / "bad.py")])
    assert before == FEATURES


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.py", "there is no file .*nowhere.py"),
        ("no_such_package.features", "No module named 'no_such_package'"),
        ("json", "not a module in one file"),
    ],
)
def test_what_is_not_there_is_refused(name: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        load_extensions([name])


def test_two_files_may_share_neither_feature_nor_name(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.py"), write(tmp_path / "two.py", factor=3.0)
    with pytest.raises(BadInputError, match="'mine', a name that is taken"):
        load_extensions([one, two])
    (tmp_path / "inner").mkdir()
    again = write(tmp_path / "inner" / "one.py", name="other")
    with pytest.raises(BadInputError, match=r"one\.py twice"):
        load_extensions([one, again])


def test_a_module_is_found_by_its_dotted_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "found_by_name.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert absolute_names(["found_by_name"]) == [str(tmp_path / "found_by_name.py")]
    load_extensions(["found_by_name"])
    assert np.isfinite(FEATURES["mine"].warmup)


def test_code_of_a_bundle_is_trusted_by_its_content_alone(tmp_path: Path) -> None:
    mine, bundle = write(tmp_path / "my_features.py"), tmp_path / "bundle"
    (bundle / "extensions").mkdir(parents=True)
    write(bundle / "extensions" / "my_features.py")
    copies = copies_in(bundle, ["extensions/my_features.py"])
    assert copies_in(bundle, ["../../etc/my_features.py"]) == copies
    with pytest.raises(BadInputError, match=r"extensions/my_features\.py.*trust=true"):
        refuse_untrusted(bundle, copies)
    load_extensions([mine])
    refuse_untrusted(bundle, copies)
    write(bundle / "extensions" / "my_features.py", factor=9.0)
    with pytest.raises(BadInputError, match="trust=true"):
        refuse_untrusted(bundle, copies)


def test_code_that_only_a_database_names_is_refused_until_a_command_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = write(tmp_path / "my_features.py")
    with pytest.raises(BadInputError, match=r"study 'x' runs code .*read it, then add extensions=\["):
        load_stored([name], "study 'x'")
    assert name_extensions([name]) == [name]
    extensions._LOADED.clear()
    FEATURES.pop("mine")  # as in a later process
    load_stored([name], "study 'x'")
    write(tmp_path / "my_features.py", factor=2.0)
    with pytest.raises(BadInputError, match="as it is now"):
        load_stored([name], "study 'x'")


def test_a_record_that_others_can_write_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = write(tmp_path / "my_features.py")
    name_extensions([name])
    extensions._LOADED.clear()
    (tmp_path / "cache" / "walkforge" / "named").chmod(0o777)
    with pytest.raises(BadInputError, match="read it"):
        load_stored([name], "study 'x'")


def test_without_a_home_a_command_names_its_extensions_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    name = write(tmp_path / "my_features.py")
    assert name_extensions([name]) == [name]
    load_stored([name], "study 'x'")  # it is in force
    extensions._LOADED.clear()
    with pytest.raises(BadInputError, match="read it"):
        load_stored([name], "study 'x'")


REWARD = """from envs.rewards import floored_log_return, reward


@reward("mine", state=("sum",), parameters=("clip",))
def mine(previous, equity, peak, state, terms, earned):
    for row in range(len(earned)):
        state[row, 0] += {factor}
        earned[row] = {value}
    return len(earned)
"""
AGENT = """from stable_baselines3 import {base}

from optimize.agents.registry import agent


@agent("mine", actions={actions})
class Mine({base}):
    def __init__(self, *arguments, {new}: int = 3, **others):
        super().__init__(*arguments, **others)
"""
FLOORED = "floored_log_return(previous[row], equity[row])"


def test_a_reward_is_compiled_under_a_name_of_its_own_content(tmp_path: Path) -> None:
    path = tmp_path / "my_rewards.py"
    steps = []
    for factor in ("1.0", "2.0"):
        path.write_text(REWARD.format(factor=factor, value=FLOORED))
        load_extensions([str(path)])
        steps.append(REWARDS["mine"].step)
        state, earned = np.zeros((1, 1)), np.zeros(1)
        start, terms = RewardSpec("mine").fit(np.full(3, np.nan))
        assert start.tolist() == [0.0]
        steps[-1](np.ones(1), np.full(1, 1.1), np.full(1, 1.1), state, terms, earned)
        assert (state[0, 0], earned[0]) == (float(factor), pytest.approx(np.log(1.1)))
    names = {step.__name__ for step in steps}
    assert len(names) == 2  # or a cached kernel would go on with the older reward
    assert list(loaded_code(["elsewhere/my_rewards.py"])) == ["my_rewards.py"]
    assert loaded_code(["my_features.py"]) == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("np.log(equity[row])", "does not compile.*np"),
        ("equity[row] / 0.0", "finite number into every row"),
        ("(equity[row] / previous[row]) ** 0.5", "finite number into every row"),
    ],
)
def test_a_reward_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, value: str, words: str) -> None:
    path = tmp_path / "my_rewards.py"
    path.write_text(REWARD.format(factor="1.0", value=value))
    with pytest.raises(BadInputError, match=words) as caught:
        load_extensions([str(path)])
    assert "\n" not in str(caught.value)
    assert "mine" not in REWARDS


def test_an_agent_is_a_subclass_with_arguments_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "my_agents.py"
    for new in ("mine", "other"):
        path.write_text(AGENT.format(base="SAC", actions='("continuous",)', new=new))
        load_extensions([str(path)])
        assert ALGORITHMS["mine"].load().__name__ == "Mine"
        assert not ALGORITHMS["mine"].on_policy
        assert list(hyperparameters_of("mine")) == [new]


@pytest.mark.parametrize(
    ("base", "actions", "words"),
    [
        ("HerReplayBuffer", '("discrete",)', "OnPolicyAlgorithm or OffPolicyAlgorithm"),
        ("PPO", '("buttons",)', "continuous, discrete or both"),
        ("PPO", "()", "continuous, discrete or both"),
    ],
)
def test_an_agent_that_cannot_be_trained_is_refused(
    tmp_path: Path, base: str, actions: str, words: str
) -> None:
    path = tmp_path / "my_agents.py"
    path.write_text(AGENT.format(base=base, actions=actions, new="mine"))
    with pytest.raises(BadInputError, match=words):
        load_extensions([str(path)])
    assert "mine" not in ALGORITHMS
