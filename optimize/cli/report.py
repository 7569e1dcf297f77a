"""`walkforge report`: one HTML file to look at, of a study, a trial or a bundle."""

import dataclasses
import webbrowser
from pathlib import Path

from optimize.database import Engine, open_engine
from optimize.database.address import in_words
from optimize.errors import BadInputError
from optimize.report.html.load import trial_content
from optimize.report.html.load_study import study_content
from optimize.report.html.page import write_page
from optimize.report.html.study import SearchedKey, study_page
from optimize.report.html.trial import TrialContent, trial_page
from optimize.report.tables import say
from optimize.results.queries import find_study
from optimize.results.records import RunRecord
from optimize.results.runs import run_of_trial
from optimize.schemas.records import ReportConfig
from optimize.study.importance import stored_importance
from optimize.walkforward.files import run_folder

REPORTS = "reports"  # folder of the pages, in the folder of their study


def write_report(config: ReportConfig) -> None:
    """Write the page, name its file, and open it where asked."""
    path, page = _of_study(config) if config.bundle is None else _of_bundle(config, Path(config.bundle))
    path = path if config.file is None else Path(config.file)
    write_page(path, page)
    say(f"{path}: {len(page.encode()) / 1e6:.1f} MB, opens without a network")
    if config.open and not webbrowser.open(path.resolve().as_uri()):
        say("no browser was found: open the file yourself")


def _of_bundle(config: ReportConfig, folder: Path) -> tuple[Path, str]:
    """Return the default path, which is beside the bundle, and the page of a bundle."""
    from optimize.cli.bundle_report import bundle_content  # loads the engines

    return folder.with_name(f"{folder.name}.html"), trial_page(bundle_content(config, folder))


def _of_study(config: ReportConfig) -> tuple[Path, str]:
    """Return the default path and the page of a study, or of one of its trials."""
    engine = open_engine(config.database.url, read_only=True, busy_timeout_s=config.database.busy_timeout_s)
    name = find_study(engine, config.name)
    folder = Path(config.output_dir) / name
    if config.trial is not None:
        page = trial_page(_content_of(engine, name, folder, config, config.trial))
        return folder / REPORTS / f"trial_{config.trial:04d}.html", page
    keys = [
        SearchedKey(each.key, each.value, each.shuffled_mean, each.shuffled_high)
        for each in stored_importance(config.database.url, name)
    ]
    return folder / REPORTS / "study.html", study_page(
        study_content(engine, config.database.url, name, folder, keys)
    )


def _content_of(engine: Engine, name: str, folder: Path, config: ReportConfig, trial: int) -> TrialContent:
    with engine.connect() as conn:
        run = run_of_trial(conn, name, trial)
        if run is None:
            raise BadInputError(
                f"trial={trial}: {name} has no finished trial of that number; "
                f"walkforge leaderboard name={name}{in_words(config.database.url)} lists the best"
            )
        content = trial_content(conn, config.database.url, folder, run, in_words(config.database.url))
    return _with_features(content, config, run_folder(folder, trial, run.run_uuid), run)


def _with_features(content: TrialContent, config: ReportConfig, models: Path, run: RunRecord) -> TrialContent:
    """Return the content with the feature importance of a trial whose models are kept."""
    if config.shuffles == 0 or not any(models.glob("windows/*/repeat_0/spec.json")):
        return content
    from optimize.cli.bundle_report import effects_of_run

    return dataclasses.replace(content, features=effects_of_run(config, run, models))
