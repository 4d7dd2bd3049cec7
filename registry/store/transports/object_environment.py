"""What the environment says of object stores: where they are, who asks, and whom to trust."""

from __future__ import annotations

import os
import re
from pathlib import Path

from registry.base.names import maybe_user_path
from registry.base.urls import is_secure, origin_of
from registry.errors import DownloadError

__all__ = ["ADVICE", "authorities_of", "has_credentials", "is_plain", "setting"]

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
#: Variables of which one at least is set when requests are to be signed.
_CREDENTIALS = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_SKIP_SIGNATURE",
    ),
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_BEARER_TOKEN",
        "GOOGLE_SKIP_SIGNATURE",
    ),
    "az": (
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_MASTER_KEY",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_TOKEN",
        "AZURE_STORAGE_CLIENT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_IDENTITY_ENDPOINT",
        "AZURE_MSI_ENDPOINT",
        "AZURE_USE_AZURE_CLI",
        "AZURE_STORAGE_USE_EMULATOR",
        "AZURE_SKIP_SIGNATURE",
    ),
}
#: How to get access, by scheme.
ADVICE = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (profile files are not read), or AWS_SKIP_SIGNATURE=false on a machine "
    "that has a role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=false on a machine that has a role",
    "az": "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or AZURE_SKIP_SIGNATURE=false on a machine that has a role",
}
_CA_FILES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def setting(variable: str) -> str:
    """Return a variable's value, which may be empty."""
    return os.environ.get(variable, "")


def has_credentials(scheme: str) -> bool:
    """Whether requests are to be signed; else they go unsigned, and no metadata service is waited for."""
    if any(map(setting, _CREDENTIALS[scheme])):
        return True
    # Written by `gcloud auth application-default login`.
    own = maybe_user_path("~/.config/gcloud/application_default_credentials.json") if scheme == "gs" else None
    return own is not None and own.is_file()


def is_plain(scheme: str, shown: str) -> bool:
    """Whether the endpoint that is set is http, which only this machine may be.

    Raises:
        DownloadError: when it is no URL, on which obstore would panic, or would send secrets in the clear.
    """
    for variable in _ENDPOINTS[scheme]:
        if not (endpoint := setting(variable)):
            continue
        try:
            protocol = origin_of(endpoint)[0]
        except ValueError:
            protocol = ""
        if not protocol or not re.fullmatch(r"[\x21-\x7e]+", endpoint) or re.search(r"[?#]|//[^/]*@", endpoint):
            raise DownloadError(f"{variable} for {shown} is expected to be an https:// address, but is not one", url=shown)
        if not is_secure(endpoint):
            raise DownloadError(
                f"{variable} for {shown} is expected to be an https:// address, but is an http:// one of another machine",
                url=shown,
            )
        return protocol == "http"
    return False


def authorities_of(scheme: str, shown: str) -> bytes | None:
    """Return the certificates to trust beside the system's, where the environment names a file of them."""
    variables = ("AWS_CA_BUNDLE", *_CA_FILES) if scheme == "s3" else _CA_FILES
    for variable in variables:
        path = Path(setting(variable))
        if setting(variable) and not path.is_dir():
            try:
                return path.read_bytes()
            except OSError as error:
                raise DownloadError(
                    f"file that {variable} names is expected to be readable, but is not ({error.strerror}); needed for {shown}",
                    url=shown,
                ) from None
    return None
