"""JSON over HTTP to one host: retries, time limits, a bound on bytes, secrets kept out of messages.

Only what the settings name is sent: no key of another host, no header from the environment. Redirects are
not followed, so images and keys reach no host that was not named.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import zlib
from base64 import b64encode
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from earl.config.endpoint import EndpointSettings
from earl.errors import ConfigError, EndpointError, InvalidAnswerError, MissingExtraError
from earl.files import parse_json
from earl.progress import one_line

if TYPE_CHECKING:
    import httpx2

QUESTION_HEADER = "X-Client-Request-Id"  # a server may use it to pair the questions about one edit
RETRIED = (408, 409, 429)  # and 500 to 599
REFUSED = (400, 413, 415, 422)  # this question will not be answered; the next may be
LEAST_SECRET = 8  # characters of a key, or of a piece of one, below which it is not looked for in replies
SHOWN = 300  # characters of a reason


class JsonClient:
    """Requests to one base URL, from any event loop; each loop has connections and a limit of its own.

    Raises (on making one):
        ConfigError: the URL cannot be read, or the key's environment variable is empty.
        MissingExtraError: the httpx2 package is not installed.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        try:
            import httpx2
        except ImportError as error:
            raise MissingExtraError(
                "a model behind an endpoint needs the httpx2 package: pip install 'earl-edit[judge]'"
            ) from error
        self._httpx, self.settings = httpx2, settings
        try:
            self._base = httpx2.URL(settings.url)
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise ConfigError(f"url = {settings.url!r} is not a URL: {error}") from error
        self._key = _key(settings.key_env)
        basic = f"{self._base.username}:{self._base.password}" if self._base.password else ""
        coded = b64encode(basic.encode()).decode()
        secrets = [self._key, self._base.password, coded, *self._base.params.values()]
        secrets += [quote(secret, safe="") for secret in secrets]
        self._pieces = {s[i : i + LEAST_SECRET] for s in secrets for i in range(len(s) + 1 - LEAST_SECRET)}
        self._loops: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[httpx2.AsyncClient, asyncio.Semaphore]
        ] = WeakKeyDictionary()

    @property
    def shown_url(self) -> str:
        """The base URL without user, password and query, for messages."""
        return f"{self._base.scheme}://{self._base.netloc.decode()}{self._base.path}"

    def redact(self, text: str) -> str:
        """The text with the key, and the URL's password and query, blacked out, also where they are cut."""
        if not self._pieces:
            return text
        shown, end = [], 0
        for at in range(len(text) + 1 - LEAST_SECRET):
            if text[at : at + LEAST_SECRET] in self._pieces:
                shown += [text[end:at], "[key]"] if at > end or not at else []
                end = at + LEAST_SECRET
        return "".join(shown) + text[end:]

    @property
    def limit(self) -> asyncio.Semaphore:
        """Free places for questions in flight, of the running event loop."""
        return self._here()[1]

    def _here(self) -> tuple[httpx2.AsyncClient, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=None)
            client = self._httpx.AsyncClient(timeout=None, follow_redirects=False, limits=limits)
            self._loops[loop] = client, asyncio.Semaphore(self.settings.concurrency)
        return self._loops[loop]

    def deadline(self) -> float:
        """When a question that begins now must be answered, in the running event loop's time."""
        return asyncio.get_running_loop().time() + self.settings.deadline

    async def request(
        self, path: str, body: Any = None, *, name: str = "", largest: int, until: float
    ) -> Any:
        """The JSON of a reply: GET without a body, else POST.

        Args:
            path: below the base URL, as "models".
            name: of the question, sent as a header (printable ASCII).
            largest: bytes of the reply, unpacked, at most.
            until: of `deadline`.

        Raises:
            EndpointError: not reached, refused, or no answer before the deadline and after all retries.
            InvalidAnswerError: the reply is no JSON or too large, or this request is refused.
        """
        headers = {"Accept-Encoding": "gzip", "User-Agent": "earl"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if name:
            headers[QUESTION_HEADER] = name
        trouble: list[str] = []
        work = self._with_retries(path, body, headers, largest, trouble)
        try:
            text = await asyncio.wait_for(work, until - asyncio.get_running_loop().time())
        except (TimeoutError, asyncio.TimeoutError) as error:
            last = f" ({trouble[-1]})" if trouble else ""
            raise EndpointError(
                f"no answer within the deadline of {self.settings.deadline:g} s{last}"
            ) from error
        return await asyncio.to_thread(parse_json, text, "what came back", error=InvalidAnswerError)

    async def _with_retries(
        self, path: str, body: Any, headers: dict[str, str], largest: int, trouble: list[str]
    ) -> bytes:
        for turn in range(self.settings.retries + 1):
            pause = random.uniform(0.75, 1.0) * min(8.0, 0.5 * 2**turn)
            try:
                status, told, text = await asyncio.wait_for(
                    self._once(path, body, headers, largest), self.settings.timeout
                )
            except (TimeoutError, asyncio.TimeoutError):
                trouble.append(f"no answer within {self.settings.timeout:g} s")
            except (self._httpx.RequestError, OSError) as error:
                said = dict.fromkeys(filter(None, (str(error), str(error.__cause__ or ""))))
                trouble.append(self.redact(" ".join(said) or type(error).__name__)[:SHOWN])
            else:
                if 200 <= status < 300:
                    return text
                trouble.append(f"HTTP {status}: {self._reason(status, told, text)}")
                if status in REFUSED:
                    raise InvalidAnswerError(trouble[-1], refused=True)
                again = status in RETRIED or status >= 500
                if not again or told.get("x-should-retry") == "false":
                    raise EndpointError(trouble[-1])
                pause = _asked_pause(told) or pause
            if turn < self.settings.retries:
                await asyncio.sleep(pause)
        raise EndpointError(trouble[-1])

    async def _once(
        self, path: str, body: Any, headers: dict[str, str], largest: int
    ) -> tuple[int, httpx2.Headers, bytes]:
        url = self._base.copy_with(path=f"{self._base.path.rstrip('/')}/{path}")
        method = "GET" if body is None else "POST"
        async with self._here()[0].stream(method, url, json=body, headers=headers) as reply:
            return reply.status_code, reply.headers, await _read(reply, largest)

    def _reason(self, status: int, headers: httpx2.Headers, body: bytes) -> str:
        """The reason given in an error's body, in one short line."""
        if 300 <= status < 400:
            return self.redact(f"it redirects to {headers.get('location', '?')}; give that address instead")
        said: Any = body.decode("utf-8", "replace")
        try:
            said = json.loads(said)
        except (ValueError, RecursionError):
            said = re.sub(r"<[^<>]{0,200}>", " ", said[:10_000])  # a page of a proxy
        for field in ("error", "message", "detail"):
            if isinstance(said, dict) and said.get(field):
                said = said[field]
        words = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        line = self.redact(one_line(words))[:SHOWN] or "no reason given"
        name = self.settings.max_tokens_name
        hint = f" (max_tokens_name is {name!r} and can be set)" if name in line else ""
        return line + hint


def _key(variable: str | None) -> str:
    """The key in an environment variable, "" where none is named. Raises ConfigError."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        named = variable if re.fullmatch(r"[A-Z][A-Z0-9_]{0,40}", variable) else "named by key_env"
        raise ConfigError(f"the environment variable {named} holds no key; key_env takes a variable's name")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the key in the environment variable {variable} has characters no key can have")
    return key


def _asked_pause(headers: httpx2.Headers) -> float | None:
    """Seconds that a server asks to wait."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time())
    except (KeyError, ValueError, TypeError):
        return None


async def _read(reply: httpx2.Response, largest: int) -> bytes:
    """A reply's bytes, unpacked, never more than `largest` of them in memory."""
    encoding = reply.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise InvalidAnswerError(f"what came back is packed as {encoding[:20]!r}, which was not asked for")
    unpack = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    body = bytearray()
    async for chunk in reply.aiter_raw():
        try:
            body += unpack.decompress(chunk, largest + 1 - len(body)) if unpack else chunk
        except zlib.error as error:
            raise InvalidAnswerError(f"what came back cannot be unpacked: {error}") from error
        if len(body) > largest:
            raise InvalidAnswerError(f"what came back is larger than {largest / 2**20:.3g} MiB")
    return bytes(body)
