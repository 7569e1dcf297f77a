"""`walkforge study`."""

from rich.console import Console

from optimize.compose import StudyConfig, to_spec
from optimize.study.runner import run_study


def study(config: StudyConfig) -> int:
    """Run or resume a study (one or two phases) to its cap, and say what to do next."""
    console = Console()
    spec = to_spec(config)
    try:
        name = run_study(spec, console)
    except KeyboardInterrupt:
        console.print(f"study {spec.name} is interrupted: nothing is lost, the same command resumes it")
        return 1
    console.print(
        f"\nstudy {name} is at its cap; next:\n"
        f"  walkforge leaderboard name={spec.name}\n"
        f"  walkforge export name={spec.name} top_n={min(3, spec.keep_models)}\n"
        f"  walkforge dashboard name={spec.name}",
        highlight=False,
    )
    return 0
