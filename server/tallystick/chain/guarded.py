"""A command whose program dies with us, however we die.

On Linux the kernel kills it when the thread that started it ends
(``PR_SET_PDEATHSIG``), so start it from a thread that lives as long as the program is
wanted. Elsewhere nothing does: after a kill -9 of the parent it stays.
"""

import os
import sys
from collections.abc import Sequence

# Between fork and exec no Python may run safely in a program with threads, so another
# small Python sets the death signal and then becomes the program. The parent may have
# died before the signal was set; then its id is not our parent's any more.
_GUARD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def guarded(command: Sequence[str]) -> list[str]:
    """The command to start instead; ``command[0]`` is the program's full path."""
    return [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *command]
