"""Texts as they are being written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterator, List, TypeVar

from .answer import Answer, Piece

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ._quipu import Texts

T = TypeVar("T")


class Stream(Iterator[Piece]):
    """Pieces of texts that are being written. Whoever stops reading ends the texts: `close()`, `with`, or just leaving.

    >>> import quipu
    >>> stream = quipu.Model("demo").stream("Once upon a time", max_tokens=8, seed=1)
    >>> "".join(map(str, stream)) == str(stream.answer)
    True
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        return Piece(*next(self._texts))

    @property
    def answers(self) -> List[Answer]:
        """All texts, once they have ended: reads what has not been read."""
        self._texts.wait()
        return [Answer._of(answer) for answer in self._texts.answers()]

    @property
    def answer(self) -> Answer:
        """The only text, once it has ended."""
        (answer,) = self.answers
        return answer

    def close(self) -> None:
        """Ends the texts early; what is written by then is their answer, with `stop` "cancelled"."""
        self._texts.cancel()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class AsyncStream(AsyncIterator[Piece]):
    """The same for `async for`: nothing blocks the event loop."""

    def __init__(self, texts: Texts, executor: Executor) -> None:
        self._stream = Stream(texts)
        self._executor = executor

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Piece:
        piece = await self._apart(lambda: next(self._stream, None))
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def answers(self) -> List[Answer]:
        """All texts, once they have ended."""
        return await self._apart(lambda: self._stream.answers)

    async def answer(self) -> Answer:
        """The only text, once it has ended."""
        (answer,) = await self.answers()
        return answer

    async def _apart(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Ends the texts early."""
        self._stream.close()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.close()
