"""`walkforge worker`."""

from rich.console import Console

from optimize.report.tables import say
from optimize.schemas.studies import WorkerConfig
from optimize.study.control import StoppedByActionError
from optimize.study.launch.join import join_study
from optimize.study.workers.machine_compatibility import MachineSettings
from optimize.study.workers.signals import lasting_output


def worker(config: WorkerConfig) -> int:
    """Join a study from any machine that reaches its database, and work until it is at its cap."""
    here = MachineSettings(
        database=config.database,
        worker=config.worker,
        output_dir=config.output_dir,
        data_path=config.data.path,
        data_folder=config.data.folder,
        extensions=config.extensions,
        same_versions=config.versions == "check",
        wait_s=config.wait_s,
    )
    with lasting_output():
        return _join(config.name, here)


def _join(name: str, here: MachineSettings) -> int:
    try:
        say(join_study(name, here, Console()))
    except KeyboardInterrupt:
        say(f"the workers of study {name} are interrupted: nothing is lost, other workers go on")
        return 1
    except StoppedByActionError as stopped:
        say(str(stopped))
        return stopped.exit_code
    return 0
