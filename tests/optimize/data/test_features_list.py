from envs.types import FloatArray
from optimize.data.features import FEATURES, AssetBars, feature, list_features


def test_every_registered_feature_is_listed_once_with_a_meaning_of_one_line() -> None:
    listed = list_features()
    assert [each.name for each in listed] == sorted(FEATURES)
    for each in listed:
        assert each.meaning[0].isupper(), each
        assert "\n" not in each.meaning, each
        assert not each.meaning.endswith("."), each
        assert not each.meaning.startswith("No description"), each


def test_a_description_holds_warm_up_columns_and_whether_volume_is_read() -> None:
    described = {each.name: each for each in list_features()}
    assert described["returns"].meaning == "The log return from close to close"
    assert described["returns"].warmup == 1
    assert described["mfi"].reads_volume
    assert not described["rsi"].reads_volume
    assert described["macd"].columns == ("macd", "macd_signal")


def test_a_feature_of_a_user_is_listed_with_the_first_sentence_of_its_docstring() -> None:
    @feature("gap", warmup=1)
    def gap(bars: AssetBars) -> list[FloatArray]:
        """Return the gap from the close of 0.5 bars ago
        to the open. A second sentence."""
        return [bars.open / bars.close]

    found = next(each for each in list_features() if each.name == "gap")
    assert found.meaning == "The gap from the close of 0.5 bars ago to the open"


def test_a_feature_without_a_docstring_is_listed_as_such() -> None:
    @feature("bare", warmup=0)
    def bare(bars: AssetBars) -> list[FloatArray]:
        return [bars.close]

    found = next(each for each in list_features() if each.name == "bare")
    assert found.meaning == "No description: its function has no docstring"
