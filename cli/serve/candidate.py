"""`tandem serve candidate`."""

from cli.serve.options import settings_command
from services.candidate.settings import CandidateSettings
from serving.settings import load_settings


def _run(**given: object) -> None:
    settings = load_settings(CandidateSettings, **given)
    from services.candidate.main import main  # what it loads is not needed for --help

    main(settings)


app = settings_command(
    CandidateSettings,
    _run,
    summary="Serve the candidate service, on port 50051: shortlists, similarity, and the catalog.",
)
