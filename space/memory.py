"""A bounded memory of what took long to find: the longest unused goes first."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import WeakSet

Value = TypeVar("Value")
_MEMORIES: "WeakSet[Memory[Any]]" = WeakSet()


class Memory(Generic[Value]):
    """Values by key, of a limited size altogether; safe to use from several threads.

    Args:
        limit: Of the sum of all sizes.
        size: How large a value is; 1 if left out.
    """

    def __init__(self, limit: int, size: Callable[[Value], int] = lambda _: 1) -> None:
        self._limit = limit
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = Lock()
        _MEMORIES.add(self)

    def get(self, key: Hashable, find: Callable[[], Value]) -> Value:
        """The value of a key, found now if it is not remembered. What `find` raises is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = find()  # outside the lock: others may be served meanwhile
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while (
                len(self._values) > 1 and sum(map(self._size, self._values.values())) > self._limit
            ):
                self._values.popitem(last=False)
        return value


def _unlock() -> None:
    """A forked process has one thread: whoever held a lock in its parent is not there to let it go."""
    for memory in _MEMORIES:
        memory._lock = Lock()


if hasattr(os, "register_at_fork"):  # ZeroGPU's workers are forks; not so on Windows
    os.register_at_fork(after_in_child=_unlock)
