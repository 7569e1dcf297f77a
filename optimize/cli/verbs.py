"""The verbs of `walkforge`: function, purpose and examples of each."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """A verb: its function (imported when called), its purpose and examples."""

    function: str
    help: str
    examples: tuple[tuple[str, str], ...] = ()  # (words after the verb, their effect)
    launches: bool = False  # it stores its words, for the command that resumes it

    def load(self) -> Callable[..., int | None]:
        """Import and return the verb's function."""
        module, name = self.function.split(":")
        function: Callable[..., int | None] = getattr(importlib.import_module(module), name)
        return function


VERBS: dict[str, Verb] = {
    "data": Verb(
        "optimize.cli.data:data",
        "fetch, resample, check and describe a data set",
        (
            ("data=file data.path=bars.csv data.timeframe=1d", "your own bars"),
            ("data=file data.path=bars.csv data.check=true", "the quality report only"),
            ("""data=file 'data.path="{symbol}.csv"' data.symbols=[btc,eth]""", "a file a symbol"),
            ("data=ccxt data.symbols=[BTC/USDT] data.months=24", "download"),
        ),
    ),
    "walk-forward": Verb(
        "optimize.cli.walk_forward:show_walk_forward",
        "evaluate one configuration, no search",
        (
            ("name=look dry_run=true", "the windows, without training"),
            ("name=look data=file data.path=bars.csv cost=crypto", "one agent on your own bars"),
            ("name=look agent=sac agent.total_timesteps=50000 window.count=6", "another agent"),
        ),
    ),
    "probe": Verb(
        "optimize.cli.probe:show_probe",
        "show what a linear model finds in these bars, columns, lookbacks and timeframes",
        (
            ("name=look data=file data.path=bars.csv cost=crypto", "before a night is spent on a study"),
            ("name=look timeframes=[1h,4h] lookbacks=[1,8] groups=false", "four choices of inputs"),
        ),
    ),
    "study": Verb(
        "optimize.cli.study:study",
        "run or resume a study to its cap",
        (
            ("experiment=quickstart", "two phases in about a minute"),
            ("name=mine data=file data.path=bars.csv cost=crypto worker.count=4", "your own bars"),
            ("name=mine n_trials=100", "go on with its stored settings, to a higher cap"),
            ("name=mine action=pause", "from another terminal; resume and stop likewise"),
        ),
        launches=True,
    ),
    "worker": Verb(
        "optimize.cli.worker:worker",
        "join a study from any machine that reaches its database",
        (("name=mine database.url=postgresql://me@host/walkforge worker.count=8", "on another machine"),),
    ),
    "status": Verb(
        "optimize.cli.status:status",
        "show progress, workers and failures of a study",
        (("name=mine watch=true", "every two seconds"), ("name=mine failures=true", "what failed, and why")),
    ),
    "leaderboard": Verb(
        "optimize.cli.leaderboard:show_leaderboard",
        "show the best trials of a study",
        (("name=mine top_n=20", "the best twenty"), ("name=mine format=json", "for a program")),
    ),
    "query": Verb(
        "optimize.cli.query:query",
        "run a named SQL file; without sql= list them",
        (
            ("", "the queries"),
            ("sql=best_models name=mine", "one of them"),
            ("sql=best_models name=mine format=parquet file=best.parquet", "as a file"),
            (
                "sql=promotion_candidates name=mine min_sharpe=0.5 min_windows=3 min_trades=30",
                "a Sharpe ratio above 0.5 with 30 trades in 3 windows",
            ),
        ),
    ),
    "explain": Verb(
        "optimize.cli.explain:explain",
        "show the meaning, range, default and place of a key; without one all keys",
        (
            ("feature.lookback", "one key"),
            ("reward", "a group: its options and keys"),
            ("feature.indicators extensions=[my_features.py]", "all features, your own among them"),
        ),
    ),
    "finalists": Verb(
        "optimize.cli.finalists:finalists",
        "retrain the best on fresh seeds, stress-test and rank them by the lower bound",
        (
            ("name=mine top_n=10 seeds=8 worker.count=4", "the best ten, on eight seeds each"),
            ("name=mine seeds=16", "go on with eight seeds more"),
            ("name=mine holdout=true", "and evaluate them on the holdout, which is then spent"),
        ),
    ),
    "export": Verb(
        "optimize.cli.export:export",
        "export the top N as bundles that replay to their score",
        (
            ("name=mine top_n=3", "the best three of a search that earned something"),
            ("name=mine gate=hundred_trials", "after 100 trials, with a Sharpe ratio above 0.1"),
            ("name=mine min_trades=30 beat=buy_and_hold", "your own gates"),
        ),
    ),
    "replay": Verb(
        "optimize.cli.replay:replay",
        "prove that a bundle or trial reproduces its score",
        (
            ("bundle=studies/mine/exports/01_trial_0000", "a bundle, without the database"),
            ("name=mine trial=7", "a trial, trained anew"),
        ),
    ),
    "evaluate": Verb(
        "optimize.cli.evaluate:evaluate",
        "evaluate a bundle on its holdout, new bars, other windows or other costs",
        (
            (
                "bundle=studies/mine/exports/01_trial_0000 span=holdout",
                "bars of no window; each look is counted",
            ),
            (
                "bundle=studies/mine/exports/01_trial_0000 span=new data.path=newer.csv",
                "bars after the study's",
            ),
            ("bundle=studies/mine/exports/01_trial_0000 cost=crypto", "its windows at other costs"),
        ),
    ),
    "act": Verb(
        "optimize.cli.act:act",
        "show the next order of a bundle from raw bars",
        (
            (
                "bundle=studies/mine/exports/01_trial_0000 data.path=bars.csv holding=0.5",
                "half of the equity long",
            ),
        ),
    ),
    "prune": Verb(
        "optimize.cli.prune:prune",
        "free the models and window files of lower ranks; confirm=true acts",
        (
            ("name=mine keep=10", "list the files below the best ten parameter sets"),
            ("name=mine keep=10 confirm=true", "free them"),
        ),
    ),
    "delete": Verb(
        "optimize.cli.delete:delete",
        "remove a study with its rows and files; its tries stay counted; confirm=true acts",
        (
            ("name=mine", "list its rows and files"),
            ("name=mine confirm=true", "remove all phases, and keep the exported bundles"),
        ),
    ),
    "report": Verb(
        "optimize.cli.report:write_report",
        "write one HTML file to look at, of a study, a trial or a bundle",
        (
            ("name=mine open=true", "the study, in a browser"),
            ("name=mine trial=7", "one trial"),
            ("bundle=studies/mine/exports/01_trial_0000", "a bundle, without the database"),
        ),
    ),
    "dashboard": Verb(
        "optimize.cli.dashboard:dashboard",
        "open optuna-dashboard on a study",
        (("name=mine port=8081", "on another port"),),
    ),
    "doctor": Verb(
        "optimize.cli.doctor:doctor",
        "examine machine, database and studies; repair=true mends",
        (("", "everything"), ("name=mine repair=true", "mend one study")),
    ),
}
