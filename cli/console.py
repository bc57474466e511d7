"""`tandem console`: pages and plain HTTP in front of a gateway."""

from cli.serve.options import settings_command
from console.settings import ConsoleSettings
from serving.settings import load_settings


def _run(**given: object) -> None:
    settings = load_settings(ConsoleSettings, **given)
    from console.main import main  # what it loads is not needed for --help

    main(settings)


app = settings_command(
    ConsoleSettings,
    _run,
    summary="Serve the console, on port 8080: pages to look at recommendations, and the gateway's "
    "calls by REST, Connect and gRPC-Web.",
    epilog="Example:\n\n"
    "tandem serve all --bundle bundles/ml-100k/current --metrics-port 9464\n\n"
    "tandem console --candidate 127.0.0.1:50051 --bundles bundles "
    "--metrics 127.0.0.1:9464,127.0.0.1:9465,127.0.0.1:9466",
)
