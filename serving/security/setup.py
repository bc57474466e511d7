"""What a process's settings say about its security."""

import grpc

from core.errors import SettingsError
from serving.security.guard import Guard, Quotas, is_loopback
from serving.security.keys_file import watch_keys
from serving.security.links import Link
from serving.security.tls import TlsFiles, server_credentials
from serving.settings import CallingSettings, LinkSettings, ServerSettings


def guard_of(settings: ServerSettings, quotas: Quotas | None = None) -> Guard:
    """Makes what lets calls in.

    Raises:
        SettingsError: the file of keys cannot be read, or says something impossible.
    """
    return Guard(
        watch_keys(settings.keys_file) if settings.keys_file else None,
        exposed=not is_loopback(settings.host),
        certified=settings.tls_client_authority is not None,
        quotas=quotas,
    )


def server_tls(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """Makes a server's side of TLS; None where it listens in the clear.

    Raises:
        SettingsError: a file is missing or cannot be read, or they do not belong together.
    """
    files = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_authority)
    if files == TlsFiles():
        return None
    if files.certificate is None or files.key is None:
        raise SettingsError(
            "TLS needs both --tls-certificate and --tls-key (TANDEM_TLS_CERTIFICATE, "
            "TANDEM_TLS_KEY)"
        )
    return server_credentials(files)


def link_of(settings: LinkSettings) -> Link:
    """Makes what calls services.

    Raises:
        SettingsError: a file is missing or cannot be read, or they do not belong together.
    """
    files = TlsFiles(
        settings.service_certificate, settings.service_certificate_key, settings.service_authority
    )
    key_file = settings.service_key_file if isinstance(settings, CallingSettings) else None
    if files == TlsFiles():
        return Link(None, key_file)
    if files.authority is None or (files.certificate is None) is not (files.key is None):
        raise SettingsError(
            "services are called by TLS with --service-authority, and for mTLS with both "
            "--service-certificate and --service-certificate-key"
        )
    return Link(files, key_file)
