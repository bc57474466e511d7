"""`tandem serve gateway`."""

from cli.serve.options import settings_command
from gateway.settings import GatewaySettings
from serving.settings import load_settings


def _run(**given: object) -> None:
    settings = load_settings(GatewaySettings, **given)
    from gateway.main import main  # what it loads is not needed for --help

    main(settings)


app = settings_command(
    GatewaySettings,
    _run,
    summary="Serve the gateway, on port 50050: Recommend and SimilarItems.",
)
