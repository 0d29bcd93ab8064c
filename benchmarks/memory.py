"""What this process holds, as Linux tells it."""

from pathlib import Path
from typing import Literal


def resident(when: Literal["now", "at most"]) -> int:
    """Bytes in memory.

    Not getrusage's, whose peak begins with what the process that started this one held.
    """
    name = {"now": "VmRSS:", "at most": "VmHWM:"}[when]
    status = Path("/proc/self/status").read_text()
    return int(status.split(name)[1].split()[0]) * 1024
