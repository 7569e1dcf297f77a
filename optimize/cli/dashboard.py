"""walkforge dashboard: open optuna-dashboard on a study."""

from optimize.cli.tables import say
from optimize.compose import DashboardConfig
from optimize.study.pages.dashboard import serve
from optimize.study.pages.figured import draw_missing
from optimize.study.spec import MISSING_NAME


def dashboard(config: DashboardConfig) -> None:
    """Serve the page of study `name`, or the list of all studies without a name, until Ctrl-C."""
    draw_missing(config.database.url, config.output_dir, say)
    name = None if config.name in (MISSING_NAME, "") else config.name
    serve(
        config.database.url,
        config.output_dir,
        config.host,
        config.port,
        name,
        write=config.write,
        hosts=config.hosts,
    )
