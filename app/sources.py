"""Where a submission's image comes from: an uploaded file, a data URI, a URL, or an earlier job."""

import binascii
import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from typing import BinaryIO, Protocol

from app import images
from app.errors import RequestError
from app.exchanges import FetchFailed
from app.guarded import BodyTooLarge, GuardedClient
from app.images import Picture
from app.lookups import Lookups, NoRoom
from app.settings import FrontEndSettings
from app.uploads import check_size, image_too_large
from app.urls import UrlNotAllowed, check_url
from scheduler.blobs import BlobStore

_DATA_URI = re.compile(r"data:[^,;]*(?:;[^,;]*)*;base64,", re.IGNORECASE)
_URL = re.compile(r"https?://", re.IGNORECASE)
_CHUNK_BYTES = 256 * 1024
_LOOKUPS = Lookups()


class Storable(Protocol):
    """An image as it is to be stored."""

    @property
    def suffix(self) -> str:
        """What the name of its file ends in."""
        ...

    def write(self, file: BinaryIO) -> None:
        """Write it to `file`."""
        ...


class Source(Protocol):
    """An image that has not been looked at yet."""

    @property
    def digest(self) -> str:
        """What tells it from another one, without fetching or decoding it."""
        ...

    def picture(self) -> AbstractContextManager[Storable]:
        """Fetch and decode it, and keep it for the block in which it is stored: slow, so in a thread.

        Raises `RequestError`.
        """
        ...


class FileSource:
    """An uploaded file, which must stay open."""

    def __init__(self, file: BinaryIO, settings: FrontEndSettings) -> None:
        self._file = file
        self._max_pixels = settings.max_image_pixels

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of its bytes."""
        sha256 = hashlib.sha256()
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            sha256.update(chunk)
        return sha256.hexdigest()

    def picture(self) -> AbstractContextManager[Picture]:
        """Decode it."""
        return images.decoded(self._file, max_pixels=self._max_pixels)


@dataclass(frozen=True, slots=True)
class UrlSource:
    """What a URL that `tenant` has named leads to. The URL tells it from another one, whatever it leads to today."""

    url: str
    settings: FrontEndSettings
    tenant: str

    @property
    def digest(self) -> str:
        """The URL itself."""
        return self.url

    @contextmanager
    def picture(self) -> Iterator[Picture]:
        """Fetch and decode it."""
        settings = self.settings
        resolve = partial(_LOOKUPS.look_up, tenant=self.tenant)
        client = GuardedClient(settings.networks, allow_http=settings.allow_http_urls, resolve=resolve)
        with tempfile.SpooledTemporaryFile(max_size=images.IN_MEMORY_BYTES) as spooled:
            file: BinaryIO = spooled  # type: ignore[assignment]  # it has all of its methods
            try:
                client.get(
                    self.url,
                    timeout_seconds=settings.url_fetch_seconds,
                    max_bytes=settings.max_image_bytes,
                    into=file,
                )
            except UrlNotAllowed as error:
                raise url_not_allowed("image", error) from None
            except BodyTooLarge:
                raise image_too_large(settings.max_image_bytes) from None
            except FetchFailed as error:
                raise RequestError(
                    422,
                    "url_fetch_failed",
                    f"image could not be fetched from its URL: {error}",
                    field="image",
                    limit=error.limit,
                ) from None
            except NoRoom as error:
                raise RequestError(
                    503, "too_many_uploads", f"image could not be fetched: {error}", headers={"Retry-After": "1"}
                ) from None
            check_size(file.tell(), settings)
            with FileSource(file, settings).picture() as picture:
                yield picture


@dataclass(frozen=True, slots=True)
class StoredSource:
    """The image of an earlier job, as it was stored."""

    blobs: BlobStore
    key: str

    @property
    def digest(self) -> str:
        """Its key, under which nothing else is ever stored."""
        return self.key

    @contextmanager
    def picture(self) -> Iterator["StoredSource"]:
        """Itself: it was decoded once. Raises `NotFound` where it has gone."""
        self.blobs.size(self.key)
        yield self

    @property
    def suffix(self) -> str:
        """What the name of its file ends in."""
        return self.key.rpartition(".")[2]

    def write(self, file: BinaryIO) -> None:
        """Write it to `file` as it is."""
        for chunk in self.blobs.read(self.key, 0, self.blobs.size(self.key)):
            file.write(chunk)


def source_of_text(text: str, settings: FrontEndSettings, tenant: str) -> Source:
    """Return the source that a data URI or a URL of a tenant names; raises `RequestError`. Nothing is fetched yet."""
    if _URL.match(text):
        try:
            check_url(text, allow_http=settings.allow_http_urls, networks=settings.networks)
        except UrlNotAllowed as error:
            raise url_not_allowed("image", error) from None
        return UrlSource(text, settings, tenant)
    head = _DATA_URI.match(text[:200])
    if head is None:
        raise RequestError(
            422,
            "unsupported_image_source",
            "image must be a data URI (data:image/png;base64,…) or an https URL",
            field="image",
        )
    try:
        data = binascii.a2b_base64(text[head.end() :], strict_mode=True)
    except ValueError:
        raise RequestError(422, "corrupt_image", "image must be valid base64", field="image") from None
    check_size(len(data), settings)
    return FileSource(BytesIO(data), settings)


def url_not_allowed(field: str, error: UrlNotAllowed) -> RequestError:
    """Return the refusal of a URL that the caller named in `field`."""
    return RequestError(422, "url_not_allowed", f"{field} {error}", field=field)
