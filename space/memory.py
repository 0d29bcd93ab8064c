"""A bounded memory of what took long to find: the longest unused goes first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


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
