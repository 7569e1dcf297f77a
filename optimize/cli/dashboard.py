"""walkforge dashboard: open optuna-dashboard on a study."""

from optimize.report.tables import say
from optimize.schemas.records import DashboardConfig
from optimize.study.dashboard.attach_missing import attach_missing, attaching
from optimize.study.dashboard.serve import serve
from optimize.study.spec import MISSING_NAME


def dashboard(config: DashboardConfig) -> None:
    """Serve the page of study `name`, or the list of all studies without a name, until Ctrl-C."""
    attach_missing(config.database.url, config.output_dir, say)
    name = None if config.name in (MISSING_NAME, "") else config.name
    with attaching(config.database.url, config.output_dir, say):
        serve(
            config.database.url,
            config.output_dir,
            config.host,
            config.port,
            name,
            write=config.write,
            hosts=config.hosts,
        )
