"""`tandem serve generator`."""

from cli.serve.options import settings_command
from services.generator.settings import GeneratorSettings
from serving.settings import load_settings


def _run(**given: object) -> None:
    settings = load_settings(GeneratorSettings, **given)
    from services.generator.main import main  # what it loads is not needed for --help

    main(settings)


app = settings_command(
    GeneratorSettings,
    _run,
    summary="Serve the generator service, on port 50052: reranks and generates.",
)
