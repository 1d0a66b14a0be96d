"""What the AWS library's default chain runs and reads, within bounds.

Programs and files are named by variables, by a profile, or by a profile that one takes its keys
from; they are read again whenever keys are renewed. So each reader has its bound, whoever names
what it reads.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from aiobotocore.session import AioSession
from botocore.credentials import (
    AssumeRoleProvider,
    AssumeRoleWithWebIdentityProvider,
    ContainerProvider,
    LoginProvider,
    ProcessProvider,
    SSOProvider,
)
from botocore.utils import JSONFileCache

from forwarder.aws import credential_process, local_settings
from forwarder.aws.time_limits import TimeLimits

CONTAINER_TOKEN = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105  # a variable's name


def bound_chain(session: AioSession, limits: TimeLimits) -> None:
    """Let a session's default chain run programs and read files within bounds.

    What is not within them raises LocalSettingError, or the library's error for a program, where
    the library would read it.
    """
    _bound(session.get_component("credential_provider").providers, limits)


def _bound(providers: Iterable[Any], limits: TimeLimits) -> None:
    for provider in providers:
        for kind, put in _BOUNDS.items():
            if isinstance(provider, kind):
                put(provider, limits)


def _process(provider: Any, limits: TimeLimits) -> None:  # noqa: ANN401  # the library ships no types; there is
    provider._popen = partial(credential_process.start_program, limits)  # noqa: SLF001  # no public way in, here and below


def _web_identity(provider: Any, _: TimeLimits) -> None:  # noqa: ANN401
    provider._token_loader_cls = _WebIdentityToken  # noqa: SLF001


def _container(provider: Any, _: TimeLimits) -> None:  # noqa: ANN401
    provider._build_headers = _bounded_token(provider._build_headers)  # noqa: SLF001


def _bounded_token(build: Callable[[], Any]) -> Callable[[], Any]:
    def checked() -> Any:  # noqa: ANN401
        if path := os.environ.get(CONTAINER_TOKEN):
            local_settings.check_file(CONTAINER_TOKEN, path, local_settings.MAX_TOKEN_BYTES)
        return build()

    return checked


def _sign_on(provider: Any, _: TimeLimits) -> None:  # noqa: ANN401
    provider._token_cache = cache = _SsoTokenCache(provider._token_cache)  # noqa: SLF001
    tokens = getattr(provider, "_token_provider", None)
    if tokens is not None:
        tokens._cache = tokens._token_loader._cache = cache  # noqa: SLF001


def _profiles(provider: Any, limits: TimeLimits) -> None:  # noqa: ANN401
    """Bound what is asked for the keys of a ``source_profile``, which is made when it is needed."""
    builder = provider._profile_provider_builder  # noqa: SLF001
    make = builder.providers

    def made(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        found = make(*arguments, **options)
        _bound(found, limits)
        return found

    builder.providers = made


_BOUNDS: dict[type, Callable[[Any, TimeLimits], None]] = {
    ProcessProvider: _process,
    AssumeRoleWithWebIdentityProvider: _web_identity,
    ContainerProvider: _container,
    SSOProvider: _sign_on,
    LoginProvider: _sign_on,
    AssumeRoleProvider: _profiles,
}


class _WebIdentityToken:
    """Reads a web identity's token, whenever the library asks for it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self) -> str:
        local_settings.check_file(
            "web_identity_token_file", self._path, local_settings.MAX_TOKEN_BYTES
        )
        with Path(self._path).open() as opened:
            return opened.read(local_settings.MAX_TOKEN_BYTES)


class _SsoTokenCache:
    """The library's folder of tokens of a single sign-on, whose files have a bound."""

    def __init__(self, cache: JSONFileCache) -> None:
        self._cache = cache

    def __contains__(self, key: str) -> bool:
        return key in self._cache

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401
        path = self._cache._convert_cache_key(key)  # noqa: SLF001
        local_settings.check_file("the single sign-on", path, local_settings.MAX_TOKEN_BYTES)
        return self._cache[key]

    def __setitem__(self, key: str, value: Any) -> None:  # noqa: ANN401
        self._cache[key] = value
